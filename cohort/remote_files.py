"""Files on S3 and its kin, through pyarrow's file systems, and their mirrors on this machine's disk.

A place is a path of this machine or a URI such as `s3://bucket/folder`. Credentials and endpoint come from
the environment, as the stores' own tools take them (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, ...).
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.parse import quote

import pyarrow as pa
from filelock import FileLock
from pyarrow import fs
from tqdm import tqdm

from cohort.errors import InputError
from cohort.files import replacing_file

TRANSFERS = 8
"""Files that travel at the same time."""
_BLOCK = 2**22
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://")


def is_remote(place: str | Path) -> bool:
    """Whether a place is a URI, and no path."""
    return bool(_SCHEME.match(str(place)))


def inside(place: str, name: str) -> str:
    """The place of the file or folder `name` within another."""
    return f"{place.rstrip('/')}/{quote(name) if is_remote(place) else name}"


def mirror(place: str | Path) -> Path:
    """The folder of this machine in which a place is mirrored: the place itself where it is a path."""
    if not is_remote(place):
        return Path(place)
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "radtune" / hashlib.sha256(str(place).rstrip("/").encode()).hexdigest()[:32]


@dataclass(frozen=True)
class MirroredFolder:
    """A folder at a place, and the one of this machine in which it is worked on: the same where the place is
    a path. At a URI, `pull` before reading and `push` what was written; each raises InputError where the
    store refuses."""

    place: str

    @property
    def path(self) -> Path:
        return mirror(self.place)

    def pull(self) -> None:
        """Make the mirror what lies at the URI."""
        if is_remote(self.place):
            fetch_folder(self.place)

    def push(self, path: Path) -> None:
        """Copy a file of the mirror to the URI."""
        if is_remote(self.place):
            publish(path, inside(self.place, path.relative_to(self.path).as_posix()))

    def drop(self, path: Path | None = None) -> None:
        """Delete a folder within it, or all of it, here and at the URI."""
        shutil.rmtree(path or self.path, ignore_errors=True)
        if is_remote(self.place):
            name = path.relative_to(self.path).as_posix() if path else ""
            remove_folder(inside(self.place, name))


def check_place(key: str, place: str) -> None:
    """InputError, naming the setting `key`, where nothing can be written to a place and read again."""
    name = f".radtune-{os.getpid()}-{os.urandom(4).hex()}"
    try:
        if is_remote(place):
            with _refusals(place):
                system, path = _located(inside(place, name))
                with system.open_output_stream(path) as file:
                    file.write(b"radtune")
                system.delete_file(path)
        else:
            Path(place).mkdir(parents=True, exist_ok=True)
            (Path(place) / name).touch()
            (Path(place) / name).unlink()
    except InputError as error:
        raise InputError(f"{key}: {error}") from None
    except OSError as error:
        raise InputError(f"{key}: nothing can be written to {place} ({error.strerror})") from None


def listed(place: str) -> dict[str, fs.FileInfo]:
    """Every file below a place, by its path relative to it; nothing where there is no such place.

    Raises:
        InputError: the store refuses, or a name leads out of the place.
    """
    with _refusals(place):
        system, path = _located(place)
        found = system.get_file_info(fs.FileSelector(path, recursive=True, allow_not_found=True))
    names = {}
    for one in found:
        if one.type != fs.FileType.File:
            continue
        name = PurePosixPath(one.path).relative_to(PurePosixPath(path))
        if ".." in name.parts:
            raise InputError(f"{place}: {one.path!r} leads out of it; only files inside it are read")
        names[str(name)] = one
    return names


def fetch(place: str, path: Path) -> bool:
    """Copy a remote file to `path`, whole or not at all; False where there is none.

    Raises:
        InputError: the store refuses.
    """
    with _refusals(place):
        system, source = _located(place)
        (found,) = system.get_file_info([source])
        if found.type != fs.FileType.File:
            return False
        with replacing_file(path) as temporary:
            with system.open_input_stream(source) as stream, open(temporary, "wb") as file:
                shutil.copyfileobj(stream, file, _BLOCK)
            if found.mtime_ns:
                os.utime(temporary, ns=(found.mtime_ns, found.mtime_ns))
        return True


def fetch_folder(place: str, what: str = "") -> Path:
    """Make the mirror of a remote folder what that holds now; returns the mirror. Whoever asks at the same
    time on this machine waits, and finds it done.

    Args:
        what: said on the bar that shows how far it is; no bar where empty.

    Raises:
        InputError: the store refuses.
    """
    folder = mirror(place)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        there = listed(place)
        here = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        for name in here.keys() - there.keys():
            here[name].unlink()
        wanted = [
            name for name, found in there.items() if name not in here or not _same(here[name].stat(), found)
        ]
        bar = tqdm(total=len(wanted), desc=what, unit="file", delay=2.0, disable=not what)
        with bar, ThreadPoolExecutor(TRANSFERS) as pool:
            for _ in pool.map(lambda name: fetch(inside(place, name), folder / name), wanted):
                bar.update()
    return folder


def publish(source: Path | bytes, place: str) -> None:
    """Copy a file of this machine, or bytes, to a place, which holds all of it or what it held before.

    Raises:
        InputError: the store refuses.
    """
    if not is_remote(place):
        with replacing_file(place) as temporary, _opened(source) as file, open(temporary, "wb") as target:
            shutil.copyfileobj(file, target, _BLOCK)
        return
    with _refusals(place):
        system, path = _located(place)
        with _opened(source) as file, system.open_output_stream(path) as stream:
            shutil.copyfileobj(file, stream, _BLOCK)


def remove_folder(place: str) -> None:
    """Delete a remote folder with all in it; one that is not there is deleted already.

    Raises:
        InputError: the store refuses.
    """
    with _refusals(place):
        system, path = _located(place)
        if system.get_file_info([path])[0].type != fs.FileType.NotFound:
            system.delete_dir(path)


def _opened(source: Path | bytes) -> BinaryIO:
    return io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb")


def _same(here: os.stat_result, there: fs.FileInfo) -> bool:
    return here.st_size == there.size and there.mtime_ns in (None, here.st_mtime_ns)


def _located(place: str) -> tuple[fs.FileSystem, str]:
    scheme, _, rest = place.partition("://")
    if scheme == "file":
        raise InputError(f"{place}: a path of this machine is given without file://")
    if "@" in rest.split("/")[0] or "?" in rest:
        raise InputError(
            f"{scheme}://{rest.split('/')[0].rpartition('@')[2]}: must hold neither credentials nor options; "
            "they are taken from the environment (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, ...)"
        )
    return fs.FileSystem.from_uri(place)


@contextmanager
def _refusals(place: str) -> Iterator[None]:
    """Say in one line what a store refused; the errors of this machine's own disk go on as they are."""
    try:
        yield
    except InputError:
        raise
    except (OSError, pa.ArrowException, ValueError, ImportError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"{place}: cannot be reached ({reason}); check the address, the credentials in the environment "
            "and the network"
        ) from None
