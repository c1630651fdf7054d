"""A predictor: an encoder, linear heads on its features, and the rule that turns their scores into decisions.

Every row of a table but the random one is a predictor: a trained head, a logistic regression, zero-shot
(prototypes are its weights), the constant prevalence (weights of zero). A bundle is a saved one.

Shape legend: N images, D features, C labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scoring.decision_rule import DecisionRule
from scoring.predictions import Origin
from vlm.linear_head import LinearHead

if TYPE_CHECKING:
    from vlm.encoders import Encoder  # brings torch along, which a page of text does without


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictor:
    """One way from an image to a score and a decision a label; ValueError where its parts do not fit."""

    name: str
    """Its row in every table."""
    labels: tuple[str, ...]
    encoder: Encoder
    heads: tuple[LinearHead, ...]
    """One at least; scores are the mean of theirs."""
    ranks_only: bool = False
    """Its scores are no logits: only their order means something."""
    rule: DecisionRule
    precision: str = "fp32"
    """Of the encoder's products when the heads were trained: fp32, bf16 or fp16."""
    origin: Origin

    def __post_init__(self) -> None:
        width, labels = self.encoder.width, len(self.labels)
        if not self.heads or any(
            head.columns.stop > width or len(head.bias_C) != labels for head in self.heads
        ):
            found = [(head.columns.stop, len(head.bias_C)) for head in self.heads]
            raise ValueError(
                f"heads must be one at least, of at most {width} columns and {labels} labels, not {found}"
            )
        if len(self.rule.thresholds_C) != len(self.labels):
            raise ValueError(
                f"rule must have {len(self.labels)} thresholds, not {len(self.rule.thresholds_C)}"
            )

    @property
    def constant(self) -> bool:
        """Whether every image gets the same scores, so that nothing is ranked."""
        return not any(head.weight_DC.any() for head in self.heads)

    def scores(self, features_ND: np.ndarray) -> np.ndarray:
        """float64 (N, C): logits, or what only ranks; of the encoder's raw features."""
        return np.mean([head.logits(features_ND).astype(np.float64) for head in self.heads], axis=0)

    def probabilities(self, features_ND: np.ndarray) -> np.ndarray:
        """float64 (N, C) in [0, 1], see `DecisionRule.probabilities`; of raw features as `scores`."""
        return self.rule.probabilities(self.scores(features_ND))
