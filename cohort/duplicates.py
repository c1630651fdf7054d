"""Image files that are the same byte by byte under several ids.

In two splits such an image tests a model on what it was trained on; of two patients it counts twice wherever
patients are counted; with two labels one of them is wrong.

Shape legend: N images, C labels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """Groups of images whose files are the same; a list holds a pair of every group concerned, in words."""

    images: int
    """How many images have a copy, counted with it."""

    pairs: list[str]
    """`a.png = b.png` for each group."""

    across_splits: list[str]
    """`a.png (train) = b.png (test)`, for groups that lie in several splits."""

    across_patients: list[str]
    """The same with patients."""

    across_labels: list[str]
    """The same with the positive labels, `none` where there are none and `masked` where nothing is
    known."""


def find_duplicates(
    images: Sequence[str],
    digests: Sequence[str],
    splits: Sequence[str],
    patients: Sequence[str],
    targets_NC: np.ndarray,
    labels: Sequence[str],
) -> Duplicates:
    """The images that share a digest; "", which a missing file has, is none. All arguments but `labels` have
    one entry an image; `targets_NC` holds 1, 0 and NaN for masked."""
    rows_of = defaultdict(list)
    for n, digest in enumerate(digests):
        if digest:
            rows_of[digest].append(n)
    groups = [rows for rows in rows_of.values() if len(rows) > 1]

    def across(values: dict[int, str]) -> list[str]:
        pairs = []
        for first, *others in groups:
            other = next((n for n in others if values[n] != values[first]), None)
            if other is not None:
                pairs.append(f"{images[first]} ({values[first]}) = {images[other]} ({values[other]})")
        return pairs

    concerned = [n for rows in groups for n in rows]
    return Duplicates(
        images=len(concerned),
        pairs=[f"{images[first]} = {images[second]}" for first, second, *_ in groups],
        across_splits=across({n: splits[n] for n in concerned}),
        across_patients=across({n: f"patient {patients[n]}" for n in concerned}),
        across_labels=across({n: _positives(targets_NC[n], labels) for n in concerned}),
    )


def first_pairs(pairs: Sequence[str]) -> str:
    """The first few of them, and whether there are more."""
    return "; ".join(pairs[:_NAMED]) + ("; ..." if len(pairs) > _NAMED else "")


def _positives(targets_C: np.ndarray, labels: Sequence[str]) -> str:
    if np.isnan(targets_C).all():
        return "masked"
    return " + ".join(label for label, target in zip(labels, targets_C, strict=True) if target == 1) or "none"
