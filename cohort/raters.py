"""Several raters of one image: one answer out of many, and how far they agree.

Shape legend: R ratings (an image by a rater), N images, C labels, K answers (negative, positive, uncertain).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cohort.errors import InputError

_ANSWERS = (0.0, 1.0, -1.0)


@dataclass(frozen=True, kw_only=True)
class Raters:
    """How the labels of a cohort came out of several raters, and how far these agree."""

    rule: str
    """One of `cohort.labels.ANSWER_RULES`, or the name of the rater who is believed."""

    count: int
    """Of different raters."""

    images: int
    """With two raters at least, which the figures below are of."""

    statistic: str
    """`Cohen's kappa` where all these images have the same two raters, otherwise `Fleiss' kappa`."""

    disagreements: Mapping[str, int]
    """Label -> images on which raters give different answers."""

    kappa: Mapping[str, float | None]
    """Label -> agreement beyond chance; None where every answer is the same."""

    def to_dict(self) -> dict[str, Any]:
        return vars(self) | {"disagreements": dict(self.disagreements), "kappa": dict(self.kappa)}

    @classmethod
    def from_dict(cls, written: Mapping[str, Any]) -> Raters:
        """InputError, TypeError or AttributeError for what `to_dict` would not give."""
        raters = cls(**written)
        counts = [raters.count, raters.images, *raters.disagreements.values()]
        kappas = [kappa for kappa in raters.kappa.values() if kappa is not None]
        if not all(type(count) is int and count >= 0 for count in counts) or not all(
            isinstance(kappa, int | float) and -1 <= kappa <= 1 for kappa in kappas
        ):
            raise InputError("raters must have counts and kappas from -1 to 1")
        if not (isinstance(raters.rule, str) and isinstance(raters.statistic, str)):
            raise InputError("raters must have a rule and a statistic in words")
        return raters


def combine(raw_RC: np.ndarray, image_R: np.ndarray, rule: str) -> np.ndarray:
    """raw_NC, float64 (N, C): one answer per image and label, out of the ratings that are not blank.

    `any`: positive where one rating is, else uncertain where one is. `majority`: what more than half of them
    say, uncertain where nothing is. `all`: positive where all are, negative where one is, else uncertain.

    Args:
        raw_RC: 1, 0, -1 (uncertain), NaN (blank).
        image_R: int, the image of each rating, 0..N-1, none of them left out.
    """
    negative_NC, positive_NC, uncertain_NC = (_counts(raw_RC == answer, image_R) for answer in _ANSWERS)
    given_NC = negative_NC + positive_NC + uncertain_NC
    if rule == "any":
        positive, negative = positive_NC > 0, (positive_NC == 0) & (uncertain_NC == 0)
    elif rule == "majority":
        positive, negative = 2 * positive_NC > given_NC, 2 * negative_NC > given_NC
    else:
        positive, negative = positive_NC == given_NC, negative_NC > 0
    return np.select([given_NC == 0, positive, negative], [np.nan, 1.0, 0.0], default=-1.0)


def agreement(
    raw_RC: np.ndarray, image_R: np.ndarray, rater_R: Sequence[str], labels: Sequence[str], rule: str
) -> Raters:
    """How far raters agree on the images that two at least have rated; arguments as those of `combine`.

    Cohen's kappa (Cohen 1960) of two raters, otherwise Fleiss' (Fleiss 1971), in its form for different
    numbers of ratings per image.
    """
    names, rater_R = np.unique(np.asarray(rater_R, dtype=object).astype(str), return_inverse=True)
    several_R = np.bincount(image_R)[image_R] > 1
    two = len(np.unique(rater_R[several_R])) == 2
    kappa, disagreements = {}, {}
    for c, label in enumerate(labels):
        rated_R = several_R & ~np.isnan(raw_RC[:, c])
        count_NK = np.stack(
            [_counts((raw_RC[:, [c]] == answer) & rated_R[:, None], image_R)[:, 0] for answer in _ANSWERS],
            axis=1,
        )
        count_NK = count_NK[count_NK.sum(axis=1) > 1]
        disagreements[label] = int(((count_NK > 0).sum(axis=1) > 1).sum())
        by_rater = None
        if two:
            in_both_R = rated_R & (_counts(rated_R[:, None], image_R)[image_R, 0] > 1)
            by_rater = [
                np.array([(cells_R == answer).sum() for answer in _ANSWERS]) / max(len(cells_R), 1)
                for cells_R in (raw_RC[in_both_R & (rater_R == one), c] for one in set(rater_R[several_R]))
            ]
        kappa[label] = _kappa(count_NK, by_rater)
    return Raters(
        rule=rule,
        count=len(names),
        images=int((np.bincount(image_R) > 1).sum()),
        statistic="Cohen's kappa" if two else "Fleiss' kappa",
        disagreements=disagreements,
        kappa=kappa,
    )


def _kappa(count_NK: np.ndarray, by_rater: Sequence[np.ndarray] | None) -> float | None:
    """`by_rater`: the share of each answer by each of two raters; None for Fleiss' chance agreement."""
    if not len(count_NK):
        return None
    total_N = count_NK.sum(axis=1)
    observed = ((count_NK**2).sum(axis=1) - total_N) / (total_N * (total_N - 1))
    if by_rater is None:
        share_K = count_NK.sum(axis=0) / count_NK.sum()
        by_rater = share_K, share_K
    chance = float((by_rater[0] * by_rater[1]).sum())
    return None if chance > 1 - 1e-12 else float((observed.mean() - chance) / (1 - chance))


def _counts(is_RC: np.ndarray, image_R: np.ndarray) -> np.ndarray:
    """int64 (N, C): how many ratings of an image are so."""
    counts_NC = np.zeros((int(image_R.max(initial=-1)) + 1, is_RC.shape[1]), dtype=np.int64)
    np.add.at(counts_NC, image_R, is_RC.astype(np.int64))
    return counts_NC
