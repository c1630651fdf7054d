"""One row of the predictions on the images on which it is judged.

Shape legend: M judged development images, N images of the evaluation set, C labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scoring.decision_rule import DecisionRule
from scoring.judging import SHRINKAGE
from scoring.predictions import Origin, PredictionRow


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredRow:
    """One row of the tables; thresholds and all else were fitted without the evaluation set."""

    id: str
    """Joins tables; see `scoring.predictions.PredictionRow`."""
    name: str
    """Shown, and never compared with."""
    role: str
    origin: Origin
    rule: DecisionRule
    ranks_only: bool
    constant: bool
    """Every image gets the same scores, so that nothing is ranked."""
    val_scores_NC: np.ndarray
    """float64 (M, C): by what was not trained on the image; NaN in the lines of which there is no such
    score."""
    test_scores_NC: np.ndarray
    """float64 (N, C), as the row gives them."""

    @classmethod
    def of(cls, row: PredictionRow, judged_N: np.ndarray, evaluated_N: np.ndarray) -> ScoredRow:
        """The places are those of the images in the table."""
        return cls(
            id=row.id,
            name=row.name,
            role=row.role,
            origin=row.origin,
            rule=row.rule,
            ranks_only=row.ranks_only,
            constant=row.constant,
            val_scores_NC=row.scores_NC[judged_N],
            test_scores_NC=row.scores_NC[evaluated_N],
        )

    @property
    def note(self) -> str:
        """What it knows, for the reader of the table."""
        return self.origin.note

    @property
    def objective(self) -> float:
        """The study's objective on validation, of what was chosen by it."""
        return self.origin.objective

    @property
    def test_unit_NC(self) -> np.ndarray:
        """The scores on [0, 1], order kept: probabilities of logits."""
        return self.rule.probabilities(self.test_scores_NC)

    @property
    def test_ranked_NC(self) -> np.ndarray:
        """What ranks the images for a label: its score, of multiclass labels its probability, as
        `scoring.judging.objective` has it."""
        return self.test_unit_NC if self.rule.multiclass else self.test_scores_NC

    @property
    def test_decisions_NC(self) -> np.ndarray:
        """bool (N, C)."""
        return self.rule.decide(self.test_scores_NC)

    @property
    def shrinkage(self) -> float:
        """Strength of its threshold strategy `shrunk`."""
        return self.origin.params.get("threshold_shrinkage", SHRINKAGE)
