"""From the bytes of an image file to 8-bit pixels, whatever format it has.

Shape legend: H height, W width.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

import numpy as np

from cohort.decoders import DECODERS
from cohort.decoders.decoded import Decoded, unreadable
from cohort.decoders.formats import HEAD, SLIDE_REMEDY, format_of, slide_maker
from cohort.errors import InputError
from cohort.intensity import Intensity
from cohort.limits import MOST_PIXELS_AT_ONCE

# Part of the key of every image store and of all embeddings: raise it when a decoder or
# `cohort.geometry.apply_geometry` gives other pixels for the same file.
DECODING = 4


def decode(data: bytes, name: str, intensity: Intensity | None = None) -> np.ndarray:
    """Decode an image file to uint8, (H, W) where the source is gray and (H, W, 3) where it is in colour.

    `intensity` says which values of 16-bit gray are black and white, and which window of a DICOM file counts;
    None is for images of 8 bits. Raises InputError, with `name`, like `decode_raw`, and for a 16-bit gray
    image without an intensity.
    """
    pixels = decode_raw(data, name, intensity.voi if intensity else "").pixels
    if pixels.dtype == np.uint8:
        return pixels
    if intensity is None:
        raise InputError(
            f"{name}: has 16 bits, and nothing says which of its values are black and white, for the images "
            "of the cohort have 8; convert it to 8 bits as they were"
        )
    return intensity.to_8_bit(pixels)


def decode_raw(data: bytes, name: str, voi: str = "") -> Decoded:
    """Decode an image file, 16-bit gray as it is stored.

    The content chooses the decoder, whatever the ending of `name`. `voi` names the window of DICOM files, as
    `Intensity.voi`. Raises InputError, with `name`, for a file that is truncated, damaged, refused by
    `check_size_of_image`, or of no format of `DECODERS`.
    """
    if maker := slide_maker(name):
        raise unreadable(name, f"a whole-slide image ({maker}); {SLIDE_REMEDY}")
    if not (decoder := _decoder(data)):
        raise unreadable(name, f"none of {', '.join(DECODERS)}; convert it")
    return decoder.decode(data, name, voi)


def _decoder(data: bytes) -> ModuleType | None:
    module = DECODERS.get(format_of(data[:HEAD]))
    return module and import_module(f"cohort.decoders.{module}")


class _Room:
    """Pixels of which only so many are being worked on at a time, by all threads together."""

    def __init__(self, most: int) -> None:
        self._most, self._taken, self._changed = most, 0, threading.Condition()

    @contextmanager
    def __call__(self, pixels: int) -> Iterator[None]:
        with self._changed:
            # One that is larger than all the room works alone.
            self._changed.wait_for(lambda: self._taken == 0 or self._taken + pixels <= self._most)
            self._taken += pixels
        try:
            yield
        finally:
            with self._changed:
                self._taken -= pixels
                self._changed.notify_all()


_room = _Room(MOST_PIXELS_AT_ONCE)


@contextmanager
def room_to_decode(data: bytes) -> Iterator[None]:
    """Waits until an image file may be decoded, and what was decoded be worked on, beside those of other
    threads: until no more than `MOST_PIXELS_AT_ONCE` are at once."""
    decoder = _decoder(data)
    try:
        pixels = decoder.size(data) if decoder else 0
    except Exception:  # of a damaged file; decoding it says so
        pixels = len(data)
    with _room(pixels):
        yield
