"""Every image of a cohort at one geometry, decoded once and mapped into memory.

Shape legend: N images, H height, W width, C channels (1 gray, 3 RGB).
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cohort.cache import filled
from cohort.decoding import DECODING, decode, room_to_decode
from cohort.errors import InputError
from cohort.files import write_atomically
from cohort.geometry import Geometry, apply_geometry
from cohort.image_files import ImageFiles
from cohort.manifest import Cohort
from cohort.threads import in_threads

# How many decoded images are written to the disk together.
FLUSH_EVERY = 256
IMAGES = "images.npy"
CHECKSUMS = "checksums.json"
"""Of what `IMAGES` holds, as it was written."""


@dataclass(frozen=True)
class ImageStore:
    """Every present image of a cohort at one geometry, decoded, memory-mapped and read-only."""

    images_NHWC: np.ndarray
    """uint8, H = W = geometry.size, aligned with `Cohort.present`; C = 1 where the whole cohort is gray."""

    geometry: Geometry
    key: str
    """`pixels_key` of them."""

    folder: Path

    def __len__(self) -> int:
        return len(self.images_NHWC)


def image_store(cohort: Cohort, geometry: Geometry, cache: Path | str = "cache") -> ImageStore:
    """The decoded-image store of a cohort, made in one parallel pass if `cache` does not hold it yet.

    An interrupted pass is taken up again where it stopped; two processes that need the same store make it
    once. Raises InputError for a file that cannot be decoded or is not the file the cohort was built from,
    and for a store of another shape than it must have; whether its pixels are those written tells `verify`.
    """
    digests = cohort.column("digest")
    channels = geometry.channels or cohort.channels
    key = pixels_key(cohort, geometry)
    shape_HWC = (geometry.size, geometry.size, channels)
    folder = filled(
        cache,
        f"images-{key}",
        (CHECKSUMS, IMAGES),
        lambda folder: _fill_store(folder, cohort.files(), digests, shape_HWC, geometry),
    )
    shape_NHWC = (len(digests), geometry.size, geometry.size, channels)
    try:
        images_NHWC = np.load(folder / IMAGES, mmap_mode="r")
        if images_NHWC.shape != shape_NHWC or images_NHWC.dtype != np.uint8:
            raise ValueError(f"{images_NHWC.dtype} {images_NHWC.shape} instead of uint8 {shape_NHWC}")
    except (OSError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{folder / IMAGES}: damaged ({reason}); delete the folder {folder} and run the command again"
        ) from error
    return ImageStore(images_NHWC, geometry, key, folder)


def finished_store(cache: Path | str, key: str) -> Path:
    """The .npy file of a store that another process has made, fetched from a cache at a URI once a machine.

    Raises:
        InputError: it is not there.
    """

    def absent(folder: Path) -> None:
        raise InputError(
            f"{folder / IMAGES} on {socket.gethostname()}: the decoded images are not there; put the cache "
            "on a disk that all nodes share, or at a URI such as s3://bucket/cache"
        )

    return (filled(cache, f"images-{key}", (CHECKSUMS, IMAGES), absent) / IMAGES).absolute()


def verify(folder: Path | str) -> list[str]:
    """What is wrong, a line each, with a store of the cache, `images-KEY`: all its pixels are read, and those
    of each `FLUSH_EVERY` images compared with the checksum that was written. Nothing is wrong with one that
    is not finished."""
    folder = Path(folder)
    path, remedy = folder / IMAGES, f"delete the folder {folder} and run the command again"
    if not path.exists():
        return []
    try:
        expected = json.loads((folder / CHECKSUMS).read_text())
        found = _checksums(np.load(path, mmap_mode="r"))
        if found["images"] != expected["images"]:
            return [f"{path}: holds {found['images']} instead of {expected['images']}; {remedy}"]
        both = enumerate(zip(found["sha256"], expected["sha256"], strict=True))
        changed = [k * FLUSH_EVERY for k, (now, then) in both if now != then]
    except (OSError, ValueError, EOFError, KeyError, TypeError) as error:
        return [f"{path}: damaged, or without its checksums ({' '.join(str(error).split())}); {remedy}"]
    return [
        f"{path}: images {first} to {first + FLUSH_EVERY - 1} are no longer those that were written; {remedy}"
        for first in changed
    ]


def _checksums(images_NHWC: np.ndarray) -> dict[str, Any]:
    """What `images_NHWC` are, and sha256 of each `FLUSH_EVERY` of them."""
    starts = range(0, len(images_NHWC), FLUSH_EVERY)
    blocks = (np.ascontiguousarray(images_NHWC[start : start + FLUSH_EVERY]) for start in starts)
    return {
        "images": f"{images_NHWC.dtype} {images_NHWC.shape}",
        "sha256": [hashlib.sha256(block).hexdigest() for block in blocks],
    }


def pixels_key(cohort: Cohort, geometry: Geometry) -> str:
    """32 hexadecimal digits that say which pixels of which images these are: a hash of the images' digests,
    the geometry, the channels and the rules of decoding."""
    description = {
        "decoding": DECODING,
        "intensity": cohort.intensity and cohort.intensity.to_dict(),
        "geometry": geometry.to_dict(),
        "channels": geometry.channels or cohort.channels,
        "images": cohort.column("digest"),
    }
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()[:32]


@contextmanager
def decoded(files: ImageFiles, i: int, digest: str) -> Iterator[np.ndarray]:
    """The i-th image as `decode` gives it, for as long as `room_to_decode` holds room for it; InputError also
    where its file is not the one of this digest."""
    data, name = files.read(i), str(files.root / files.names[i])
    if hashlib.sha256(data).hexdigest() != digest:
        raise InputError(f"{name}: not the file the cohort was built from; build it again")
    with room_to_decode(data):
        yield decode(data, name, files.intensity)


def _fill_store(
    folder: Path, files: ImageFiles, digests: list[str], shape_HWC: tuple[int, int, int], geometry: Geometry
) -> None:
    """Decode what `done.npy` does not mark yet into `images.partial.npy`, then give that its final name."""
    partial, done = folder / "images.partial.npy", folder / "done.npy"
    shape_N, shape_NHWC = (len(files),), (len(files), *shape_HWC)
    left = _is_whole(partial, np.uint8, shape_NHWC) and _is_whole(done, np.bool_, shape_N)
    mode = "r+" if left else "w+"
    try:
        images_NHWC = np.lib.format.open_memmap(partial, mode, np.uint8, shape_NHWC)
        done_N = np.lib.format.open_memmap(done, mode, np.bool_, shape_N)
        _reserve(partial)
        _reserve(done)
    except OSError as error:
        partial.unlink(missing_ok=True)
        done.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(partial)) from None
    missing = np.flatnonzero(~done_N)

    def fill(k: int) -> int:
        i = int(missing[k])
        with decoded(files, i, digests[i]) as pixels:
            image = apply_geometry(pixels, geometry)
        images_NHWC[i] = image[:, :, None] if image.ndim == 2 else image
        return i

    # An image counts as done only once its pixels are on the disk.
    block: list[int] = []
    for k, i in enumerate(in_threads(fill, len(missing), "decoding images")):
        block.append(i)
        if len(block) == FLUSH_EVERY or k == len(missing) - 1:
            images_NHWC.flush()
            done_N[block] = True
            done_N.flush()
            block = []
    write_atomically(folder / CHECKSUMS, json.dumps(_checksums(images_NHWC)).encode())
    # Every image is flushed already; the partial file outlives a killed pass, which no `replacing_file` does.
    os.replace(partial, folder / IMAGES)
    done.unlink()


def _is_whole(path: Path, dtype: type, shape: tuple[int, ...]) -> bool:
    """Whether an array that a killed pass left is still whole: opened for writing, one that was cut off is
    filled up with zeros."""
    try:
        array = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return False
    return array.dtype == dtype and array.shape == shape


def _reserve(path: Path) -> None:
    """Take the disk space of a file now: a mapped page for which there is none ends the process without a
    word. OSError where there is not enough."""
    if hasattr(os, "posix_fallocate"):
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
