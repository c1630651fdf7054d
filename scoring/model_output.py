"""What metrics are taken of: one model's scores, decisions and probabilities, as they are and resampled.

Shape legend: N images, C labels, R patients, B resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from scoring.label_groups import domain_scores, domain_targets
from scoring.metrics import Confusion, SquaredErrors, confusion, squared_errors
from scoring.resampling import (
    Ranking,
    weighted_confusion,
    weighted_mean,
    weighted_rankings,
    weighted_squared_errors,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelOutput:
    """What one model says of one set of images, and the sums that several metrics share.

    >>> targets_NC, scores_NC = np.array([[1, 0], [1, 0]]), np.array([[0.9, 0.2], [0.1, 0.6]])
    >>> output = ModelOutput(targets_NC=targets_NC, scores_NC=scores_NC, decisions_NC=scores_NC > 0.5)
    >>> output.counts.tp.tolist(), output.of_domains({"any": [0, 1]}).counts.tp.tolist()
    ([1, 0], [2])
    """

    targets_NC: np.ndarray
    """0, 1 or NaN where masked."""
    scores_NC: np.ndarray
    """float, finite; only their order counts."""
    decisions_NC: np.ndarray
    """bool."""
    probs_NC: np.ndarray | None = None
    """float in [0, 1]; None for scores that are no probabilities, and no metric takes probabilities then."""
    prevalences_C: np.ndarray | None = None
    """float in [0, 1], of training, where there are probabilities: the reference of the Brier skill."""
    multiclass: bool = False
    """Whether an image has exactly one label, or is masked whole, and exactly one is decided for it."""
    ordinal: bool = False
    """Whether the labels are grades from the lowest to the highest; then multiclass too."""

    @cached_property
    def counts(self) -> Confusion:
        return confusion(self.targets_NC, self.decisions_NC)

    @cached_property
    def errors(self) -> SquaredErrors:
        return squared_errors(self.targets_NC, self.probs_NC)

    @cached_property
    def prevalence_errors(self) -> SquaredErrors:
        constant_NC = np.broadcast_to(self.prevalences_C, self.targets_NC.shape)
        return squared_errors(self.targets_NC, constant_NC)

    def of_domains(self, domains: Mapping[str, Sequence[int]]) -> ModelOutput:
        """A column a domain (name -> columns of its labels), without probabilities.

        A domain takes the highest of its labels' scores and is decided for where any of them is.
        """
        return ModelOutput(
            targets_NC=domain_targets(self.targets_NC, domains),
            scores_NC=domain_scores(self.scores_NC, domains),
            decisions_NC=domain_scores(self.decisions_NC, domains),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Resampled:
    """The same sums under B weightings of the patients, (C, B) each.

    >>> targets_NC, scores_NC = np.array([[1], [0]]), np.array([[0.9], [0.8]])
    >>> output = ModelOutput(targets_NC=targets_NC, scores_NC=scores_NC, decisions_NC=scores_NC > 0.5)
    >>> resampled = Resampled(predictions=output, rows_N=np.arange(2), weights_RB=np.array([[2.0], [0.5]]))
    >>> resampled.counts.tp.tolist(), resampled.counts.fp.tolist()
    ([[2.0]], [[0.5]])
    """

    predictions: ModelOutput
    rows_N: np.ndarray
    """int, the row of `weights_RB` that weighs each image."""
    weights_RB: np.ndarray
    """float, see `scoring.resampling.patient_weights`."""

    @cached_property
    def ranking(self) -> Ranking:
        p = self.predictions
        return weighted_rankings(p.targets_NC, p.scores_NC, self.rows_N, self.weights_RB)

    @cached_property
    def counts(self) -> Confusion:
        p = self.predictions
        return weighted_confusion(p.targets_NC, p.decisions_NC, self.rows_N, self.weights_RB)

    @cached_property
    def errors(self) -> SquaredErrors:
        p = self.predictions
        return weighted_squared_errors(p.targets_NC, p.probs_NC, self.rows_N, self.weights_RB)

    @property
    def prevalence_errors(self) -> SquaredErrors:
        _, _, positives_CB, negatives_CB = self.errors
        said_C1 = self.predictions.prevalences_C[:, None].astype(positives_CB.dtype)
        of_either = positives_CB * (1 - said_C1) ** 2, negatives_CB * said_C1**2
        return SquaredErrors(*of_either, positives_CB, negatives_CB)

    def mean(self, values_N: np.ndarray) -> np.ndarray:
        """(B,): mean over images of one value an image; NaN is left out."""
        return weighted_mean(values_N[:, None], self.rows_N, self.weights_RB)[0]
