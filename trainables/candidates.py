"""A predictor on its way into the table of predictions, with what it says of images that it did not train on.

Shape legend: N images, C labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scoring.predictions import PredictionRow
from vlm.encoders import Encoder
from vlm.predictor import Predictor

Features = Callable[[Encoder, str], np.ndarray]
"""Features of an encoder in a precision: float32, all present images of the cohort in manifest order."""


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """What a predictor, or each of its folds, says of development images that it was not trained on."""

    rows_N: np.ndarray
    """int64, the images' places in the cohort."""
    scores_NC: np.ndarray
    """On the scale of the predictor's own scores."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """A trained predictor that becomes a row of the table."""

    id: str
    role: str
    """One of `scoring.predictions.ROLES`."""
    predictor: Predictor
    """Its name is the row's."""
    out_of_fold: OutOfFold | None
    """None: it was trained on none of the images on which the study judges, so that its own scores are
    honest there."""

    def row(self, features: Features, developed_N: np.ndarray) -> PredictionRow:
        """Its scores of every image.

        Args:
            features: of the cohort.
            developed_N: int64, the places of training and validation images in the cohort; those of which
                `out_of_fold` says nothing have no score.
        """
        predictor = self.predictor
        scores_NC = predictor.scores(features(predictor.encoder, predictor.precision))
        if self.out_of_fold is not None:
            scores_NC[developed_N] = np.nan
            scores_NC[self.out_of_fold.rows_N] = self.out_of_fold.scores_NC
        return PredictionRow(
            id=self.id,
            name=predictor.name,
            role=self.role,
            origin=predictor.origin,
            rule=predictor.rule,
            ranks_only=predictor.ranks_only,
            constant=predictor.constant,
            scores_NC=scores_NC,
        )
