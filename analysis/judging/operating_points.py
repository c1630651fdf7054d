"""The best row at a wanted sensitivity or specificity: thresholds from validation, what they give on test.

Shape legend: N images, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.judging.evaluation_set import EvaluationSet
from analysis.judging.scored_row import ScoredRow
from scoring.intervals import MIN_PATIENTS
from scoring.judging import JudgedRows
from scoring.operating_points import OperatingPoint
from scoring.shares import Shares

MEASURES = {
    "sensitivity": lambda decided_NC, actual_NC: (decided_NC, actual_NC),
    "specificity": lambda decided_NC, actual_NC: (~decided_NC, ~actual_NC),
    "ppv": lambda decided_NC, actual_NC: (actual_NC, decided_NC),
    "npv": lambda decided_NC, actual_NC: (~actual_NC, ~decided_NC),
}
"""Each the share of the second among whom the first holds, of images whose label is known."""
COLUMNS = ("point", "label", "threshold", "metric", "value", "low", "high", "positives", "positive_patients")


def at_points(
    points: Sequence[OperatingPoint],
    row: ScoredRow,
    split: EvaluationSet,
    judged: JudgedRows,
) -> pd.DataFrame:
    """The rows of `operating_points.csv`: point, label, threshold, metric, value, low, high, positives,
    positive_patients, the last two of test.

    The threshold is a number on the scale of the row's own thresholds, [0, 1], infinite where only deciding
    for none has the specificity, NaN where validation has no positive or no negative. A label with fewer
    than MIN_PATIENTS patients on its smaller side on test has values and no interval.

    Args:
        points: what is wanted, on validation.
        row: its scores on validation and test.
        judged: validation.
    """
    val_NC, test_NC = row.rule.probabilities(row.val_scores_NC), row.test_unit_NC
    known_NC, actual_NC = ~np.isnan(split.targets_NC), split.targets_NC == 1
    positives_C = actual_NC.sum(axis=0)
    rows = []
    for point in points:
        thresholds_C = [
            point.threshold(judged.targets_NC[:, c], val_NC[:, c]) for c in range(len(split.labels))
        ]
        found = {}
        for name, measure in MEASURES.items():
            holds_NC, among_NC = measure(test_NC >= np.array(thresholds_C), actual_NC)
            entries_NC = among_NC & known_NC
            shares = Shares.of_images(holds_NC & entries_NC, entries_NC, split.patients_N)
            found[name] = np.stack([shares.value_C, *shares.exact()])
        for c, label in enumerate(split.labels):
            enough = split.fewer_patients_C[c] >= MIN_PATIENTS
            for name, ends_3C in found.items():
                value, low, high = ends_3C[:, c] if not np.isnan(thresholds_C[c]) else (np.nan,) * 3
                ends = (low, high) if enough else (np.nan, np.nan)
                counts = int(positives_C[c]), int(split.positive_patients_C[c])
                rows.append((str(point), label, thresholds_C[c], name, value, *ends, *counts))
    return pd.DataFrame(rows, columns=COLUMNS)
