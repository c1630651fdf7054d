"""Metrics that rise with a share of entries: their hits and entries, and the value that belongs to a share.

`of_...` gives hits and entries of each image, (N, C), or (N, 1) of what is no label's own; `..._of` gives the
value of a share, float64 of its shape.

Shape legend: N images, C labels.
"""

from __future__ import annotations

import numpy as np

from scoring import grades, metrics
from scoring.model_output import ModelOutput


def _known(p: ModelOutput) -> np.ndarray:
    return ~np.isnan(p.targets_NC)


def of_decided(p: ModelOutput) -> tuple[np.ndarray, np.ndarray]:
    """Precision: positives among what is decided present.

    >>> said = ModelOutput(targets_NC=np.eye(2), scores_NC=np.eye(2), decisions_NC=np.eye(2)[[0, 0]] == 1)
    >>> [part.tolist() for part in of_decided(said)]
    [[[True, False], [False, False]], [[True, False], [True, False]]]
    """
    return p.decisions_NC & (p.targets_NC == 1), p.decisions_NC & _known(p)


def of_positives(p: ModelOutput) -> tuple[np.ndarray, np.ndarray]:
    """Recall: decided present among positives.

    >>> said = ModelOutput(targets_NC=np.eye(2), scores_NC=np.eye(2), decisions_NC=np.eye(2)[[0, 0]] == 1)
    >>> [part.tolist() for part in of_positives(said)]
    [[[True, False], [False, False]], [[True, False], [False, True]]]
    """
    return p.decisions_NC & (p.targets_NC == 1), p.targets_NC == 1


def of_negatives(p: ModelOutput) -> tuple[np.ndarray, np.ndarray]:
    """Specificity: decided absent among negatives.

    >>> said = ModelOutput(targets_NC=np.eye(2), scores_NC=np.eye(2), decisions_NC=np.eye(2)[[0, 0]] == 1)
    >>> [part.tolist() for part in of_negatives(said)]
    [[[False, True], [False, False]], [[False, True], [True, False]]]
    """
    return ~p.decisions_NC & (p.targets_NC == 0), p.targets_NC == 0


def of_either(p: ModelOutput) -> tuple[np.ndarray, np.ndarray]:
    """Jaccard's index: F1 = 2 J / (1 + J) rises with it (Hand, Christen and Kirielle, Machine Learning 110,
    2021).

    >>> said = ModelOutput(targets_NC=np.eye(2), scores_NC=np.eye(2), decisions_NC=np.eye(2)[[0, 0]] == 1)
    >>> [part.tolist() for part in of_either(said)]
    [[[True, False], [False, False]], [[True, False], [True, True]]]
    """
    positive_NC = p.targets_NC == 1
    return p.decisions_NC & positive_NC, (p.decisions_NC & _known(p)) | positive_NC


def f1_of(share: np.ndarray, _: ModelOutput) -> np.ndarray:
    """Of Jaccard's index.

    >>> f1_of(np.array([0.5]), None).round(3).tolist()
    [0.667]
    """
    return 2 * share / (1 + share)


def of_squared_errors(p: ModelOutput) -> tuple[np.ndarray, np.ndarray]:
    """Squared errors of probabilities: a hit in part.

    >>> said = ModelOutput(
    ...     targets_NC=np.ones((1, 1)), scores_NC=np.ones((1, 1)),
    ...     decisions_NC=np.ones((1, 1)) == 1, probs_NC=np.array([[0.5]]),
    ... )
    >>> [part.tolist() for part in of_squared_errors(said)]
    [[[0.25]], [[True]]]
    """
    known_NC = _known(p)
    return np.where(known_NC, (p.probs_NC - np.nan_to_num(p.targets_NC)) ** 2, 0), known_NC


