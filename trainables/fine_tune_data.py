"""What a fine-tuning trial may see, and how its images come to the device.

Shape legend: N images of a split, B images of a batch, H height, W width, C labels.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cohort.errors import InputError
from scoring.judging import JudgedRows


@dataclass(frozen=True, kw_only=True, eq=False)
class FineTuneData:
    """What a trial may see: training and validation, never test. ValueError where the parts do not fit.

    It holds the name of the image store, not its pixels, so it is cheap to send to another process: all
    trials of a node map one file and share one copy in memory.
    """

    images_file: Path
    """The decoded-image store, .npy: uint8 (images, H, W, 1 or 3), H = W = the encoder's size."""
    train_rows_N: np.ndarray
    """int64 rows of the store."""
    val_rows_N: np.ndarray
    """int64 rows of the store, none of them in `train_rows_N`."""
    train_targets_NC: np.ndarray
    """float32: 0, 1 or NaN (masked)."""
    val_targets_NC: np.ndarray
    """float32: 0, 1 or NaN (masked)."""
    val_patients_N: np.ndarray
    """int64, the patient of each validation image."""
    val_folds_N: np.ndarray
    """int64, from `cohort.patients.patient_folds`; fixed for a study."""
    labels: tuple[str, ...]
    objective_labels_C: np.ndarray
    """bool: labels with enough positive patients on validation to count in an average."""

    def __post_init__(self) -> None:
        images = self.images_NHWC
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
            raise ValueError(
                f"{self.images_file} must hold uint8 (images, H, W, 1 or 3), not {_shape(images)}"
            )
        for side in ("train", "val"):
            rows_N, targets_NC = getattr(self, f"{side}_rows_N"), getattr(self, f"{side}_targets_NC")
            name = f"{side}_rows_N"
            if rows_N.ndim != 1 or len(rows_N) == 0 or rows_N.dtype != np.int64:
                raise ValueError(f"{name} must be int64 (images,) with one at least, not {_shape(rows_N)}")
            if rows_N.min() < 0 or rows_N.max() >= len(images):
                raise ValueError(
                    f"{name} must lie in 0..{len(images) - 1}, not {rows_N.min()}..{rows_N.max()}"
                )
            name, expected = f"{side}_targets_NC", (len(rows_N), len(self.labels))
            if targets_NC.shape != expected or targets_NC.dtype != np.float32:
                raise ValueError(f"{name} must be float32 {expected}, not {_shape(targets_NC)}")
            strange = targets_NC[~((targets_NC == 0) | (targets_NC == 1) | np.isnan(targets_NC))]
            if strange.size:
                raise ValueError(f"{name} must be 0, 1 or NaN, not {strange[0]:g}")
        if len(both := np.intersect1d(self.train_rows_N, self.val_rows_N)):
            raise ValueError(f"train_rows_N and val_rows_N must share no row, not {both[0]}")
        for name in ("val_patients_N", "val_folds_N"):
            if getattr(self, name).shape != self.val_rows_N.shape:
                raise ValueError(
                    f"{name} must have shape {self.val_rows_N.shape}, not {getattr(self, name).shape}"
                )
        if self.objective_labels_C.shape != (len(self.labels),) or self.objective_labels_C.dtype != bool:
            shape = _shape(self.objective_labels_C)
            raise ValueError(f"objective_labels_C must be bool ({len(self.labels)},), not {shape}")
        positive_C, negative_C = (self.val_targets_NC == 1).any(0), (self.val_targets_NC == 0).any(0)
        if len(one_sided := np.flatnonzero(self.objective_labels_C & ~(positive_C & negative_C))):
            raise ValueError(
                "objective_labels_C must have positives and negatives on validation, not "
                f"{', '.join(self.labels[c] for c in one_sided)}"
            )
        if not self.scored_C.any():
            raise InputError(
                "no label has enough positive patients on validation and a positive on training, so there is "
                "nothing to optimise: pool labels, or give validation more patients"
            )

    @cached_property
    def images_NHWC(self) -> np.ndarray:
        """The store, memory-mapped and read-only."""
        return np.load(self.images_file, mmap_mode="r")

    @property
    def scored_C(self) -> np.ndarray:
        """bool: the labels over which every macro average of a trial is taken."""
        return self.objective_labels_C & (self.train_targets_NC == 1).any(0)

    @property
    def judged(self) -> JudgedRows:
        """Validation, as every trial is judged on it."""
        return JudgedRows(
            targets_NC=self.val_targets_NC,
            patients_N=self.val_patients_N,
            folds_N=self.val_folds_N,
            averaged_C=self.scored_C,
        )

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "images_NHWC"}


def _shape(array: np.ndarray) -> str:
    return f"{array.dtype} {array.shape}"


class Batches:
    """Batches of images on a device; a thread gathers each from the store while the one before is used."""

    def __init__(self, images_NHWC: np.ndarray, rows: Sequence[np.ndarray], device: torch.device) -> None:
        """`rows`: the rows of each batch, in order; within the store, which is not looked at again."""
        self._images_NHWC, self._rows, self._device = images_NHWC, rows, device
        self.waited = 0.0
        """Seconds for which a batch was asked for and not yet there."""

    def __iter__(self) -> Iterator[Tensor]:
        """uint8 (B, H, W, C) on the device."""
        with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
            ahead = [thread.submit(self._gather, rows_B) for rows_B in self._rows[:1]]
            for i in range(len(self._rows)):
                started = time.perf_counter()
                images_BHWC = ahead.pop().result()
                self.waited += time.perf_counter() - started
                if i + 1 < len(self._rows):
                    ahead.append(thread.submit(self._gather, self._rows[i + 1]))
                yield images_BHWC.to(self._device, non_blocking=True)

    def _gather(self, rows_B: np.ndarray) -> Tensor:
        # Torch keeps pinned memory for the next batch, and not before the copy out of it is done.
        shape = (len(rows_B), *self._images_NHWC.shape[1:])
        images_BHWC = torch.empty(shape, dtype=torch.uint8, pin_memory=self._device.type == "cuda")
        # In any other mode numpy fills a buffer of its own first.
        np.take(self._images_NHWC, rows_B, axis=0, out=images_BHWC.numpy(), mode="clip")
        return images_BHWC
