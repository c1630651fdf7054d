"""Scores that are drawn at random: what luck alone gives."""

from __future__ import annotations

import numpy as np

from scoring.decision_rule import DecisionRule
from scoring.predictions import BASELINE, Origin, PredictionRow
from trainables.baselines import RANDOM
from trainables.baselines.base import Baseline, BaselineInputs, name_of


def fit(inputs: BaselineInputs) -> list[Baseline]:
    """One draw of normal scores for every image, validation before the others."""
    labels, multiclass = len(inputs.data.labels), inputs.data.multiclass
    rng = np.random.default_rng(inputs.seed)
    scores_NC = np.full((inputs.cohort.present.num_rows, labels), np.nan)
    judged_N = inputs.data.rows_N[inputs.data.judged_N()]
    scores_NC[judged_N] = rng.normal(size=(len(judged_N), labels))
    others_N = np.setdiff1d(np.arange(len(scores_NC)), inputs.data.rows_N)
    scores_NC[others_N] = rng.normal(size=(len(others_N), labels))
    note = f"{'one label drawn' if multiclass else 'a coin per label'}; mean and 95 % range over 100 draws"
    row = PredictionRow(
        id=RANDOM,
        name=name_of(RANDOM),
        role=BASELINE,
        origin=Origin(note=note),
        rule=DecisionRule.fixed(labels, multiclass),
        ranks_only=True,
        scores_NC=scores_NC,
    )
    return [Baseline(id=RANDOM, note=note, row=row)]
