"""Labels that held-out scores contradict: confident learning, label by label.

A label is contradicted where a model that did not train on the image holds the opposite for likelier, and is
as sure of it as it is, on average, of images that bear the opposite label (Northcutt, Jiang and Chuang,
"Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 2021, eq. 2, as the library cleanlab has
it; that imports pandas and scikit-learn, which this room does without). That equation alone would call an
absent rare label with a probability of 0.02 contradicted where the images that bear it have no more on
average. What is contradicted is a candidate for a second look: a model's errors are among it.

Shape legend: N images, C labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Contradictions:
    """What is contradicted of the labels that were given.

    >>> targets_NC = np.array([[1], [1], [0], [0], [0]])
    >>> found = contradictions(targets_NC, np.array([[0.9], [0.8], [0.1], [0.2], [0.95]]))
    >>> found.quality_NC[:, 0].round(2).tolist(), found.expected_C.round(2).tolist()
    ([0.9, 0.8, 0.9, 0.8, 0.05], [0.45])
    """

    contradicted_NC: np.ndarray
    """bool."""
    quality_NC: np.ndarray
    """float64 in [0, 1], the probability of the given label (self-confidence), NaN where masked: the lower,
    the less is it believed."""
    expected_C: np.ndarray
    """float64: how many would be contradicted of labels that are all right, if the probabilities were."""


def contradictions(
    targets_NC: np.ndarray, probs_NC: np.ndarray, *, multiclass: bool = False
) -> Contradictions:
    """Find the contradicted labels.

    Args:
        targets_NC: 0, 1 or NaN where masked.
        probs_NC: probabilities of present, by what did not train on the image; NaN where there is none.
        multiclass: whether an image has exactly one of the labels. A contradicted image is then so in two
            labels: the given one, and the one that is suggested in its place.

    >>> targets_NC = np.array([[1], [1], [0], [0], [0]])
    >>> found = contradictions(targets_NC, np.array([[0.9], [0.8], [0.1], [0.2], [0.95]]))
    >>> found.contradicted_NC[:, 0].tolist()
    [False, False, False, False, True]
    """
    known_NC = ~np.isnan(targets_NC) & ~np.isnan(probs_NC)
    present_NC, absent_NC = known_NC & (targets_NC == 1), known_NC & (targets_NC == 0)
    sure_present_C, sure_absent_C = _mean_where(probs_NC, present_NC), _mean_where(1 - probs_NC, absent_NC)
    with np.errstate(invalid="ignore"):
        says_present_NC, says_absent_NC = probs_NC >= sure_present_C, 1 - probs_NC >= sure_absent_C
        says_present_NC &= known_NC
        says_absent_NC &= known_NC & (probs_NC < 0.5)
    if multiclass:
        likeliest_N1 = np.nan_to_num(probs_NC, nan=-1.0).argmax(axis=1)[:, None]
        suggested_NC = says_present_NC & (np.arange(probs_NC.shape[1]) == likeliest_N1)
        elsewhere_N = (suggested_NC & absent_NC).any(axis=1)
        contradicted_NC = (suggested_NC & absent_NC) | (present_NC & elsewhere_N[:, None])
        expected_C = np.where(suggested_NC, 1 - probs_NC, 0.0).sum(axis=0)
    else:
        says_present_NC &= probs_NC > 0.5
        contradicted_NC = (says_present_NC & absent_NC) | (says_absent_NC & present_NC)
        wrong_NC = np.where(says_present_NC, 1 - probs_NC, np.where(says_absent_NC, probs_NC, 0.0))
        expected_C = wrong_NC.sum(axis=0)
    quality_NC = np.where(targets_NC == 1, probs_NC, 1 - probs_NC)
    return Contradictions(contradicted_NC, np.where(known_NC, quality_NC, np.nan), expected_C)


def _mean_where(values_NC: np.ndarray, which_NC: np.ndarray) -> np.ndarray:
    """(C,); infinite where there is none, so that nothing reaches it."""
    counts_C = which_NC.sum(axis=0)
    sums_C = np.where(which_NC, values_NC, 0.0).sum(axis=0)
    return np.where(counts_C > 0, sums_C / np.maximum(counts_C, 1), np.inf)
