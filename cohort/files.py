"""Files and folders that appear whole or not at all, the only code that replaces what is on the disk; and
files of strangers, read up to a bound."""

from __future__ import annotations

import errno
import glob
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from cohort.errors import InputError

STALE_S = 24 * 3600
"""Seconds since the last change after which a half-written file or folder is one that a killed process left;
no single one takes so long to write."""


def open_regular(path: Path | str) -> BinaryIO:
    """A regular file, to be read; a link to one is followed.

    OSError for anything else: a pipe may never answer, and a device such as /dev/zero never end.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return open(descriptor, "rb")


def read_bounded(path: Path | str, most: int, remedy: str) -> bytes:
    """All bytes of a regular file.

    Args:
        most: how many it may have.
        remedy: what to do about one with more, for the message.

    Raises:
        InputError: it has more; nothing has been read then.
        OSError: it cannot be read, or is no regular file.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(most + 1) if size <= most else b""
    if max(size, len(data)) > most:
        raise InputError(f"{path}: has more than {most:,} bytes; {remedy}")
    return data


@contextmanager
def replacing_file(path: Path | str) -> Iterator[Path]:
    """A new file to write in the block; it takes the place of `path` when the block ends without an error.

    `path` holds all of it or what it held before, even after a crash: the file is flushed to the disk, then
    renamed, then the folder's entry is flushed. It gets the permissions that a file of its folder would have.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path, "tmp")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        _name_place(error, path)
        raise
    finally:
        temporary.unlink(missing_ok=True)
    _flush_entry(path.parent)


def check_output_file(path: Path | str) -> None:
    """InputError where `replacing_file` could not write `path`: found out before the work, not after it."""
    path = Path(path)
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: the output must be a file, and this is none; choose another name")
    if not path.parent.is_dir():
        raise InputError(f"{path}: no folder {path.parent}; make it first, or choose another name")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise InputError(f"{path}: the folder {path.parent} may not be written to; choose another name")


def check_place_of_folder(folder: Path | str) -> None:
    """InputError where a folder could not be made, because it or a folder above it is a file."""
    folder = Path(folder).absolute()
    for place in (folder, *folder.parents):
        if place.is_dir():
            return
        if place.exists():
            raise InputError(f"{folder}: {place} is a file, and no folder can be made there; choose another")


def write_atomically(path: Path | str, data: bytes) -> None:
    """Write `data` so that `path` either holds all of it or what it held before, even after a crash."""
    with replacing_file(path) as temporary:
        temporary.write_bytes(data)


@contextmanager
def replacing_folder(folder: Path | str, check: Callable[[Path], None]) -> Iterator[Path]:
    """A staging folder to fill in the block; it takes the place of `folder` when the block ends without an
    error.

    What stood there before comes back where the exchange of the two is interrupted: at once after an error or
    Ctrl-C, at the next call after the process was killed.

    Args:
        folder: the folder to be replaced; need not exist.
        check: told `folder` before the block and before the exchange, raises where it must not be replaced.
    """
    folder = Path(folder).absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging, previous = _temporary(folder, "new"), folder.parent / f".{folder.name}.old"
    _take_back(folder, previous)
    check(folder)
    staging.mkdir()
    try:
        yield staging
        check(folder)
        if folder.exists():
            os.replace(folder, previous)
        os.replace(staging, folder)
        _flush_entry(folder.parent)
    except OSError as error:
        _name_place(error, folder)
        raise
    finally:
        _take_back(folder, previous)
        shutil.rmtree(staging, ignore_errors=True)


def refuse_foreign(folder: Path, own: Collection[str], what: str) -> None:
    """InputError where `folder` is a file, or holds an entry that is not among `own` and that therefore no
    `what` put there; a folder that does not exist holds none."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"{folder}: the output must be a folder, and this is a file; choose another name")
    foreign = sorted({entry.name for entry in folder.iterdir()} - set(own))
    if foreign:
        raise InputError(
            f"{folder}: holds {foreign[0]!r} ({len(foreign)} in all), which no {what} put there; "
            "choose an empty or new folder"
        )


def _temporary(path: Path, ending: str) -> Path:
    """A name beside `path` that nobody else takes: containers on one disk have the same process numbers.

    What killed processes left under such names is deleted once it is stale.
    """
    pattern = f".{glob.escape(path.name)}.{'[0-9a-f]' * 8}.{ending}"
    for left in path.parent.glob(pattern):
        with suppress(OSError):  # another process deletes it, too
            if time.time() - left.lstat().st_mtime <= STALE_S:
                continue
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
            else:
                left.unlink()
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.{ending}")


def _name_place(error: OSError, path: Path) -> None:
    """Say where it happened: a full disk is found by a write, which knows no name."""
    if error.filename is None:
        error.filename = str(path)


def _take_back(folder: Path, previous: Path) -> None:
    """Put `previous` back where nothing took its place, or delete it where something did."""
    if not previous.exists():
        return
    if folder.exists():
        shutil.rmtree(previous)
    else:
        os.replace(previous, folder)


def _flush_entry(folder: Path) -> None:
    with suppress(OSError):  # some network file systems flush no folder
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
