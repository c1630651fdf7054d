"""Image files in a folder or a zip archive: which there are, their bytes, and one pass over all of them."""

from __future__ import annotations

import glob
import hashlib
import itertools
import os
import struct
import threading
import unicodedata
import zipfile
import zlib
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

import numpy as np

from cohort.decoders.formats import HEAD, IMAGE_ENDINGS, SLIDE_ENDINGS, format_of
from cohort.decoding import decode, decode_raw, room_to_decode
from cohort.errors import InputError
from cohort.files import open_regular
from cohort.intensity import VALUES, Intensity
from cohort.limits import LARGEST_DIRECTORY, LARGEST_IMAGE_FILE, MOST_FILES
from cohort.look_alikes import as_stored
from cohort.near_duplicates import SIDE, thumbnail
from cohort.threads import in_threads

# What reading an archive or a member raises, by kind of damage; RuntimeError where it is encrypted.
_DAMAGE = (
    OSError,
    KeyError,
    ValueError,
    EOFError,
    RuntimeError,
    NotImplementedError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


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
        """The i-th file's bytes; InputError where it cannot be read or is larger than is read."""
        with self._opened(i) as (file, size):
            if size > LARGEST_IMAGE_FILE:
                raise _too_large(self.root / self.names[i])
            return file.read(size)

    def head(self, i: int, size: int) -> bytes:
        """The first `size` bytes of the i-th file, or all where it has no more; InputError where it cannot be
        read."""
        with self._opened(i) as (file, whole):
            return file.read(min(size, whole))

    @contextmanager
    def _opened(self, i: int) -> Iterator[tuple[IO[bytes], int]]:
        """The i-th file and how many bytes it has, or claims to have; no more are unpacked."""
        name = self.names[i]
        try:
            if self.root.is_dir():
                with open_regular(self.root / name) as file:
                    yield file, os.fstat(file.fileno()).st_size
                return
            with self._opening:
                if self._archive is None:
                    self._archive = _open_archive(self.root)
            member = self._archive.getinfo(name)
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError("compressed by another method than deflate; pack it anew")
            with self._archive.open(member) as file:
                yield file, member.file_size
        except InputError:
            raise
        except _DAMAGE as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            if isinstance(error, FileNotFoundError | KeyError):
                reason = "no such file"
            raise InputError(f"{self.root}: cannot read {name!r} ({' '.join(reason.split())})") from error

    def decode(self, i: int) -> np.ndarray:
        """The i-th image, as `decode` gives it."""
        return decode(self.read(i), str(self.root / self.names[i]), self.intensity)


def read_image(path: Path) -> bytes:
    """An image file's bytes; InputError where it cannot be read or is larger than an image file may be. The
    path may spell its letters in another of Unicode's ways than the disk does."""
    try:
        with open_regular(Path(as_stored(str(path)))) as file:
            size = os.fstat(file.fileno()).st_size
            if size > LARGEST_IMAGE_FILE:
                raise _too_large(path)
            return file.read(size)
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {getattr(error, 'strerror', None) or error}") from error


def checked_size(data: bytes, name: str) -> bytes:
    """An image file's bytes; InputError, with `name`, where they are more than such a file may have."""
    if len(data) > LARGEST_IMAGE_FILE:
        raise _too_large(name)
    return data


def _too_large(path: Path | str) -> InputError:
    return InputError(
        f"{path}: has more than {LARGEST_IMAGE_FILE:,} bytes; an image file may have no more, make it smaller"
    )


def _open_archive(path: Path) -> zipfile.ZipFile:
    """InputError where its list of members is larger than that of `MOST_FILES` can be, and `_DAMAGE` where it
    is no archive. zipfile would read all of the list, at several times its size, before it can be counted."""
    file = open_regular(path)
    try:
        if _size_of_list(file) > LARGEST_DIRECTORY:
            raise InputError(
                f"{path}: its list of members has more than {LARGEST_DIRECTORY:,} bytes; unpack the archive "
                "and give the folder"
            )
        return zipfile.ZipFile(file)
    except BaseException:
        file.close()
        raise


def _size_of_list(file: IO[bytes]) -> int:
    """Bytes of a zip archive's central directory, as its end says (APPNOTE.TXT 4.3.14 to 4.3.16); 0 where it
    has no such end."""
    length = file.seek(0, os.SEEK_END)
    file.seek(max(0, length - _END - 2**16))
    tail = file.read()
    end = tail.rfind(b"PK\5\6")
    if end < 0 or len(tail) < end + _END:
        return 0
    (size,) = struct.unpack_from("<I", tail, end + 12)
    locator = end - _LOCATOR
    if size == 2**32 - 1 and locator >= 0 and tail[locator : locator + 4] == b"PK\6\7":
        (place,) = struct.unpack_from("<Q", tail, locator + 8)
        file.seek(min(place, length))
        end_64 = file.read(56)
        return struct.unpack_from("<Q", end_64, 40)[0] if len(end_64) == 56 else 0
    return size


_END, _LOCATOR = 22, 20
"""Bytes of a zip archive's end, without its comment, and of what points to the end of a large one."""


def list_files(root: Path | str) -> list[str]:
    """Paths of all files in a folder (with subfolders) or zip archive, sorted, with forward slashes.

    Raises InputError where `root` is neither, where a member of the archive or a link to a folder leads out
    of it, and where there are more than `MOST_FILES`.
    """
    root = Path(root)
    if root.is_dir():
        listed = _walk(root)
    elif root.is_file() and zipfile.is_zipfile(root):
        listed = _members(root)
    else:
        raise InputError(f"{root}: images must be a folder or a zip archive, and this is neither")
    names = list(itertools.islice(listed, MOST_FILES + 1))
    if len(names) > MOST_FILES:
        raise InputError(f"{root}: more than {MOST_FILES:,} files there; give a folder of images alone")
    # macOS puts a resource fork beside every file it archives.
    return sorted(name for name in names if not PurePosixPath(name).name.startswith("._"))


def image_names(root: Path | str, names: Sequence[str]) -> list[str]:
    """Those of the files in a folder or archive that have an image's ending, whole slides among them, or have
    none, or digits as UIDs do, and begin as an image does; a DICOMDIR is none."""
    files = ImageFiles(
        root,
        [
            name
            for name in names
            if not PurePosixPath(name).suffix[1:].isalpha() and PurePosixPath(name).name.upper() != "DICOMDIR"
        ],
    )
    by_content = set()
    for i, name in enumerate(files.names):
        with suppress(InputError):  # a file that cannot be read is none that is known for an image
            if format_of(files.head(i, HEAD)):
                by_content.add(name)
    endings = (*IMAGE_ENDINGS, *SLIDE_ENDINGS)
    return [name for name in names if name in by_content or name.lower().endswith(endings)]


def _members(root: Path) -> Iterator[str]:
    try:
        with _open_archive(root) as archive:
            names = [member.filename for member in archive.infolist() if not member.is_dir()]
    except InputError:
        raise
    except _DAMAGE as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{root}: a damaged archive ({reason}); get it again") from error
    for name in names:
        if climbs_out(name):
            raise InputError(
                f"{root}: member {name!r} leads out of the archive; remove it, or unpack the archive "
                "yourself and give the folder"
            )
    yield from names


def find_images(words: Sequence[Path | str]) -> list[str]:
    """Paths of image files, each word one of these: a file, taken as it is; a folder, for all images in it
    and its subfolders, those that will be refused among them, so that none is passed over; a pattern with
    `*`, `?` or `[...]`, for the files that it matches, sorted. A word may spell its letters in another of
    Unicode's ways than the disk does, whose spelling is given.

    Raises InputError where a folder holds no image, a pattern matches none, all are more than a million, or a
    word may be either of two files that look alike.
    """
    found: list[str] = []
    for word in map(as_stored, map(str, words)):
        if os.path.isdir(word):
            below = [os.path.join(word, name) for name in image_names(word, list_files(word))]
        elif glob.has_magic(word) and not os.path.exists(word):
            folder, pattern = os.path.split(word)
            spellings = {pattern, *(unicodedata.normalize(form, pattern) for form in ("NFC", "NFD"))}
            matches = {path for one in spellings for path in glob.glob(os.path.join(folder, one))}
            below = sorted(path for path in matches if os.path.isfile(path))
        else:
            below = [word]
        if not below:
            raise InputError(f"{word}: no image there; images end in {', '.join(IMAGE_ENDINGS)}")
        found += below
        if len(found) > MOST_FILES:
            raise InputError(f"{word}: more than {MOST_FILES:,} images; take a part of them at a time")
    return found


def _walk(root: Path) -> Iterator[str]:
    """Paths of all files below a folder; links are followed where they lead to a file, or to a folder inside,
    and no folder is entered twice.

    A link to `/` would have the whole disk looked through: InputError.
    """
    inside, entered = Path(os.path.realpath(root)), set()
    for top, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(top)
        below = Path(top).relative_to(root).as_posix()
        if not Path(real).is_relative_to(inside):
            raise InputError(
                f"{root}: the link {below!r} leads to the folder {real}, outside; images are looked for "
                "inside only: put them there, or give a folder that holds both"
            )
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
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

    notes: dict[str, list[int]] = field(default_factory=dict)
    """What was done to pixels, one of the notes of `cohort.decoders.decoded` -> the images it applies to."""

    blank: list[int] = field(default_factory=list)
    """Images all of whose pixels are the same."""

    pixels: list[str] = field(default_factory=list)
    """sha256 of each image's decoded pixels, the same in gray and in colour; "" where it is unreadable or
    blank."""

    thumbnails_NHW: np.ndarray = field(default_factory=lambda: np.empty((0, SIDE, SIDE), np.uint8))
    """As `thumbnail` gives them; 0 where the image is unreadable."""

    gray_16_bit: list[int] = field(default_factory=list)

    counts_V: np.ndarray = field(default_factory=lambda: np.zeros(VALUES, dtype=np.int64))
    """In how many pixels of the 16-bit gray images each of the 65,536 values occurs; of those of them that
    are trained on, where there are any."""


def inspect_images(files: ImageFiles, training: Container[int] = (), voi: str = "") -> Inspected:
    """Read and decode every file once: its digest, what its pixels are, and proof that it decodes.

    `training` are the positions of the images that are trained on, `voi` the window of DICOM files, as
    `Intensity.voi`.
    """

    def inspect(i: int) -> _Seen:
        try:
            data = files.read(i)
            with room_to_decode(data):
                return _seen(data, files.names[i], voi)
        except InputError as error:
            return _Seen(message=str(error))

    found = Inspected(thumbnails_NHW=np.zeros((len(files), SIDE, SIDE), np.uint8))
    other_V = np.zeros_like(found.counts_V)
    for i, seen in enumerate(in_threads(inspect, len(files), "checking images")):
        found.digests.append(seen.digest)
        found.pixels.append("" if seen.blank else seen.pixels)
        found.channels = max(found.channels, seen.channels)
        if seen.message:
            found.unreadable[i] = seen.message
        else:
            found.thumbnails_NHW[i] = seen.thumbnail_HW
        for note in seen.notes:
            found.notes.setdefault(note, []).append(i)
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
    pixels: str = ""
    thumbnail_HW: np.ndarray | None = None
    channels: int = 1
    notes: tuple[str, ...] = ()
    blank: bool = False
    counts_V: np.ndarray | None = None
    message: str = ""


def _seen(data: bytes, name: str, voi: str) -> _Seen:
    pixels, notes = decode_raw(data, name, voi)
    return _Seen(
        digest=hashlib.sha256(data).hexdigest(),
        pixels=_digest_of_pixels(pixels),
        thumbnail_HW=thumbnail(pixels),
        channels=1 if pixels.ndim == 2 else 3,
        notes=notes,
        blank=bool((pixels == pixels[:1, :1]).all()),
        counts_V=np.bincount(pixels.reshape(-1), minlength=VALUES) if pixels.dtype == np.uint16 else None,
    )


def _digest_of_pixels(pixels: np.ndarray) -> str:
    if pixels.ndim == 3 and (pixels == pixels[:, :, :1]).all():
        pixels = pixels[:, :, 0]
    digest = hashlib.sha256(f"{pixels.dtype} {pixels.shape}".encode())
    digest.update(np.ascontiguousarray(pixels))
    return digest.hexdigest()
