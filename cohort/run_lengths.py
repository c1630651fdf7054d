"""Masks as runs: how many pixels are out, then in, then out, ... down one column after the other, which is
COCO's order. pycocotools, which reads polygons, is not asked: of runs that do not fill the image it gives
memory that nobody wrote.

Shape legend: H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from cohort.errors import InputError


def runs_of(mask_HW: np.ndarray) -> list[int]:
    """Lengths of the runs of a bool mask; the first is of pixels outside, and may be 0."""
    flat = np.asarray(mask_HW, dtype=bool).ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    ends = [0, *edges.tolist(), len(flat)]
    runs = [stop - start for start, stop in pairwise(ends)]
    return [0, *runs] if len(flat) and flat[0] else runs


def mask_of(runs: Sequence[int], height: int, width: int) -> np.ndarray:
    """bool (H, W); InputError where the runs are negative or do not fill the image."""
    pixels = height * width
    # Summed as Python sums: in 64 bits long runs come round to the right number.
    if min(runs, default=0) < 0 or sum(runs) != pixels:
        raise InputError(f"the mask's runs do not fill the {pixels:,} pixels of {width} x {height}")
    lengths = np.asarray(runs, dtype=np.int64)
    inside = np.arange(len(lengths)) % 2 == 1
    return np.repeat(inside, lengths).reshape((height, width), order="F")


def runs_of_coco(counts: str) -> list[int]:
    """The runs that COCO's compressed string stands for: base 32 in printable characters, each but the first
    three as the difference from the last but one. InputError where it is none."""
    runs: list[int] = []
    value, shift = 0, 0
    for character in counts:
        digit = ord(character) - 48
        if not 0 <= digit < 64 or shift > 60:
            raise InputError(f"not a compressed run-length string of COCO: {counts[:30]!r}")
        value |= (digit & 31) << shift
        shift += 5
        if digit & 32:
            continue
        if digit & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value, shift = 0, 0
    if shift or any(run < 0 for run in runs):
        raise InputError(f"not a compressed run-length string of COCO: {counts[:30]!r}")
    return runs


def runs_of_siim(text: str, pixels: int) -> list[int]:
    """The runs of SIIM-ACR's pairs: a start, counted from the end of the run before, and a length.

    Args:
        pixels: of the whole image.

    Raises:
        InputError: no pairs of numbers, or more pixels than there are.
    """
    words = text.split()
    if len(words) % 2 or not all(word.isascii() and word.isdigit() and len(word) < 12 for word in words):
        raise InputError(f"not pairs of a start and a length: {text[:30]!r}")
    runs = list(map(int, words))
    rest = pixels - sum(runs)
    if rest < 0:
        raise InputError(f"its runs fill more than the image's {pixels:,} pixels")
    return [*runs, rest] if rest else runs
