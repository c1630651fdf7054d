"""Named tensors in a safetensors file that others may read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file


def write_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor | np.ndarray], metadata: Mapping[str, str] | None = None
) -> None:
    """Write `path`, readable and writable by whom its folder is: safetensors by itself leaves a file that
    only its owner can read, on a cluster's shared disk or in an export alike."""
    plain = {name: torch.as_tensor(tensor).detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(plain, path, metadata=dict(metadata) if metadata else None)
    path.chmod(path.parent.stat().st_mode & 0o666)
