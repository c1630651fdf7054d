"""Whether what was found on an image fits what is known of it better than what was found on other patients'
images with the same label: a control for all that can be known before the image is seen.

Shape legend: S items (an image and a label), P patients, B draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scoring.paired_tests import permutation_p, sign_flips


@dataclass(frozen=True, kw_only=True, eq=False)
class Matches:
    """The items of one label, each held against each.

    >>> matches = Matches(fits_SS=np.array([[0.9, 0.2], [0.4, 0.8]]), patients_S=np.array([0, 1]))
    >>> matches.own().tolist(), matches.others().tolist()
    ([0.9, 0.8], [0.2, 0.4])
    """

    fits_SS: np.ndarray
    """float: how well what was found on item j (column) fits what is known of item i (row)."""
    patients_S: np.ndarray
    """int: codes from 0, the same for a patient in every label."""

    def own(self) -> np.ndarray:
        """float64 (S,): how well each item is fitted by what was found on itself."""
        return np.diagonal(self.fits_SS).astype(np.float64)

    def others(self) -> np.ndarray:
        """float64 (S,): how well each item is fitted by what was found on other patients, each of them
        counting once; NaN where there is no other."""
        patients_P, row_S = np.unique(self.patients_S, return_inverse=True)
        member_SP = row_S[:, None] == np.arange(len(patients_P))
        mean_SP = self.fits_SS @ (member_SP / member_SP.sum(axis=0))
        total_S = np.where(member_SP, 0, mean_SP).sum(axis=1)
        return total_S / (len(patients_P) - 1) if len(patients_P) > 1 else np.full(len(row_S), np.nan)


def match_p(labels: Sequence[Matches], weights: Sequence[float], *, draws: int, seed: int) -> float:
    """Two-sided p of the weighted sum over labels of the mean fit against that of other patients.

    The larger of two tests' p, as each holds its level where the other does not. Where findings are exchanged
    among patients a ceiling or a rare hit does no harm, but labels that depend on each other are exchanged
    together only as far as the same patients have them. Where the signs of patients' own differences from the
    others are flipped such dependence does no harm, but differences that are not symmetric do.

    >>> matches = Matches(fits_SS=np.eye(12), patients_S=np.arange(12))
    >>> match_p([matches], [1.0], draws=1000, seed=0) < 0.01
    True
    """
    difference_S = np.concatenate(
        [
            weight * (one.own() - one.others()) / len(one.patients_S)
            for one, weight in zip(labels, weights, strict=True)
        ]
    )
    patients_S = np.concatenate([one.patients_S for one in labels])
    patients_S = np.unique(patients_S, return_inverse=True)[1]
    return max(
        permutation_p(*permuted_matches(labels, weights, draws=draws, seed=seed)),
        permutation_p(*sign_flips(difference_S, patients_S, draws, seed)),
    )


def permuted_matches(
    labels: Sequence[Matches], weights: Sequence[float], *, draws: int, seed: int
) -> tuple[float, np.ndarray]:
    """Observed weighted sum over labels of the mean fit, and its distribution (B,) where it makes no
    difference on which patient with the label something was found; both less the distribution's mean.

    Each draw is one permutation of all patients. Within a label it is followed until it comes to a patient
    with that label, which makes it a random permutation of those, the same for all labels that two patients
    share. Items of a patient get the findings of the other's from a random one on, in turn.

    >>> matches = Matches(fits_SS=np.eye(2), patients_S=np.arange(2))
    >>> observed, null_B = permuted_matches([matches], [1.0], draws=100, seed=0)
    >>> sorted({round(observed - float(value), 9) for value in null_B})
    [0.0, 1.0]
    """
    patients = 1 + max(int(one.patients_S.max()) for one in labels)
    rng = np.random.default_rng(seed)
    giver_PB = rng.random((patients, draws), dtype=np.float32).argsort(axis=0)
    turn_PB = rng.random((patients, draws), dtype=np.float32)
    observed, null_B = 0.0, np.zeros(draws)
    for one, weight in zip(labels, weights, strict=True):
        donor_SB = _donors(one.patients_S, giver_PB, turn_PB)
        items_S1 = np.arange(len(one.patients_S))[:, None]
        observed += weight * float(one.own().mean())
        null_B += weight * one.fits_SS[items_S1, donor_SB].mean(axis=0)
    expected = float(null_B.mean())
    return observed - expected, null_B - expected


def _donors(patients_S: np.ndarray, giver_PB: np.ndarray, turn_PB: np.ndarray) -> np.ndarray:
    """int (S, B): for each item the one whose findings it gets."""
    counts_P = np.bincount(patients_S, minlength=len(giver_PB))
    order_S = np.argsort(patients_S, kind="stable")
    start_P = np.cumsum(counts_P) - counts_P
    within_S = np.empty(len(patients_S), dtype=int)
    within_S[order_S] = np.arange(len(patients_S)) - start_P[patients_S[order_S]]
    draws_B = np.arange(giver_PB.shape[1])
    found_SB = giver_PB[patients_S]
    while (absent_SB := counts_P[found_SB] == 0).any():
        found_SB = np.where(absent_SB, giver_PB[found_SB, draws_B], found_SB)
    itself_SB = found_SB == patients_S[:, None]
    offset_SB = np.where(itself_SB, 0, (turn_PB[patients_S] * counts_P[found_SB]).astype(int))
    return order_S[start_P[found_SB] + (within_S[:, None] + offset_SB) % counts_P[found_SB]]
