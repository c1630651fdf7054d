"""The best row at a wanted sensitivity or specificity: thresholds from validation, what they give on test.

Shape legend: C labels, P patients, B resamples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.predictors import Scored
from analysis.test_split import TestSplit
from cohort.patients import positive_patients
from scoring import metrics
from scoring.intervals import MIN_PATIENTS, label_interval
from scoring.judging import JudgedRows
from scoring.operating_points import OperatingPoint
from scoring.resampling import weighted_confusion

MEASURES = {
    "sensitivity": metrics.recall,
    "specificity": metrics.specificity,
    "ppv": metrics.precision,
    "npv": metrics.negative_predictive_value,
}
OF_NEGATIVES = ("specificity", "npv")
"""Measures that rest on the patients with a negative image."""
COLUMNS = ("point", "label", "threshold", "metric", "value", "low", "high", "positives", "positive_patients")


def at_points(
    points: Sequence[OperatingPoint],
    row: Scored,
    split: TestSplit,
    judged: JudgedRows,
    weights_PB: np.ndarray,
) -> pd.DataFrame:
    """The rows of `operating_points.csv`: point, label, threshold, metric, value, low, high, positives,
    positive_patients, the last two of test.

    The threshold is a number on the scale of the row's own thresholds, [0, 1], infinite where only deciding
    for none has the specificity, NaN where validation has no positive or no negative. A label with fewer
    than MIN_PATIENTS positive patients on test has values and no interval.

    Args:
        points: what is wanted, on validation.
        row: its scores on validation and test.
        judged: validation.
        weights_PB: see `scoring.resampling.patient_weights`.
    """
    val_NC, test_NC = row.rule.probabilities(row.val_scores_NC), row.test_unit_NC
    patients = {
        1: split.positive_patients_C,
        0: positive_patients(1 - split.targets_NC, split.patients_N),
    }
    positives_C = (split.targets_NC == 1).sum(axis=0)
    rows = []
    for point in points:
        thresholds_C = [
            point.threshold(judged.targets_NC[:, c], val_NC[:, c]) for c in range(len(split.labels))
        ]
        decisions_NC = test_NC >= np.array(thresholds_C)
        counts = metrics.confusion(split.targets_NC, decisions_NC)
        resampled = weighted_confusion(split.targets_NC, decisions_NC, split.patients_N, weights_PB)
        for c, label in enumerate(split.labels):
            for name, measure in MEASURES.items():
                value, low, high = float("nan"), float("nan"), float("nan")
                if not np.isnan(thresholds_C[c]):
                    value = float(measure(counts)[c])
                    if patients[1][c] >= MIN_PATIENTS:
                        behind = int(patients[0 if name in OF_NEGATIVES else 1][c])
                        low, high = label_interval(value, measure(resampled)[c], behind)
                numbers = thresholds_C[c], name, value, low, high, int(positives_C[c]), int(patients[1][c])
                rows.append((str(point), label, *numbers))
    return pd.DataFrame(rows, columns=COLUMNS)
