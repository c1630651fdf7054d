"""In which floating-point format a device computes: the one rule, for embedding and for fine-tuning."""

from __future__ import annotations

import torch

from cohort.errors import InputError

PRECISIONS = ("auto", "fp32", "bf16")
"""What the products of a frozen tower may be computed in."""
TRAINING_PRECISIONS = (*PRECISIONS, "fp16")
"""What those of a tower in training may: gradients in fp16 need a scaler."""


def resolve_precision(precision: str, device: torch.device, *, training: bool = False) -> str:
    """The precision itself, or what `auto` means on a device: bf16 where it multiplies in it natively,
    otherwise fp32, or on a GPU in training fp16.

    Args:
        precision: one of `PRECISIONS`, in training of `TRAINING_PRECISIONS`.
        device: where the products are computed.
        training: gradients are taken, with a scaler for fp16.

    Raises:
        InputError: an unknown precision.
    """
    known = TRAINING_PRECISIONS if training else PRECISIONS
    if precision not in known:
        raise InputError(f"precision must be one of {', '.join(known)}, got {precision!r}")
    if precision != "auto":
        return precision
    if multiplies_in_bf16(device):
        return "bf16"
    return "fp16" if training and device.type == "cuda" else "fp32"


def multiplies_in_bf16(device: torch.device) -> bool:
    """Whether products in bf16 run on the device's own instructions, and not by way of float32."""
    if device.type == "cuda":
        # `torch.cuda.is_bf16_supported` knows the current device only, not the one that is meant.
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # Without either instruction set, oneDNN converts to float32 and back: slower than float32.
    return device.type == "cpu" and (
        torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    )
