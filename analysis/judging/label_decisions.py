"""What decisions are worth, label by label: their counts, beside those of the label decided for every image.

Shape legend: C labels.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.judging.evaluation_set import EvaluationSet
from analysis.judging.scored_row import ScoredRow
from scoring import metrics
from scoring.metrics import Confusion


def label_decisions(split: EvaluationSet, row: ScoredRow) -> pd.DataFrame:
    """The rows of `label_decisions.csv`: label, threshold, tp, fp, tn, fn (test images), precision, recall,
    specificity, f1, all_positive_f1."""
    counts = metrics.confusion(split.targets_NC, row.test_decisions_NC)
    return pd.DataFrame(
        {
            "label": split.labels,
            "threshold": row.rule.thresholds_C,
            "tp": counts.tp,
            "fp": counts.fp,
            "tn": counts.tn,
            "fn": counts.fn,
            "precision": metrics.precision(counts),
            "recall": metrics.recall(counts),
            "specificity": metrics.specificity(counts),
            "f1": metrics.f1(counts),
            "all_positive_f1": all_positive_f1(counts.tp + counts.fn, counts.fp + counts.tn),
        }
    )


def all_positive_f1(positives_C: np.ndarray, negatives_C: np.ndarray) -> np.ndarray:
    """F1 of deciding for a label on every image; NaN without a positive one. Counts and result are (C,), or
    weighted (C, B)."""
    nothing_C = np.zeros_like(positives_C)
    return metrics.f1(Confusion(tp=positives_C, fp=negatives_C, fn=nothing_C, tn=nothing_C))
