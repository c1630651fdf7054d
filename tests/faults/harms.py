"""What a crash or a disk does to a file."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path


def cut(path: Path) -> None:
    """Half of it was written."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def emptied(path: Path) -> None:
    """Its length was on the disk, or nothing was, when the power failed."""
    path.write_bytes(b"")


def flipped(path: Path) -> None:
    """One bit is another, in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def deleted(path: Path) -> None:
    """A file or a folder is gone."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def holding(content: bytes) -> Callable[[Path], None]:
    """It holds something else."""

    def write(path: Path) -> None:
        path.write_bytes(content)

    write.__name__ = "other_content"
    return write


def torn(path: Path) -> None:
    """A line was being added."""
    with open(path, "ab") as file:
        file.write(b'{"op_code":5,"wor')


def cut_at_a_line(path: Path) -> None:
    """The last half of its lines is gone."""
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: len(lines) // 2]))


def one_line(content: bytes) -> Callable[[Path], None]:
    """A line in the middle is another."""

    def write(path: Path) -> None:
        lines = path.read_bytes().splitlines(keepends=True)
        lines[len(lines) // 2] = content + b"\n"
        path.write_bytes(b"".join(lines))

    write.__name__ = "one_line"
    return write