def of_right(p: ModelOutput) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy of multiclass decisions: images decided right.

    >>> said = ModelOutput(targets_NC=np.eye(2), scores_NC=np.eye(2), decisions_NC=np.eye(2)[[0, 0]] == 1)
    >>> [part.tolist() for part in of_right(said)]
    [[[1], [0]], [[1], [1]]]
    """
    hits_NC, entries_NC = of_positives(p)
    return hits_NC.sum(axis=1, keepdims=True), entries_NC.sum(axis=1, keepdims=True)


def of_exact(p: ModelOutput) -> tuple[np.ndarray, np.ndarray]:
    """Exact match: images with every label decided right.

    >>> said = ModelOutput(targets_NC=np.eye(2), scores_NC=np.eye(2), decisions_NC=np.eye(2)[[0, 0]] == 1)
    >>> [part.tolist() for part in of_exact(said)]
    [[[True], [False]], [[True], [True]]]
    """
    right_N1 = metrics.exact_match(p.targets_NC, p.decisions_NC)[:, None]
    return right_N1 == 1, ~np.isnan(right_N1)


def kappa_of(share: np.ndarray, p: ModelOutput) -> np.ndarray:
    """Cohen's kappa of an accuracy, where as much agreement is by chance as there was (Cohen 1960).

    >>> said = ModelOutput(targets_NC=np.eye(2), scores_NC=np.eye(2), decisions_NC=np.eye(2)[[0, 0]] == 1)
    >>> kappa_of(np.array([0.5, 1.0]), said).tolist()
    [0.0, 1.0]
    """
    images = p.counts.tp + p.counts.fn
    by_chance = float((images * (p.counts.tp + p.counts.fp)).sum()) / float(images.sum()) ** 2
    if by_chance == 1:
        return np.full_like(share, np.nan)
    return np.maximum((share - by_chance) / (1 - by_chance), -1.0)


def of_grade_errors(p: ModelOutput) -> tuple[np.ndarray, np.ndarray]:
    """Mean absolute error of grades: 0 for the right one, 1 for the one at the other end of the scale.

    >>> said = ModelOutput(targets_NC=np.eye(2), scores_NC=np.eye(2), decisions_NC=np.eye(2)[[0, 0]] == 1)
    >>> [part.tolist() for part in of_grade_errors(said)]
    [[[0.0], [1.0]], [[True], [True]]]
    """
    off_N = grades.grade_error(p.targets_NC, p.decisions_NC)
    known_N1 = ~np.isnan(off_N)[:, None]
    return np.nan_to_num(off_N)[:, None] / (p.targets_NC.shape[1] - 1), known_N1


def grade_error_of(share: np.ndarray, p: ModelOutput) -> np.ndarray:
    """In grades.

    >>> said = ModelOutput(targets_NC=np.eye(2), scores_NC=np.eye(2), decisions_NC=np.eye(2)[[0, 0]] == 1)
    >>> grade_error_of(np.array([0.5]), said).tolist()
    [0.5]
    """
    return share * (p.targets_NC.shape[1] - 1)


def of_near_grades(p: ModelOutput) -> tuple[np.ndarray, np.ndarray]:
    """Quadratic weighted kappa: 1 for the right grade, less by the squared distance.

    >>> said = ModelOutput(targets_NC=np.eye(2), scores_NC=np.eye(2), decisions_NC=np.eye(2)[[0, 0]] == 1)
    >>> [part.tolist() for part in of_near_grades(said)]
    [[[1.0], [0.0]], [[True], [True]]]
    """
    far_N1, known_N1 = of_grade_errors(p)
    return np.where(known_N1, 1 - far_N1**2, 0), known_N1


def quadratic_kappa_of(share: np.ndarray, p: ModelOutput) -> np.ndarray:
    """The quadratic weighted kappa, where as much disagreement is by chance as there was.

    >>> said = ModelOutput(targets_NC=np.eye(2), scores_NC=np.eye(2), decisions_NC=np.eye(2)[[0, 0]] == 1)
    >>> quadratic_kappa_of(np.array([0.5, 1.0]), said).tolist()
    [0.0, 1.0]
    """
    by_chance = grades.squared_grade_error_by_chance(p.counts)
    if by_chance == 0:
        return np.full_like(share, np.nan)
    return np.maximum(1 - (1 - share) * (p.targets_NC.shape[1] - 1) ** 2 / by_chance, -1.0)
