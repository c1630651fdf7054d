"""The score table: every metric of one setting on the test split, with intervals over patients.

Shape legend: N images, C labels or domains, P patients, B resamples, S rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby

import numpy as np
import pandas as pd

from analysis.judging.evaluation_set import EvaluationSet
from analysis.judging.scored_row import ScoredRow
from cohort.patients import positive_patients
from scoring.effective_patients import LabelPatients
from scoring.metric_table import Score, averages, by_label
from scoring.model_output import ModelOutput, Resampled
from scoring.paper_rules import HEADLINE, PRESETS
from scoring.score_intervals import NONE, MetricIntervals
from trainables.baselines import ALL_POSITIVE, RANDOM

RANDOM_DRAWS = 100
SCORE_COLUMNS = (
    "setting",
    "metric",
    "label",
    "value",
    "low",
    "high",
    "positives",
    "positive_patients",
    "labels_averaged",
)


def score_setting(
    split: EvaluationSet, setting: ScoredRow, weights_PB: np.ndarray, seed: int = 0
) -> tuple[pd.DataFrame, Resampled | None]:
    """All scores of one row, named by its id, as lines of `test_scores.csv`, and what it is in each resample.

    Averages, labels and domains by the project's rules, then averages by the paper's, named `paper.<metric>`.
    The random baseline gets the mean over RANDOM_DRAWS draws and, in place of an interval, the range in
    which 95 % of them lie; it has no resamples (None).

    Args:
        split: the test labels.
        setting: a predictor, its thresholds fitted on validation.
        weights_PB: see `scoring.resampling.patient_weights`.
        seed: of the random throws.
    """
    sections = _sections(split, setting)
    scored = [(section, score) for section in sections for score in section.scores]
    if setting.id == RANDOM:
        ours = None
        values, lows, highs = _luck(split, setting, seed)
    else:
        resampled = [
            Resampled(predictions=section.predictions, rows_N=split.patients_N, weights_RB=weights_PB)
            for section in sections
        ]
        ours = resampled[0]
        intervals = [
            ends
            for section, sums in zip(sections, resampled, strict=True)
            for ends in _intervals(section, sums, setting.constant)
        ]
        values, (lows, highs) = [score.value for _, score in scored], zip(*intervals, strict=True)
    columns = {
        "setting": setting.id,
        "metric": [section.prefix + score.name for section, score in scored],
        "label": [score.label for _, score in scored],
        "value": values,
        "low": lows,
        "high": highs,
        "positives": [score.positives for _, score in scored],
        "positive_patients": [section.patients_behind(score) for section, score in scored],
        "labels_averaged": [score.labels_averaged for _, score in scored],
    }
    return pd.DataFrame(columns, columns=SCORE_COLUMNS), ours


@dataclass(frozen=True, kw_only=True, eq=False)
class _Section:
    """Rows of the table that come of one set of predictions."""

    predictions: ModelOutput
    patients_N: np.ndarray
    columns: tuple[str, ...]
    """Names of the predictions' columns."""
    positive_patients_C: np.ndarray
    """int64, of each column."""
    scores: list[Score]
    prefix: str = ""
    """Of the metrics' names."""

    @cached_property
    def patients(self) -> LabelPatients:
        return LabelPatients(targets_NC=self.predictions.targets_NC, rows_N=self.patients_N)

    def patients_behind(self, score: Score) -> int:
        """Positive patients that a row rests on: those of its label or domain, of the averaged labels for a
        macro average, of all labels for other averages."""
        if score.label:
            return int(self.positive_patients_C[self.columns.index(score.label)])
        of_labels_C = score.labels_C if score.metric.scope in ("label", "class") else slice(None)
        positive_N = (self.predictions.targets_NC[:, of_labels_C] == 1).any(axis=1)
        return len(np.unique(self.patients_N[positive_N]))


def _sections(split: EvaluationSet, setting: ScoredRow) -> list[_Section]:
    """The labels' section, the domains' where there are any, and that by the paper's rules."""
    targets_NC, decisions_NC = split.targets_NC, setting.test_decisions_NC
    ours = ModelOutput(
        targets_NC=targets_NC,
        scores_NC=setting.test_ranked_NC,
        decisions_NC=decisions_NC,
        probs_NC=None if setting.ranks_only else setting.test_unit_NC,
        prevalences_C=split.prevalences_C,
        multiclass=setting.rule.multiclass,
        ordinal=split.ordinal,
    )
    preset = PRESETS["paper"]
    paper_NC = preset.scores(setting.test_scores_NC)
    papers = ModelOutput(
        targets_NC=targets_NC,
        scores_NC=paper_NC,
        # `all-positive` stays what it is, which min-max would not.
        decisions_NC=decisions_NC if setting.id == ALL_POSITIVE else preset.decisions(paper_NC),
    )
    of_labels = {
        "patients_N": split.patients_N,
        "columns": split.labels,
        "positive_patients_C": split.positive_patients_C,
    }
    scores = averages(ours, split.averaged_C) + by_label(ours, split.labels)
    sections = [_Section(predictions=ours, scores=scores, **of_labels)]
    if split.domains:
        sections.append(_domain_section(split, ours))
    scores = averages(papers, table=HEADLINE)
    return [*sections, _Section(predictions=papers, scores=scores, prefix="paper.", **of_labels)]


def _domain_section(split: EvaluationSet, ours: ModelOutput) -> _Section:
    names = tuple(f"domain:{name}" for name in split.domains)
    predictions = ours.of_domains(split.domains)
    return _Section(
        predictions=predictions,
        patients_N=split.patients_N,
        columns=names,
        positive_patients_C=positive_patients(predictions.targets_NC, split.patients_N),
        scores=by_label(predictions, names),
    )


def _luck(split: EvaluationSet, setting: ScoredRow, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, 2.5th and 97.5th percentile of every row over throws of random scores; NaN stays NaN."""
    rng = np.random.default_rng([seed, RANDOM_DRAWS])
    throws_RS = np.array(
        [
            [score.value for section in _sections(split, thrown) for score in section.scores]
            for thrown in (
                replace(setting, test_scores_NC=rng.normal(size=setting.test_scores_NC.shape))
                for _ in range(RANDOM_DRAWS)
            )
        ]
    )
    low_S, high_S = np.percentile(throws_RS, [2.5, 97.5], axis=0)
    return throws_RS.mean(axis=0), low_S, high_S


def _intervals(section: _Section, resampled: Resampled, constant: bool) -> Iterator[tuple[float, float]]:
    """Low and high of each of the section's scores; NaN where there is no interval.

    Args:
        constant: whether the predictor says the same of every image.
    """
    for metric, scores in groupby(section.scores, key=lambda score: score.metric):
        found = MetricIntervals(
            metric=metric, resampled=resampled, patients=section.patients, constant=constant
        )
        for score in scores:
            if not np.isfinite(score.value):
                yield NONE
            elif score.label:
                yield found.of_label(section.columns.index(score.label))
            elif metric.scope in ("label", "class"):
                yield found.of_average(score.labels_C)
            else:
                yield found.of_all()
