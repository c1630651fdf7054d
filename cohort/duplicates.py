"""Images that stand in a cohort under several ids: the same pixels, whatever their bytes, or nearly the
same.

In two splits such an image tests a model on what it was trained on; of two patients it counts twice wherever
patients are counted; with two labels one of them is wrong.

Shape legend: N images, C labels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cohort.near_duplicates import near_duplicates

_NAMED = 3


class Pair(NamedTuple):
    """Two positions, the first below the second."""

    first: int
    second: int
    correlation: float | None
    """Of their thumbnails; None where the pixels are the same."""


def find_duplicates(pixels: Sequence[str], thumbnails_NHW: np.ndarray) -> list[Pair]:
    """Pairs of images that are the same, then those that are nearly so (`cohort.near_duplicates`), the most
    alike first; of a group as many pairs as join it.

    Args:
        pixels: digests of the pixels; "" of an image that is like none.
        thumbnails_NHW: aligned with them.
    """
    rows_of = defaultdict(list)
    for n, digest in enumerate(pixels):
        if digest:
            rows_of[digest].append(n)
    same = [Pair(first, other, None) for first, *others in rows_of.values() for other in others]
    distinct = [first for first, *_ in rows_of.values()]
    return same + [Pair(*pair) for pair in near_duplicates(thumbnails_NHW, distinct)]


def joined(names_N: Sequence[str], pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """int64 (N,): codes of the groups that form where images of one name, and those of each pair, belong
    together; in the order of the names where no pair joins two."""
    codes_N = np.unique(np.asarray(names_N), return_inverse=True)[1].astype(np.int64)
    first, second = (codes_N[[pair[k] for pair in pairs]] for k in (0, 1))
    count = int(codes_N.max()) + 1
    links = coo_array((np.ones(len(pairs)), (first, second)), (count, count))
    return connected_components(links, directed=False)[1].astype(np.int64)[codes_N]


def across(pairs: Sequence[Pair], values_N: Sequence[str]) -> list[Pair]:
    """Those whose two images have different values."""
    return [pair for pair in pairs if values_N[pair.first] != values_N[pair.second]]


def described(pair: Pair, images_N: Sequence[str], values_N: Sequence[str] | None = None) -> str:
    """`a.png (train) = b.png (test)`; `~` and the correlation where the pixels are not the same."""
    ends = pair.first, pair.second
    first, second = (images_N[n] if values_N is None else f"{images_N[n]} ({values_N[n]})" for n in ends)
    if pair.correlation is None:
        return f"{first} = {second}"
    return f"{first} ~ {second}, {floored(pair.correlation)}"


def floored(correlation: float) -> str:
    """With three decimals, never rounded up to 1.000."""
    return f"{np.floor(correlation * 1000 - 1e-9) / 1000:.3f}"


def first_pairs(pairs: Sequence[str]) -> str:
    """The first few of them, and whether there are more."""
    return "; ".join(pairs[:_NAMED]) + ("; ..." if len(pairs) > _NAMED else "")


def positives(targets_NC: np.ndarray, labels: Sequence[str]) -> list[str]:
    """The positive labels of each image in words, `none` where there are none and `masked` where nothing is
    known."""

    def of(targets_C: np.ndarray) -> str:
        if np.isnan(targets_C).all():
            return "masked"
        return " + ".join(labels[c] for c in np.flatnonzero(targets_C == 1)) or "none"

    return [of(targets_C) for targets_C in targets_NC]
