"""Image files in a folder or a zip archive: which there are, their bytes, and one pass over all of them."""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from cohort.decoding import IMAGE_ENDINGS, decode
from cohort.errors import InputError

T = TypeVar("T")


def climbs_out(name: str) -> bool:
    """Whether a relative path or zip member leads out of its folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts or (len(name) > 1 and name[1] == ":")


class ImageFiles:
    """The bytes of image files in a folder or a zip archive, by position.

    `root` is the folder or the archive, `names` the files' paths inside it. May be shared by threads and
    sent to other processes.
    """

    def __init__(self, root: Path | str, names: Sequence[str]) -> None:
        self.root = Path(root)
        self.names = list(names)
        for name in self.names:
            if climbs_out(name):
                raise InputError(
                    f"{self.root}: {name!r} leads out of its folder; only files inside it are read"
                )
        self._archive: zipfile.ZipFile | None = None
        self._opening = threading.Lock()

    def __len__(self) -> int:
        return len(self.names)

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root, "names": self.names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)

    def read(self, i: int) -> bytes:
        """The i-th file's bytes; InputError where it cannot be read."""
        name = self.names[i]
        try:
            if self.root.is_dir():
                return (self.root / name).read_bytes()
            with self._opening:
                if self._archive is None:
                    self._archive = zipfile.ZipFile(self.root)
            return self._archive.read(name)
        except (
            OSError,
            KeyError,
            zipfile.BadZipFile,
            zlib.error,
            RuntimeError,
            NotImplementedError,
        ) as error:
            reason = "no such file" if isinstance(error, FileNotFoundError | KeyError) else str(error)
            raise InputError(f"{self.root}: cannot read {name!r} ({' '.join(reason.split())})") from error

    def decode(self, i: int) -> np.ndarray:
        """The i-th image, as `decode` gives it."""
        return decode(self.read(i), str(self.root / self.names[i]))


def list_images(root: Path | str) -> list[str]:
    """Paths of the files with one of `IMAGE_ENDINGS` in a folder (with subfolders) or zip archive, sorted,
    with forward slashes.

    Raises InputError where `root` is neither, or where a member of the archive leads out of it.
    """
    root = Path(root)
    if root.is_dir():
        names = list(_walk(root))
    elif zipfile.is_zipfile(root):
        with zipfile.ZipFile(root) as archive:
            names = [member.filename for member in archive.infolist() if not member.is_dir()]
        for name in names:
            if climbs_out(name):
                raise InputError(
                    f"{root}: member {name!r} leads out of the archive; remove it, or unpack the archive "
                    "yourself and give the folder"
                )
    else:
        raise InputError(f"{root}: images must be a folder or a zip archive, and this is neither")
    # macOS puts a resource fork beside every file it archives.
    return sorted(
        name
        for name in names
        if name.lower().endswith(IMAGE_ENDINGS) and not PurePosixPath(name).name.startswith("._")
    )


def _walk(root: Path) -> Iterator[str]:
    """Paths of all files below a folder; links are followed, but no folder is entered twice."""
    entered = set()
    for top, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(top)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        below = Path(top).relative_to(root).as_posix()
        yield from files if below == "." else (f"{below}/{file}" for file in files)


@dataclass(frozen=True)
class Inspected:
    """What one pass over image files found; aligned with them."""

    digests: list[str]
    """sha256 of each file's bytes; "" where it is unreadable."""

    channels: int
    """1 where every readable image is gray, otherwise 3."""

    unreadable: dict[int, str]
    """Position -> message, for files that cannot be read or decoded."""


def inspect_images(files: ImageFiles) -> Inspected:
    """Read and decode every file once: its digest, whether it is gray, and proof that it decodes."""

    def inspect(i: int) -> tuple[str, int, str]:
        try:
            data = files.read(i)
            image = decode(data, files.names[i])
        except InputError as error:
            return "", 1, str(error)
        return hashlib.sha256(data).hexdigest(), 1 if image.ndim == 2 else 3, ""

    digests, channels, unreadable = [], 1, {}
    for i, (digest, image_channels, message) in enumerate(in_threads(inspect, len(files), "checking images")):
        digests.append(digest)
        channels = max(channels, image_channels)
        if message:
            unreadable[i] = message
    return Inspected(digests, channels, unreadable)


def in_threads(work: Callable[[int], T], count: int, title: str) -> Iterator[T]:
    """`work(0), work(1), ...` in order, computed by one thread a core, a bounded number of results ahead.

    Threads suffice: Pillow, zlib and hashlib release the interpreter's lock while they work.
    """
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        ahead: deque = deque()
        interval = 1.0 if sys.stderr.isatty() else 30.0
        with tqdm(total=count, desc=title, unit="image", mininterval=interval, delay=2.0) as bar:
            for i in range(count):
                ahead.append(pool.submit(work, i))
                if len(ahead) >= 4 * workers:
                    yield ahead.popleft().result()
                    bar.update()
            while ahead:
                yield ahead.popleft().result()
                bar.update()
