"""What a fine-tuning trial keeps on disk: one file a state, and a folder of such files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from cohort.remote_files import MirroredFolder, inside
from vlm.tensor_files import CorruptFile, read_tensors, write_tensors

FORMAT = 1


class CorruptCheckpoint(Exception):
    """A checkpoint that is damaged or half there; an earlier one may be whole."""


def write(path: Path, tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Write tensors and a description of plain JSON values: `path` holds all of it or what it held before."""
    described = json.dumps({"format": FORMAT} | description, sort_keys=True)
    write_tensors(path, tensors, {"described": described}, checksum=True)


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `write` was given; CorruptCheckpoint, in one line, for anything but a whole file of it."""
    try:
        tensors, metadata = read_tensors(path, checksum=True)
        description = json.loads(metadata["described"])
    except (CorruptFile, KeyError, ValueError) as error:
        raise CorruptCheckpoint(f"{path}: not a whole checkpoint ({error})") from None
    if description.pop("format", None) != FORMAT:
        raise CorruptCheckpoint(f"{path}: written by another version of radtune")
    return tensors, description


KEPT_RESUME_POINTS = 2
"""The newest of a running trial, and the one before it in case the newest is damaged."""


@dataclass(frozen=True)
class CheckpointFolder:
    """What one fine-tuning trial keeps, found again by its number alone.

    Where the study's checkpoints are at a URI, it is worked on in a mirror on this machine: `pull` before it
    is read, `push` what was written there.
    """

    checkpoints: str | Path
    """Of the whole study; a folder or a URI."""
    number: int

    @property
    def _folder(self) -> MirroredFolder:
        return MirroredFolder(inside(str(self.checkpoints), f"trial-{self.number:04d}"))

    @property
    def path(self) -> Path:
        return self._folder.path

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
            self._folder.drop(old)

    def drop(self) -> None:
        """Delete all that the trial keeps."""
        self._folder.drop()

    def pull(self) -> None:
        """Make this machine's mirror what lies at the URI; InputError where the store refuses."""
        self._folder.pull()

    def push(self, path: Path) -> None:
        """Copy a file of the mirror to the URI; InputError where the store refuses."""
        self._folder.push(path)
