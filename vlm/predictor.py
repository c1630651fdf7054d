"""A predictor: an encoder, linear heads on its features, and the rule that turns their scores into decisions.

Every row of a table but the random one is a predictor: a trained head, a logistic regression, zero-shot
(prototypes are its weights), the constant prevalence (weights of zero). A bundle is a saved one.

Shape legend: N images, D features, C labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from scoring.exclusive_thresholds import decide_one
from scoring.judging import LOGITS, Scale
from scoring.thresholds import shares_global
from vlm.linear_head import LinearHead

if TYPE_CHECKING:
    from vlm.encoders import Encoder  # brings torch along, which a page of text does without


@dataclass(frozen=True, kw_only=True, eq=False)
class DecisionRule:
    """When a finding is decided present: where its probability, the score on the rule's scale, is at least
    its threshold; of exclusive labels the one with the highest log(probability) - logit(threshold)."""

    strategy: str
    """How the thresholds were fitted; one of the STRATEGIES of `scoring.thresholds`, or of
    `scoring.exclusive_thresholds`."""
    thresholds_C: np.ndarray
    """float64 in [0, 1]."""
    shared_C: np.ndarray
    """bool: labels that hold the global threshold, of exclusive labels 0.5, for want of positive patients of
    their own."""
    scale: Scale = LOGITS
    exclusive: bool = False
    """Whether exactly one label is decided for an image, and the probabilities of an image sum to 1."""

    def __post_init__(self) -> None:
        thresholds_C = self.thresholds_C
        if thresholds_C.ndim != 1 or not ((thresholds_C >= 0) & (thresholds_C <= 1)).all():
            raise ValueError(f"thresholds_C must be one number in [0, 1] a label, not {thresholds_C}")
        if self.shared_C.shape != thresholds_C.shape or self.shared_C.dtype != bool:
            raise ValueError(f"shared_C must be bool {thresholds_C.shape}, not {self.shared_C}")
        if not isinstance(self.exclusive, bool):
            raise ValueError(f"exclusive must be true or false, not {self.exclusive!r}")

    @classmethod
    def fitted(
        cls,
        strategy: str,
        thresholds_C: Sequence[float],
        few_C: np.ndarray,
        scale: Scale = LOGITS,
        exclusive: bool = False,
    ) -> DecisionRule:
        """A strategy's thresholds; `few_C` (bool) are the labels too rare for one of their own."""
        return cls(
            strategy=strategy,
            thresholds_C=np.asarray(thresholds_C, dtype=np.float64),
            shared_C=shares_global(strategy, few_C),
            scale=scale,
            exclusive=exclusive,
        )

    @classmethod
    def fixed(cls, labels: int, exclusive: bool = False) -> DecisionRule:
        """0.5 for every label."""
        return cls.fitted("fixed", np.full(labels, 0.5), np.zeros(labels, dtype=bool), exclusive=exclusive)

    def probabilities(self, scores_NC: np.ndarray) -> np.ndarray:
        """float64 (N, C) in [0, 1]: the scores on the rule's scale, on which its thresholds cut."""
        return self.scale.unit(scores_NC, exclusive=self.exclusive)

    def decide(self, scores_NC: np.ndarray) -> np.ndarray:
        """bool (N, C)."""
        return self.cut(self.probabilities(scores_NC))

    def cut(self, probs_NC: np.ndarray) -> np.ndarray:
        """bool (N, C): the decisions of what `probabilities` gave."""
        if self.exclusive:
            return decide_one(probs_NC, self.thresholds_C)
        return probs_NC >= self.thresholds_C


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a predictor comes from, for tables, cards and the record."""

    note: str
    """What it knows, for the reader of a table."""
    study: str = ""
    trainable: str = ""
    """What trained it, such as `linear_probe`; empty for what no study trained."""
    trial: int | None = None
    """The configuration's number in the study."""
    preset: str = ""
    """Name of a published configuration, such as `paper`."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """The configuration."""
    objective: float = float("nan")
    """The study's objective on validation."""


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
        """Whether every image gets the same scores, so that no image can be told from another."""
        return not any(head.weight_DC.any() for head in self.heads)

    def scores(self, features_ND: np.ndarray) -> np.ndarray:
        """float64 (N, C): logits, or what only ranks; of the encoder's raw features."""
        return np.mean([head.logits(features_ND).astype(np.float64) for head in self.heads], axis=0)

    def probabilities(self, features_ND: np.ndarray) -> np.ndarray:
        """float64 (N, C) in [0, 1], see `DecisionRule.probabilities`; of raw features as `scores`."""
        return self.rule.probabilities(self.scores(features_ND))
