"""Image files, their decoding to 8 bits, the encoders' geometry, and the decoded-image store.

Shape legend: N images, H height, W width, C channels (1 gray, 3 RGB).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import sys
import threading
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from filelock import FileLock
from PIL import Image
from tqdm import tqdm

from cohort.errors import InputError

if TYPE_CHECKING:
    from cohort.manifest import Cohort

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg")
RESIZE_MODES = ("shortest", "squash", "longest")
INTERPOLATIONS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}

# Part of every store's key: raise it when `decode` or `apply_geometry` gives other pixels for the same file.
DECODING = 1

# How many decoded images are written to the disk together.
FLUSH_EVERY = 256

# What Pillow raises for damaged files, by format and kind of damage.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)

# Bit depths that detectors and exporters use; see `decode`.
_BIT_DEPTHS = (8, 10, 12, 14, 16)

T = TypeVar("T")


def decode(data: bytes, name: str) -> np.ndarray:
    """Decode a PNG or JPEG file to uint8, (H, W) where the source is gray and (H, W, 3) where it is in
    colour.

    - 16-bit gray: the range from 0 to the full scale of the smallest of 8, 10, 12, 14 and 16 bits that
      holds the image's brightest pixel is mapped linearly to 0..255 and rounded. Exporters write 12-bit
      detectors into 16-bit files with and without stretching them; either comes out in the same brightness,
      and apart from this choice of depth no pixel depends on another.
    - 16-bit RGB: the high byte of each channel.
    - Black and white: 0 and 255. Palette: looked up, gray where every colour that occurs is gray.
    - An alpha channel is dropped, as in `Image.convert("RGB")`; CMYK is converted to RGB.
    - EXIF orientation is not applied, as in open_clip.

    `name` is only used in messages. Raises InputError for a file that is truncated, damaged, or something
    else."""
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            image.load()
            if image.mode == "P":
                image_HWC = np.asarray(image.convert("RGB"))
                return image_HWC[:, :, 0] if (image_HWC == image_HWC[:, :, :1]).all() else image_HWC
            if image.mode in ("L", "RGB"):
                return np.asarray(image)
            if image.mode == "I" or image.mode.startswith("I;16"):
                return _to_8_bit(np.asarray(image))
            return np.asarray(image.convert("L" if image.mode in ("1", "LA", "La") else "RGB"))
    except _DAMAGE as error:
        reason = "not a PNG or JPEG file" if isinstance(error, Image.UnidentifiedImageError) else error
        raise InputError(f"{name}: unreadable image ({' '.join(str(reason).split())})") from error


def _to_8_bit(image_HW: np.ndarray) -> np.ndarray:
    bits = next(b for b in _BIT_DEPTHS if image_HW.max() < 2**b or b == 16)
    scale = 2**bits - 1
    return ((image_HW.astype(np.uint32) * 255 + scale // 2) // scale).astype(np.uint8)


@dataclass(frozen=True)
class Geometry:
    """How an image of any size becomes the square an encoder takes; the fields of open_clip's
    preprocessing."""

    size: int
    """Side of the square in pixels."""

    resize_mode: str = "shortest"
    """`shortest`: the shorter side is resized to `size` and the centre cropped out; `squash`: both sides are
    resized to `size`; `longest`: the longer side is resized to `size` and the rest padded with `fill`."""

    interpolation: str = "bicubic"
    """`bicubic` or `bilinear`, both antialiased."""

    fill: int = 0
    """Gray value of the padding, 0..255."""

    channels: int | None = None
    """1: to gray (ITU-R 601), 3: gray repeated three times, None: as the source."""

    def __post_init__(self) -> None:
        if self.size < 1:
            raise InputError(f"size of a geometry must be at least 1 pixel, got {self.size}")
        if self.resize_mode not in RESIZE_MODES:
            raise InputError(
                f"resize_mode must be one of {', '.join(RESIZE_MODES)}, got {self.resize_mode!r}"
            )
        if self.interpolation not in INTERPOLATIONS:
            raise InputError(
                f"interpolation must be one of {', '.join(INTERPOLATIONS)}, got {self.interpolation!r}"
            )
        if not 0 <= self.fill <= 255:
            raise InputError(f"fill of a geometry must lie in 0..255, got {self.fill}")
        if self.channels not in (1, 3, None):
            raise InputError(f"channels of a geometry must be 1, 3 or None, got {self.channels}")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def apply_geometry(image: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Resize, crop and pad as open_clip's evaluation transform does before `ToTensor`, bit for bit.

    `image` is uint8, (H, W) or (H, W, 3); so is the result, with H = W = `geometry.size`, unless
    `geometry.channels` says otherwise.
    """
    size, (height, width) = geometry.size, image.shape[:2]
    if geometry.resize_mode == "squash":
        new_height, new_width = size, size
    elif geometry.resize_mode == "shortest":
        # torchvision.transforms.functional.resize with one number: the longer side is cut off, not rounded.
        long = int(size * max(height, width) / min(height, width))
        new_height, new_width = (long, size) if height >= width else (size, long)
    else:
        # open_clip.transform.ResizeKeepRatio: rounded.
        ratio = max(height / size, width / size)
        new_height, new_width = max(1, round(height / ratio)), max(1, round(width / ratio))

    if (new_height, new_width) != (height, width):
        resized = Image.fromarray(image).resize(
            (new_width, new_height), INTERPOLATIONS[geometry.interpolation]
        )
        image = np.asarray(resized)

    if geometry.resize_mode == "shortest":
        top, left = round((new_height - size) / 2.0), round((new_width - size) / 2.0)
        image = image[top : top + size, left : left + size]
    elif geometry.resize_mode == "longest":
        before_after = [((size - side) // 2, (size - side + 1) // 2) for side in (new_height, new_width)]
        image = np.pad(image, before_after + [(0, 0)] * (image.ndim - 2), constant_values=geometry.fill)

    if geometry.channels == 1 and image.ndim == 3:
        image = np.asarray(Image.fromarray(image).convert("L"))
    elif geometry.channels == 3 and image.ndim == 2:
        image = np.repeat(image[:, :, None], 3, axis=2)
    return image


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
    """Paths of the PNG and JPEG files in a folder (with subfolders) or zip archive, sorted, with forward
    slashes.

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


@dataclass(frozen=True)
class ImageStore:
    """Every present image of a cohort at one geometry, decoded, memory-mapped and read-only."""

    images_NHWC: np.ndarray
    """uint8, H = W = geometry.size, aligned with `Cohort.present`; C = 1 where the whole cohort is gray."""

    geometry: Geometry
    key: str
    """Hash of the images' digests, the geometry and the decoding rules."""

    folder: Path

    def __len__(self) -> int:
        return len(self.images_NHWC)


def image_store(cohort: Cohort, geometry: Geometry, cache: Path | str = "cache") -> ImageStore:
    """The decoded-image store of a cohort, made in one parallel pass if `cache` does not hold it yet.

    An interrupted pass is taken up again where it stopped; two processes that need the same store make it
    once. Raises InputError for a file that cannot be decoded or is not the file the cohort was built from.
    """
    present = cohort.present
    digests = present["digest"].to_pylist()
    channels = geometry.channels or cohort.channels
    description = {
        "decoding": DECODING,
        "geometry": geometry.to_dict(),
        "channels": channels,
        "images": digests,
    }
    key = hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()[:32]
    folder = Path(cache) / f"images-{key}"
    finished = folder / "images.npy"
    if not finished.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):
            if not finished.exists():
                _fill_store(
                    folder, cohort.files(), digests, (geometry.size, geometry.size, channels), geometry
                )
    return ImageStore(np.load(finished, mmap_mode="r"), geometry, key, folder)


def _fill_store(
    folder: Path, files: ImageFiles, digests: list[str], shape_HWC: tuple[int, int, int], geometry: Geometry
) -> None:
    """Decode what `done.npy` does not mark yet into `images.partial.npy`, then give that its final name."""
    partial, done = folder / "images.partial.npy", folder / "done.npy"
    mode = "r+" if partial.exists() and done.exists() else "w+"
    images_NHWC = np.lib.format.open_memmap(partial, mode, np.uint8, (len(files), *shape_HWC))
    done_N = np.lib.format.open_memmap(done, mode, np.bool_, (len(files),))
    missing = np.flatnonzero(~done_N)

    def fill(k: int) -> int:
        i = int(missing[k])
        data = files.read(i)
        if hashlib.sha256(data).hexdigest() != digests[i]:
            raise InputError(
                f"{files.root / files.names[i]}: not the file the cohort was built from; build it again"
            )
        image = apply_geometry(decode(data, str(files.root / files.names[i])), geometry)
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
    os.replace(partial, folder / "images.npy")
    done.unlink()
