"""Labels that are the classes of one question, such as a diagnosis: a row has exactly one of them.

Shape legend: N images, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cohort.errors import InputError


def check_exclusive(targets_NC: np.ndarray, labels: Sequence[str]) -> None:
    """InputError where labels cannot be the classes of one question; see `Cohort.exclusive`."""
    if len(labels) < 2:
        raise InputError(f"exclusive labels must be two at least, got {', '.join(labels) or 'none'}")
    fits_N = _one_class_or_masked(targets_NC)
    if not fits_N.all():
        n = int(np.flatnonzero(~fits_N)[0])
        has = ", ".join(label for c, label in enumerate(labels) if targets_NC[n, c] == 1) or "none"
        raise InputError(
            f"exclusive labels must be exactly one a row, but row {n + 1} has {has}; take them as "
            "independent findings"
        )


def is_exclusive(targets_NC: np.ndarray) -> bool:
    """Whether labels may be the classes of one question: two at least, exactly one of them in every row that
    is not masked whole, and one such row."""
    known = not np.isnan(targets_NC).all()
    return targets_NC.shape[1] >= 2 and known and bool(_one_class_or_masked(targets_NC).all())


def _one_class_or_masked(targets_NC: np.ndarray) -> np.ndarray:
    masked_NC = np.isnan(targets_NC)
    return masked_NC.all(axis=1) | (~masked_NC.any(axis=1) & (np.nansum(targets_NC, axis=1) == 1))
