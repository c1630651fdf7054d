"""Image files in a folder or a zip archive: which there are, their bytes, and one pass over all of them."""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import sys
import threading
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Container, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeVar

import numpy as np
from tqdm import tqdm

from cohort.decoding import IMAGE_ENDINGS, decode, decode_raw
from cohort.errors import InputError
from cohort.intensity import VALUES, Intensity
from cohort.other_formats import ENDINGS

T = TypeVar("T")
MOST_IMAGES = 1_000_000
"""That `find_images` gives."""

LARGEST_FILE = 2**30
"""Bytes of an image file that are read; the largest image that is decoded has half as many uncompressed."""


def climbs_out(name: str) -> bool:
    """Whether a relative path or zip member leads out of its folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts or (len(name) > 1 and name[1] == ":")


class ImageFiles:
    """The bytes of image files in a folder or a zip archive, by position.

    `root` is the folder or the archive, `names` the files' paths inside it, `intensity` what `decode` makes
    of 16-bit gray. May be shared by threads and sent to other processes.
    """

    def __init__(self, root: Path | str, names: Sequence[str], intensity: Intensity | None = None) -> None:
        self.root = Path(root)
        self.names = list(names)
        self.intensity = intensity
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
        return {"root": self.root, "names": self.names, "intensity": self.intensity}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)

    def read(self, i: int) -> bytes:
        """The i-th file's bytes; InputError where it cannot be read or is larger than `LARGEST_FILE`."""
        return checked_size(self.head(i, LARGEST_FILE + 1), str(self.root / self.names[i]))

    def head(self, i: int, size: int) -> bytes:
        """The first `size` bytes of the i-th file, or all where it has no more; InputError where it cannot be
        read."""
        name = self.names[i]
        try:
            if self.root.is_dir():
                return read_head(self.root / name, size)
            with self._opening:
                if self._archive is None:
                    self._archive = zipfile.ZipFile(self.root)
            with self._archive.open(name) as member:
                return member.read(size)
        except (
            OSError,
            KeyError,
            ValueError,
            zipfile.BadZipFile,
            zlib.error,
            RuntimeError,
            NotImplementedError,
        ) as error:
            reason = getattr(error, "strerror", None) or str(error)
            if isinstance(error, FileNotFoundError | KeyError):
                reason = "no such file"
            raise InputError(f"{self.root}: cannot read {name!r} ({' '.join(reason.split())})") from error

    def decode(self, i: int) -> np.ndarray:
        """The i-th image, as `decode` gives it."""
        return decode(self.read(i), str(self.root / self.names[i]), self.intensity)


def read_image(path: Path) -> bytes:
    """An image file's bytes; InputError where it cannot be read or is larger than `LARGEST_FILE`."""
    try:
        data = read_head(path, LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    return checked_size(data, str(path))


def checked_size(data: bytes, name: str) -> bytes:
    """An image file's bytes; InputError, with `name`, where they are more than `LARGEST_FILE`."""
    if len(data) > LARGEST_FILE:
        raise InputError(f"{name}: has more than {LARGEST_FILE:,} bytes; an image file may have no more")
    return data


def read_head(path: Path, size: int) -> bytes:
    """The first `size` bytes of a file, or all where it has no more.

    OSError where it is no regular file, from which a read might never return.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a file", str(path))
    with open(path, "rb") as file:
        return file.read(min(size, os.fstat(file.fileno()).st_size))


def list_files(root: Path | str) -> list[str]:
    """Paths of all files in a folder (with subfolders) or zip archive, sorted, with forward slashes.

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
    return sorted(name for name in names if not PurePosixPath(name).name.startswith("._"))


def find_images(words: Sequence[Path | str]) -> list[str]:
    """Paths of image files, each word one of these: a file, taken as it is; a folder, for all images in it
    and its subfolders, those of formats that are not readable yet among them, so that none is passed over; a
    pattern with `*`, `?` or `[...]`, for the files that it matches, sorted.

    Raises InputError where a folder holds no image, a pattern matches none, or all are more than a million.
    """
    found: list[str] = []
    for word in map(str, words):
        if os.path.isdir(word):
            images = [name for name in list_files(word) if name.lower().endswith((*IMAGE_ENDINGS, *ENDINGS))]
            below = [os.path.join(word, name) for name in images]
        elif glob.has_magic(word) and not os.path.exists(word):
            below = sorted(path for path in glob.glob(word) if os.path.isfile(path))
        else:
            below = [word]
        if not below:
            raise InputError(f"{word}: no image there; images end in {', '.join(IMAGE_ENDINGS)}")
        found += below
        if len(found) > MOST_IMAGES:
            raise InputError(f"{word}: more than {MOST_IMAGES} images; take a part of them at a time")
    return found


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


@dataclass(kw_only=True)
class Inspected:
    """What one pass over image files found; positions are theirs."""

    digests: list[str] = field(default_factory=list)
    """sha256 of each file's bytes; "" where it is unreadable."""

    channels: int = 1
    """1 where every readable image is gray, otherwise 3."""

    unreadable: dict[int, str] = field(default_factory=dict)
    """Position -> message, for files that cannot be read or decoded."""

    turned: list[int] = field(default_factory=list)
    """Images turned upright by their EXIF orientation."""

    high_byte: list[int] = field(default_factory=list)
    """Images in colour or with transparency of whose 16 bits a channel eight are read."""

    blank: list[int] = field(default_factory=list)
    """Images all of whose pixels are the same."""

    gray_16_bit: list[int] = field(default_factory=list)

    counts_V: np.ndarray = field(default_factory=lambda: np.zeros(VALUES, dtype=np.int64))
    """In how many pixels of the 16-bit gray images each of the 65,536 values occurs; of those of them that
    are trained on, where there are any."""


def inspect_images(files: ImageFiles, training: Container[int] = ()) -> Inspected:
    """Read and decode every file once: its digest, what its pixels are, and proof that it decodes.

    `training` are the positions of the images that are trained on.
    """

    def inspect(i: int) -> _Seen:
        try:
            data = files.read(i)
            pixels, turned, high_byte = decode_raw(data, files.names[i])
        except InputError as error:
            return _Seen(message=str(error))
        return _Seen(
            digest=hashlib.sha256(data).hexdigest(),
            channels=1 if pixels.ndim == 2 else 3,
            turned=turned,
            high_byte=high_byte,
            blank=bool((pixels == pixels[:1, :1]).all()),
            counts_V=np.bincount(pixels.reshape(-1), minlength=VALUES) if pixels.dtype == np.uint16 else None,
        )

    found = Inspected()
    other_V = np.zeros_like(found.counts_V)
    for i, seen in enumerate(in_threads(inspect, len(files), "checking images")):
        found.digests.append(seen.digest)
        found.channels = max(found.channels, seen.channels)
        if seen.message:
            found.unreadable[i] = seen.message
        if seen.turned:
            found.turned.append(i)
        if seen.high_byte:
            found.high_byte.append(i)
        if seen.blank:
            found.blank.append(i)
        if seen.counts_V is not None:
            found.gray_16_bit.append(i)
            counted_V = found.counts_V if i in training else other_V
            counted_V += seen.counts_V
    if not found.counts_V.any():
        found.counts_V = other_V
    return found


class _Seen(NamedTuple):
    """What was found out about one file; fields as in `Inspected`, `message` where it is unreadable."""

    digest: str = ""
    channels: int = 1
    turned: bool = False
    high_byte: bool = False
    blank: bool = False
    counts_V: np.ndarray | None = None
    message: str = ""


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
