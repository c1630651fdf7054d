"""Intervals of shares: of so many entries so many are hits, several to a patient; and of means in [0, 1].

Shape legend: N images, P patients, C shares.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import betaincinv

from scoring.effective_patients import by_patient

WORST_CASE_PATIENTS = 10
"""Patients that the worst case, in which the entries of a patient are all alike, counts for when the design
effect is estimated: a handful of patients says little about how alike they are."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Shares:
    """Hits among entries, by patient; an entry may be a hit in part, as a squared error is.

    >>> one = np.ones((10, 1))
    >>> shares = Shares.of_images(hits_NC=one, entries_NC=one, rows_N=np.arange(10))
    >>> low_C, high_C = shares.exact()
    >>> shares.value_C.tolist(), low_C.round(2).tolist(), high_C.tolist()
    ([1.0], [0.69], [1.0])
    """

    hits_PC: np.ndarray
    entries_PC: np.ndarray
    """Both float64, not negative; hits <= entries."""
    whole: bool = True
    """Whether every entry is a hit or none, so that there cannot be more effective entries than entries."""

    @classmethod
    def of_images(
        cls, hits_NC: np.ndarray, entries_NC: np.ndarray, rows_N: np.ndarray, whole: bool = True
    ) -> Shares:
        """From counts, or yes and no, of each image; `rows_N` are the patients' integer codes from 0."""
        hits_PC, entries_PC = by_patient(hits_NC, rows_N), by_patient(entries_NC, rows_N)
        return cls(hits_PC=hits_PC, entries_PC=entries_PC, whole=whole)

    @cached_property
    def value_C(self) -> np.ndarray:
        """float64 in [0, 1]; 0 without an entry."""
        return _ratio(self.hits_PC.sum(axis=0), self.entries_PC.sum(axis=0))

    @cached_property
    def effective_C(self) -> np.ndarray:
        """float64: the entries, if all were independent, that would tell as much.

        Entries over the design effect, as Korn and Graubard's (Survey Methodology 24, 1998). The design
        effect is the mean of the estimated one, linearised over patients, and of Kish's worst case, sum m^2 /
        sum m for m entries a patient. The estimate weighs the effective number of patients with hits or with
        misses, whichever is smaller, and the worst case `WORST_CASE_PATIENTS`: without a hit or a miss
        nothing is seen of how alike the entries of a patient are. With one entry per patient it is their
        number.
        """
        entries_C = self.entries_PC.sum(axis=0)
        worst_C = _ratio((self.entries_PC**2).sum(axis=0), entries_C)
        binomial_C = self.value_C * (1 - self.value_C) * entries_C
        estimated_C = _ratio((self.residual_PC**2).sum(axis=0), binomial_C)
        if self.whole:
            estimated_C = np.maximum(estimated_C, 1)
        sides = (self.hits_PC, self.entries_PC - self.hits_PC)
        seen_C = np.minimum(*(_ratio(side.sum(axis=0) ** 2, (side**2).sum(axis=0)) for side in sides))
        effect_C = (seen_C * estimated_C + WORST_CASE_PATIENTS * worst_C) / (seen_C + WORST_CASE_PATIENTS)
        return _ratio(entries_C, effect_C)

    def exact(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Clopper and Pearson's limits (Biometrika 26, 1934), of the effective entries; (0, 1) without."""
        return beta_limits(self.value_C, self.effective_C, exact=True, level=level)

    def jeffreys(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Jeffreys' limits, which cover the level on average and not at least."""
        return beta_limits(self.value_C, self.effective_C, exact=False, level=level)

    @cached_property
    def residual_PC(self) -> np.ndarray:
        """float64: what each patient adds to the error of the shares; sums to 0 over patients."""
        return self.hits_PC - self.value_C * self.entries_PC


def beta_limits(
    value: np.ndarray, number: np.ndarray, *, exact: bool, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Two-sided limits of a share of `number` entries, which need be no whole number.

    Clopper and Pearson's, or Jeffreys' (Brown, Cai and DasGupta, Statistical Science 16, 2001), which are 0
    and 1 where nothing, or everything, is a hit.

    >>> low, high = beta_limits(1.0, 10, exact=True)
    >>> low.round(2).item(), high.item()
    (0.69, 1.0)
    """
    value, number = np.broadcast_arrays(
        np.asarray(value, dtype=np.float64), np.asarray(number, dtype=np.float64)
    )
    tail, half = (1 - level) / 2, 0.0 if exact else 0.5
    hits, misses = value * number, (1 - value) * number
    with np.errstate(invalid="ignore"):
        low = betaincinv(hits + half, misses + 1 - half, tail)
        high = betaincinv(hits + 1 - half, misses + half, 1 - tail)
    return np.where(hits > 0, low, 0.0), np.where(misses > 0, high, 1.0)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)
