"""What looks inside the models: the predictors behind a judgement's rows, and the features beneath them.

Shape legend: N images, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from analysis.inside.feature_spaces import TUNED, TUNED_AS_PUBLISHED, FeatureSpace, feature_spaces
from analysis.inside.separability import Points, separability
from analysis.judging.judgement import Judgement
from analysis.judging.scored_row import ScoredRow
from trainables.baselines import PIXELS
from trainables.trial_data import ProbeData
from vlm.cohort_features import CohortFeatures
from vlm.encoders import Encoder
from vlm.predictor import Predictor


@dataclass(frozen=True, eq=False)
class Setting:
    """A row of the tables with the predictor behind it."""

    row: ScoredRow
    predictor: Predictor

    @property
    def name(self) -> str:
        return self.row.name

    @property
    def test_decisions_NC(self) -> np.ndarray:
        """bool (N, C)."""
        return self.row.test_decisions_NC


@dataclass(frozen=True, kw_only=True, eq=False)
class Models:
    """A judgement with what its scores come from."""

    judgement: Judgement
    encoder: Encoder
    """The study's."""
    data: ProbeData
    """The study's development rows."""
    features: CohortFeatures
    """Of the cohort under any encoder, altered images among them."""
    openers: Mapping[str, Callable[[], Predictor]]
    """Id of a row -> opens its predictor; without those that no head makes."""
    _opened: dict[str, Predictor] = field(default_factory=dict)

    def has(self, id: str) -> bool:
        """Whether there is a predictor behind a row, and the row."""
        return id in self.openers and self.judgement.has(id)

    def predictor(self, id: str) -> Predictor:
        """That of a row; LookupError where no head makes its scores."""
        if id not in self._opened:
            self._opened[id] = self.openers[id]()
        return self._opened[id]

    @property
    def best(self) -> Predictor:
        """The answer's."""
        return self.predictor(self.judgement.best)

    @cached_property
    def spaces(self) -> list[FeatureSpace]:
        """What the rows see of an image, see `analysis.inside.feature_spaces`."""
        judgement = self.judgement
        titles = {judgement.best: TUNED, judgement.published: TUNED_AS_PUBLISHED}
        if other := judgement.compared_with:
            titles[other] = f"{TUNED} ({judgement.names[other]})"
        tuned = {title: self.predictor(id) for id, title in titles.items() if self.has(id)}
        pixels = self.predictor(PIXELS).encoder if self.has(PIXELS) else None
        return feature_spaces(self.encoder, self.data.precision, tuned, pixels)

    def points(self, space: FeatureSpace) -> Points:
        """The test images in one of `spaces`."""
        split = self.judgement.split
        return Points(
            features_ND=space.of(self.features, split.rows_N),
            targets_NC=split.targets_NC,
            patients_N=split.patients_N,
            labels=split.labels,
            seed=self.judgement.study.seed,
        )

    @cached_property
    def frozen_separability(self) -> pd.DataFrame:
        """The rows of `separability.csv` of the frozen features."""
        return separability(self.points(self.spaces[0]), self.spaces[0].name)

    @cached_property
    def separability(self) -> pd.DataFrame:
        """`separability.csv`, see `analysis.inside.separability`."""
        others = [separability(self.points(space), space.name) for space in self.spaces[1:]]
        return pd.concat([self.frozen_separability, *others], ignore_index=True)
