"""Several labels as one: their average, and domains, which are present where any of their labels is.

Shapes: N images, C labels; "..." is any leading shape or none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np


class Average(NamedTuple):
    """A mean over labels that says over how many.

    >>> found = macro(np.array([0.5, np.nan, 1.0]))
    >>> f"{found.value} over {found.labels_averaged} labels"
    '0.75 over 2 labels'
    """

    value: np.ndarray
    """float64 (...); NaN where no label is defined."""
    labels_averaged: np.ndarray
    """int64 (...)."""


def macro(values_C: np.ndarray, labels_C: np.ndarray | None = None) -> Average:
    """Plain mean of a per-label measure, (..., C), over those of `labels_C` (bool; all) that are defined.

    What is undefined through the data is so for every model, so models compared on the same targets and
    `labels_C` average the same labels.

    >>> macro(np.array([0.5, np.nan, 1.0]), labels_C=np.array([True, True, False])).value.item()
    0.5
    """
    values_C = np.asarray(values_C, dtype=np.float64)
    defined_C = ~np.isnan(values_C) & (True if labels_C is None else labels_C)
    count = defined_C.sum(-1)
    total = np.where(defined_C, values_C, 0.0).sum(-1)
    return Average(np.where(count > 0, total / np.maximum(count, 1), np.nan), count)


def domain_targets(targets_NC: np.ndarray, domains: Mapping[str, Sequence[int]]) -> np.ndarray:
    """Targets of the domains, (N, domains) in their order: 1 where any label of the domain is positive.

    NaN where none is positive and one is masked, since that one may be.

    >>> targets_NC = np.array([[1, np.nan, 0], [0, 0, np.nan]])
    >>> domain_targets(targets_NC, {"lung": [0, 1], "heart": [2]}).tolist()
    [[1.0, 0.0], [0.0, nan]]
    """
    targets_NC = np.asarray(targets_NC)
    columns = [targets_NC[:, list(members)] for members in domains.values()]
    return np.stack([np.where((c == 1).any(1), 1.0, c.max(1)) for c in columns], axis=1)


def domain_scores(scores_NC: np.ndarray, domains: Mapping[str, Sequence[int]]) -> np.ndarray:
    """Score of each domain, (..., N, domains): the highest of its labels' scores.

    Given decisions it says where any label of the domain is decided for.

    >>> domain_scores(np.array([[0.2, 0.7, 0.1]]), {"lung": [0, 1], "heart": [2]}).tolist()
    [[0.7, 0.1]]
    """
    return np.stack(
        [np.asarray(scores_NC)[..., list(members)].max(-1) for members in domains.values()], axis=-1
    )
