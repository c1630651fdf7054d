"""Labels that are the classes of one question, such as a diagnosis: a row has exactly one of them.

Shape legend: N images, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cohort.errors import InputError
from cohort.labels import NO_FINDING

_BY_CHANCE = 1e-3


def check_multiclass(targets_NC: np.ndarray, labels: Sequence[str], images: Sequence[str]) -> None:
    """InputError where labels cannot be the classes of one question, with the id of the first image that
    has not exactly one; see `Cohort.multiclass`."""
    if len(labels) < 2:
        raise InputError(f"multiclass labels must be two at least, got {', '.join(labels) or 'none'}")
    fits_N = _one_class_or_masked(targets_NC)
    if not fits_N.all():
        n = int(np.flatnonzero(~fits_N)[0])
        has = ", ".join(label for c, label in enumerate(labels) if targets_NC[n, c] == 1) or "none"
        raise InputError(
            f"multiclass labels must be exactly one a row, but image {images[n]!r} has {has}; take them as "
            "independent findings"
        )


def is_multiclass(targets_NC: np.ndarray) -> bool:
    """Whether labels may be the classes of one question: two at least, exactly one of them in every row that
    is not masked whole, and one such row."""
    known = not np.isnan(targets_NC).all()
    return targets_NC.shape[1] >= 2 and known and bool(_one_class_or_masked(targets_NC).all())


def more_than_chance(targets_NC: np.ndarray, labels: Sequence[str]) -> bool:
    """Whether multiclass labels are so by more than chance: whether independent findings as frequent as these
    would have one a row in all known rows with a probability below 1 in 1,000.

    "No Finding" stands for the rows without a finding; with one finding beside it the two are one question,
    however few the rows are. `targets_NC` must be multiclass, as `is_multiclass` says.
    """
    known_NC = targets_NC[~np.isnan(targets_NC).all(axis=1)]
    share_C = known_NC[:, [label != NO_FINDING for label in labels]].mean(axis=0)
    if len(share_C) == 1:
        return True
    one = sum(share * np.prod(1 - np.delete(share_C, c)) for c, share in enumerate(share_C))
    none = np.prod(1 - share_C) if NO_FINDING in labels else 0.0
    return bool((one + none) ** len(known_NC) < _BY_CHANCE)


def settle_multiclass(
    asked: bool | None, targets_NC: np.ndarray, labels: Sequence[str], images: Sequence[str]
) -> tuple[bool, list[str]]:
    """Whether labels are taken for multiclass, and warnings: as asked, or by what the rows say where None.

    InputError where multiclass labels are asked for and the rows have others.
    """
    if asked:
        check_multiclass(targets_NC, labels, images)
    if asked is not None or not is_multiclass(targets_NC):
        return bool(asked), []
    if more_than_chance(targets_NC, labels):
        return True, []
    return False, [
        f"each of the {len(images)} rows has one label, as it may happen by chance in so few: taken for "
        "independent findings; pass --multiclass where they are the classes of one question"
    ]


def in_order(labels: Sequence[str], named: Sequence[str] | None) -> list[int]:
    """The places of grades from the lowest to the highest: as `named`, or by their numbers.

    InputError where nobody named them and some are no numbers.
    """
    if named is not None:
        return [labels.index(label) for label in named]
    try:
        return sorted(range(len(labels)), key=lambda c: float(labels[c]))
    except ValueError:
        raise InputError(
            f"--ordinal: the labels {', '.join(labels)} are not all numbers; name them from the lowest to "
            "the highest with --labels"
        ) from None


def _one_class_or_masked(targets_NC: np.ndarray) -> np.ndarray:
    masked_NC = np.isnan(targets_NC)
    return masked_NC.all(axis=1) | (~masked_NC.any(axis=1) & (np.nansum(targets_NC, axis=1) == 1))
