"""The file a state rests in, whole or not at all, and a fine-tuning trial's folder of such files.

A safetensors file, so that nothing in it is run when it is read. Its checksum recognises damage (a torn
write, a bad disk), not intent.
"""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from torch import Tensor

from cohort.files import replacing_file
from vlm.tensor_files import write_tensors

FORMAT = 1


class CorruptCheckpoint(Exception):
    """A checkpoint that is damaged or half there; an earlier one may be whole."""


def write(path: Path, tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Write beside `path`, flush to the disk, then rename: `path` holds all of it or what it held before."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    described = json.dumps({"format": FORMAT} | description, sort_keys=True)
    metadata = {"described": described, "checksum": _checksum(tensors, described)}
    with replacing_file(path) as temporary:
        write_tensors(temporary, tensors, metadata)


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `write` was given; CorruptCheckpoint, in one line, for anything but a whole file of it."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        if _checksum(tensors, metadata["described"]) != metadata["checksum"]:
            raise CorruptCheckpoint(f"{path}: its content does not match its checksum")
        description = json.loads(metadata["described"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise CorruptCheckpoint(f"{path}: not a whole checkpoint ({' '.join(str(error).split())})") from None
    if description.pop("format", None) != FORMAT:
        raise CorruptCheckpoint(f"{path}: written by another version of radtune")
    return tensors, description


def _checksum(tensors: Mapping[str, Tensor], described: str) -> str:
    """CRC-32 over names, contents and description."""
    crc = zlib.crc32(described.encode())
    for name in sorted(tensors):
        crc = zlib.crc32(name.encode(), crc)
        crc = zlib.crc32(tensors[name].numpy().reshape(-1).view(np.uint8), crc)
    return f"{crc:08x}"


KEPT_RESUME_POINTS = 2
"""The newest of a running trial, and the one before it in case the newest is damaged."""


@dataclass(frozen=True)
class CheckpointFolder:
    """What one fine-tuning trial keeps on disk, found again by its number alone."""

    checkpoints: Path
    number: int

    @property
    def path(self) -> Path:
        return self.checkpoints / f"trial-{self.number:04d}"

    @property
    def best(self) -> Path:
        """The weights of the best epoch."""
        return self.path / "best"

    def resume_points(self) -> list[Path]:
        """Where the trial can go on from, newest first."""
        return sorted(self.path.glob("epoch-*"), reverse=True)

    def resume_point(self, epoch: int) -> Path:
        return self.path / f"epoch-{epoch:05d}"

    def drop_resume_points(self, keep: int = 0) -> None:
        for old in self.resume_points()[keep:]:
            shutil.rmtree(old, ignore_errors=True)
