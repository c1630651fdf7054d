"""When a finding is decided present: thresholds on the scale of probabilities.

Shape legend: N images, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scoring.judging import LOGITS, Scale
from scoring.multiclass_thresholds import decide_one
from scoring.thresholds import shares_global


@dataclass(frozen=True, kw_only=True, eq=False)
class DecisionRule:
    """When a finding is decided present: where its probability, the score on the rule's scale, is at least
    its threshold; of multiclass labels the one with the highest log(probability) - logit(threshold).

    >>> rule = DecisionRule.fitted("per_label", [0.2, 0.5], few_C=np.array([False, True]))
    >>> scores_NC = np.array([[-1.0, -1.0]])
    >>> rule.probabilities(scores_NC).round(2).tolist(), rule.decide(scores_NC).tolist()
    ([[0.27, 0.27]], [[True, False]])
    """

    strategy: str
    """How the thresholds were fitted; one of the STRATEGIES of `scoring.thresholds`, or of
    `scoring.multiclass_thresholds`."""
    thresholds_C: np.ndarray
    """float64 in [0, 1]."""
    shared_C: np.ndarray
    """bool: labels that hold the global threshold, of multiclass labels 0.5, for want of positive patients of
    their own."""
    scale: Scale = LOGITS
    multiclass: bool = False
    """Whether exactly one label is decided for an image, and the probabilities of an image sum to 1."""

    def __post_init__(self) -> None:
        thresholds_C = self.thresholds_C
        if thresholds_C.ndim != 1 or not ((thresholds_C >= 0) & (thresholds_C <= 1)).all():
            raise ValueError(f"thresholds_C must be one number in [0, 1] a label, not {thresholds_C}")
        if self.shared_C.shape != thresholds_C.shape or self.shared_C.dtype != bool:
            raise ValueError(f"shared_C must be bool {thresholds_C.shape}, not {self.shared_C}")
        if not isinstance(self.multiclass, bool):
            raise ValueError(f"multiclass must be true or false, not {self.multiclass!r}")

    @classmethod
    def fitted(
        cls,
        strategy: str,
        thresholds_C: Sequence[float],
        few_C: np.ndarray,
        scale: Scale = LOGITS,
        multiclass: bool = False,
    ) -> DecisionRule:
        """A strategy's thresholds; `few_C` (bool) are the labels too rare for one of their own."""
        return cls(
            strategy=strategy,
            thresholds_C=np.asarray(thresholds_C, dtype=np.float64),
            shared_C=shares_global(strategy, few_C),
            scale=scale,
            multiclass=multiclass,
        )

    @classmethod
    def fixed(cls, labels: int, multiclass: bool = False) -> DecisionRule:
        """0.5 for every label."""
        return cls.fitted("fixed", np.full(labels, 0.5), np.zeros(labels, dtype=bool), multiclass=multiclass)

    def probabilities(self, scores_NC: np.ndarray) -> np.ndarray:
        """float64 (N, C) in [0, 1]: the scores on the rule's scale, on which its thresholds lie."""
        return self.scale.unit(scores_NC, multiclass=self.multiclass)

    def decide(self, scores_NC: np.ndarray) -> np.ndarray:
        """bool (N, C)."""
        return self.decide_probabilities(self.probabilities(scores_NC))

    def decide_probabilities(self, probs_NC: np.ndarray) -> np.ndarray:
        """bool (N, C): the decisions of what `probabilities` gave."""
        if self.multiclass:
            return decide_one(probs_NC, self.thresholds_C)
        return probs_NC >= self.thresholds_C
