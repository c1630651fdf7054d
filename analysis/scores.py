"""Test scores: every setting on one test split, with intervals, floors and what may be claimed.

This is the only code that reads test labels. A setting arrives with its scores on validation and on
test and with thresholds that were fitted on validation; nothing here is chosen on test.

Shape legend: N images, D features, C labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from cohort.manifest import Cohort
from vlm.encoders import Encoder
from vlm.linear_head import LinearHead


@dataclass(frozen=True, kw_only=True, eq=False)
class FinishedTrial:
    """One configuration of a finished study, chosen on validation, to be scored on test."""

    name: str
    """Row name in every table: `paper`, `best-1`, `best-2`, ..."""
    number: int
    """Trial number in the study."""
    head: LinearHead
    """The trained head at its best epoch."""
    strategy: str
    """Threshold strategy with the best cross-fitted validation macro-F1."""
    thresholds_C: np.ndarray
    """float64 (C,): that strategy refitted on all of validation; a decision is prob >= threshold."""
    objective: float
    """The study's objective on validation."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """The configuration, as in `trials.parquet` without the prefix `params.`."""
    curve: Sequence[Mapping[str, float]] = ()
    """Learning curve: one mapping an epoch or rung with `epoch` and whatever was measured."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Setting:
    """One row of the tables: scores of one predictor on validation and on test."""

    name: str
    val_scores_NC: np.ndarray
    test_scores_NC: np.ndarray
    thresholds_C: np.ndarray
    """float64 (C,): fitted on validation; a decision is score >= threshold."""
    strategy: str
    """How the thresholds were fitted, for the reader of the table."""
    kind: Literal["probs", "scores"]
    """`probs` are probabilities (Brier skill is defined); `scores` only rank (it is NaN)."""
    note: str = ""
    """One sentence on what this predictor knows, for the reader of the table."""


@dataclass(frozen=True, kw_only=True, eq=False)
class AnalysisResult:
    """What `analyze` wrote, for the command line, MLflow and the model card."""

    scores: pd.DataFrame
    """`test_scores.csv`: setting, metric, label, value, low, high, positives, positive_patients,
    labels_averaged. `label` is empty for an average and `domain:<name>` for a domain."""
    comparisons: pd.DataFrame
    """`comparisons.csv`: family, first, second, metric, label, difference, p, p_holm."""
    claims: list[str]
    """One sentence a label, then one on the average: what this test split supports."""
    headline: str
    """One sentence: the best configuration's test score, its interval, and the strongest floor."""
    fall: pd.DataFrame
    """setting, metric, validation, test, fall: the objective on both splits over the same labels."""
    report: Path
    """The self-contained HTML report."""


def analyze(
    *,
    cohort: Cohort,
    encoder: Encoder,
    features_ND: np.ndarray,
    pixel_features_ND: np.ndarray,
    trials: Sequence[FinishedTrial],
    trials_table: pd.DataFrame,
    objective: Literal["macro_ap", "macro_auroc", "macro_f1"],
    objective_labels_C: np.ndarray,
    folder: Path,
    bootstrap: int = 10_000,
    seed: int = 0,
    title: str = "",
    metadata: Mapping[str, str] | None = None,
) -> AnalysisResult:
    """Score the floors, zero-shot and the chosen trials on the test split and write what may be claimed.

    Writes `test_scores.csv`, `comparisons.csv`, `claims.txt`, `figures/*.png` and `report.html` into
    `folder`, each atomically, replacing an earlier analysis.

    Args:
        cohort: the cohort; its three splits must all hold images.
        encoder: the study's encoder: its text tower gives zero-shot, its fingerprint goes into the report.
        features_ND: float32, the encoder's features of all present rows, in manifest order.
        pixel_features_ND: float32, the `pixels` encoder's features of the same rows.
        trials: `paper` and the best on validation, best first; never chosen on test.
        trials_table: `trials.parquet`, one row a configuration, for the search history.
        objective: the study's objective; C of the logistic regressions is chosen by it on validation.
        objective_labels_C: bool (C,), the labels it averages; the averages on test use the same labels.
        folder: `RUN/analysis`.
        bootstrap: patient-level resamples behind each interval and draws of each paired test.
        seed: of the resamples and the draws.
        title: the study's name.
        metadata: extra lines for the report's provenance table, in order (library versions, revision).

    Raises:
        InputError: a split is empty, or no objective label has a positive image on test.
    """
    raise NotImplementedError
