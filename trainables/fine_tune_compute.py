"""Where and how a fine-tuning trial computes, and how it fails."""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass

import torch

from cohort.errors import InputError


class TrialFailed(RuntimeError):
    """This configuration cannot be trained on; others can. One line, for the trial's record."""


class Diverged(TrialFailed):
    """A loss that is no number."""


class OutOfMemory(TrialFailed):
    """Not even one image at a time fits the device."""


@dataclass(frozen=True, kw_only=True)
class Compute:
    """Where and how a trial computes; none of it is a hyperparameter."""

    device: str | torch.device = "cpu"
    """"cpu", "cuda", ...; how many threads torch may use is the caller's business."""
    precision: str = "auto"
    """Of the tower's products: fp32, bf16, fp16 (with a gradient scaler), or auto: bf16 where the device
    computes in it, otherwise fp16 on a GPU and fp32 elsewhere."""
    micro_batch: int | None = None
    """How many images to try first at once; None: the whole batch."""
    compile_tower: bool = False
    """Hand the tower to `torch.compile`; worth its minute only for long trainings."""

    def __post_init__(self) -> None:
        if self.micro_batch is not None and self.micro_batch < 1:
            raise ValueError(f"micro_batch must be at least 1 or None, not {self.micro_batch}")


def existing_device(device: str | torch.device) -> torch.device:
    """The device, a GPU with its number; InputError where this machine does not have it."""
    device = torch.device(device)
    if device.type != "cuda":
        return device
    count = torch.cuda.device_count()
    if count == 0 or (device.index or 0) >= count:
        raise InputError(f"device {device} is not there: this machine shows {count} GPUs; use cpu")
    return torch.device("cuda", device.index if device.index is not None else torch.cuda.current_device())


def peak_memory(device: torch.device) -> int:
    """Bytes; on the CPU of the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
