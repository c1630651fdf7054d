"""What is odd about a cohort's images, found in a sample of them before a study is run.

Shape legend: N images, H = W = `SIDE` of a thumbnail.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np

from cohort.decoding import decode_raw, room_to_decode
from cohort.errors import InputError
from cohort.manifest import Cohort
from cohort.near_duplicates import thumbnail
from cohort.threads import in_threads

SAMPLE = 200
"""Images that are read."""
_FLAT = 2.0
"""Standard deviation, of 255, below which an image shows nothing."""
_ALIKE, _OPPOSITE = 0.3, -0.3
"""Correlation with the median image: of half the images at least, where all share a layout; and of one that
shows it as a negative."""
_BORDER = 10
"""One part of so many of each side is border."""
_EDGE = 80
"""Difference of neighbours, of 255, that is the edge of a letter rather than of anatomy."""
_TEXT = 0.005
"""Share of such edges in the border above which there is text; a side marker has a tenth of that."""
_TIMES_MIDDLE = 3
"""How many times the share of the middle that must be: detail all over an image is no text."""


class Oddity(NamedTuple):
    """One thing that is odd."""

    severity: str
    """`error` for images that no study can read, `warning` for what may spoil one, `note` for the rest."""
    said: str


class _Seen(NamedTuple):
    name: str
    size: tuple[int, int] = (0, 0)
    channels: int = 1
    flat: bool = False
    text: bool = False
    notes: tuple[str, ...] = ()
    thumbnail_HW: np.ndarray | None = None
    message: str = ""


def odd_images(cohort: Cohort, sample: int = SAMPLE) -> tuple[int, list[Oddity]]:
    """How many images were read, evenly over the present rows, and what is odd about them."""
    count = min(sample, cohort.present.num_rows)
    positions = np.linspace(0, cohort.present.num_rows - 1, count).astype(int) if count else []
    files, voi = cohort.files(), cohort.intensity.voi if cohort.intensity else ""

    def look(k: int) -> _Seen:
        i = int(positions[k])
        try:
            data = files.read(i)
            with room_to_decode(data):
                pixels, notes = decode_raw(data, files.names[i], voi)
                if pixels.dtype == np.uint16 and cohort.intensity:
                    pixels = cohort.intensity.to_8_bit(pixels)
                return _looked_at(pixels, files.names[i], notes)
        except InputError as error:
            return _Seen(files.names[i], message=str(error))

    return count, _oddities(list(in_threads(look, count, "looking at images")))


def _looked_at(pixels: np.ndarray, name: str, notes: tuple[str, ...]) -> _Seen:
    small_HW = thumbnail(pixels)
    gray_HW = pixels if pixels.ndim == 2 else pixels.max(axis=2)
    return _Seen(
        name,
        (pixels.shape[1], pixels.shape[0]),
        1 if pixels.ndim == 2 else 3,
        flat=float(small_HW.std()) < _FLAT,
        text=has_text_at_border(gray_HW),
        notes=notes,
        thumbnail_HW=small_HW,
    )


def has_text_at_border(gray_HW: np.ndarray) -> bool:
    """Whether the border of an image, a tenth of it on each side, is full of letters: many hard edges, and
    few in the middle."""
    down, right = (max(1, side // _BORDER) for side in gray_HW.shape)
    edges_HW = np.abs(np.diff(gray_HW.astype(np.int16), axis=1)) > _EDGE
    middle_HW = edges_HW[down:-down, right:-right]
    border = edges_HW.size - middle_HW.size
    if not border or not middle_HW.size:
        return False
    share = (edges_HW.sum() - middle_HW.sum()) / border
    return bool(share > _TEXT and share > _TIMES_MIDDLE * middle_HW.mean())


def _oddities(seen: list[_Seen]) -> list[Oddity]:
    unreadable = [one for one in seen if one.message]
    read = [one for one in seen if not one.message]
    found = []
    if unreadable:
        found.append(Oddity("error", f"{len(unreadable)} cannot be read: {unreadable[0].message}"))
    for said, odd in (
        ("show nothing, all of nearly one gray", [one for one in read if one.flat]),
        ("look like negatives of the others", _negatives(read)),
        ("have text at their border, which may name people or give labels away", [o for o in read if o.text]),
    ):
        if odd:
            found.append(Oddity("warning", f"{len(odd)} {said} ({_first(odd)})"))
    notes = Counter(note for one in read for note in one.notes)
    found += [Oddity("note", f"{count} {note}") for note, count in sorted(notes.items())]
    sizes, channels = Counter(one.size for one in read), Counter(one.channels for one in read)
    if len(read) > 1 and len(sizes) == 1:
        width, height = next(iter(sizes))
        found.append(Oddity("note", f"all are {width} x {height} pixels, as after resizing"))
    if len(channels) > 1:
        found.append(Oddity("note", f"{channels[1]} are gray and {channels[3]} in colour"))
    return found


def _negatives(read: list[_Seen]) -> list[_Seen]:
    """Those that correlate with the median image as its negative would, where most do as a copy would."""
    shown = [one for one in read if not one.flat]
    if len(shown) < 3:
        return []
    images_NP = np.stack([one.thumbnail_HW.reshape(-1) for one in shown]).astype(np.float64)
    median_P = np.median(images_NP, axis=0)
    if median_P.std() < _FLAT:
        return []
    correlation_N = np.array([np.corrcoef(image_P, median_P)[0, 1] for image_P in images_NP])
    if np.median(correlation_N) < _ALIKE:
        return []
    return [one for one, value in zip(shown, correlation_N, strict=True) if value < _OPPOSITE]


def _first(images: list[_Seen]) -> str:
    return ", ".join(one.name for one in images[:3]) + (", ..." if len(images) > 3 else "")
