"""The objective on validation and on test: what choosing the best on validation made of its score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.judging.evaluation_set import EvaluationSet
from analysis.judging.scored_row import ScoredRow
from scoring.judging import JudgedRows, objective
from scoring.label_groups import macro
from scoring.metrics import confusion, f1
from trainables.baselines import RANDOM


def validation_to_test(
    rows: Sequence[ScoredRow], split: EvaluationSet, judged: JudgedRows, objective_name: str
) -> pd.DataFrame:
    """setting, metric, validation, test, gap (validation minus test) of every row that an image can move.

    Both sides average the labels that the test split averages, as far as the images of which a row has an
    honest score have both classes of them. macro_f1 on test is that of the decisions; on
    validation it is cross-fitted, as in a trial.
    """
    found = []
    for row in rows:
        if row.id == RANDOM or row.constant:
            continue
        honest_N = np.isfinite(row.val_scores_NC).all(axis=1)
        own = replace(judged, averaged_C=split.averaged_C).some(honest_N)
        if not own.averaged_C.any():
            continue
        scale, strength = row.rule.scale, [row.shrinkage]
        validation = float(
            objective(objective_name, row.val_scores_NC[None, honest_N], own, strength, scale)[0]
        )
        if objective_name == "macro_f1":
            counts = confusion(split.targets_NC, row.test_decisions_NC)
            test = float(macro(f1(counts), own.averaged_C).value)
        else:
            on_test = JudgedRows(
                targets_NC=split.targets_NC,
                patients_N=split.patients_N,
                folds_N=split.patients_N,
                averaged_C=own.averaged_C,
                multiclass=judged.multiclass,
            )
            test = float(objective(objective_name, row.test_scores_NC[None], on_test, strength, scale)[0])
        found.append((row.id, objective_name, validation, test, validation - test))
    return pd.DataFrame(found, columns=["setting", "metric", "validation", "test", "gap"])
