"""Thresholds at a wanted sensitivity or specificity.

Shape legend: N images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MEASURES = ("sensitivity", "specificity")


@dataclass(frozen=True)
class OperatingPoint:
    """A sensitivity or specificity that is wanted at least; `str` writes it as `parse` reads it.

    >>> point = OperatingPoint.parse("sensitivity 0.5")
    >>> point.threshold(np.array([1, 1, 0, 0]), np.array([0.9, 0.6, 0.7, 0.1]))
    0.9
    """

    measure: str
    """One of `MEASURES`."""
    wanted: float
    """Above 0, at most 1."""

    @classmethod
    def parse(cls, text: str) -> OperatingPoint:
        """`sensitivity 0.95`; ValueError where it is written otherwise."""
        measure, _, number = text.strip().partition(" ")
        try:
            wanted = float(number)
        except ValueError:
            wanted = float("nan")
        if measure not in MEASURES or not 0 < wanted <= 1:
            raise ValueError(
                f"must be {' or '.join(MEASURES)} and a number above 0 and at most 1, such as "
                "'sensitivity 0.95'"
            )
        return cls(measure, wanted)

    def __str__(self) -> str:
        return f"{self.measure} {self.wanted}"

    def threshold(self, targets_N: np.ndarray, scores_N: np.ndarray) -> float:
        """The score from which on an image is decided for, so that these images have what is wanted.

        Of a sensitivity the highest such score, so that as few negatives as can be are decided for; of a
        specificity the lowest, so that as many positives as can be are. It is the score of one of the
        images, or infinite where a specificity is reached by deciding for none.

        Args:
            targets_N: 0, 1 or NaN where masked.
            scores_N: any scores, finite.

        Returns:
            NaN without a positive or without a negative.
        """
        positive_n, negative_n = (np.sort(scores_N[targets_N == side]) for side in (1, 0))
        if not (len(positive_n) and len(negative_n)):
            return float("nan")
        candidates = np.append(np.unique(scores_N[~np.isnan(targets_N)]), np.inf)
        if self.measure == "sensitivity":
            found = len(positive_n) - np.searchsorted(positive_n, candidates)
            return float(candidates[found / len(positive_n) >= self.wanted].max())
        spared = np.searchsorted(negative_n, candidates)
        return float(candidates[spared / len(negative_n) >= self.wanted].min())
