"""Every row on the test split, by the project's rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.judging.evaluation_set import AVERAGED_PATIENTS
from analysis.judging.judgement import Judgement
from analysis.judging.scored_row import ScoredRow
from analysis.row_styles import row_style
from analysis.section import Cell, Folded, Row, Section, Table, Terms, Words
from scoring.predictions import ANSWER, BASELINE
from trainables.baselines import METADATA, PROMPTED, ZERO_SHOT
from vlm.prompts import Wording, label_prompts

TITLE = "Against the baselines"

_SHOWN = {"macro_auroc": "macro AUROC ↑", "macro_ap": "macro AP ↑", "macro_f1": "macro F1 ↑"}
SHOWN = {
    **_SHOWN,
    "micro_f1": "micro F1 ↑",
    "lrap": "LRAP ↑",
    "coverage_error": "coverage error ↓",
    "exact_match": "exact match ↑",
}
SHOWN_OF_MULTICLASS = {
    **_SHOWN,
    "accuracy": "accuracy ↑",
    "balanced_accuracy": "balanced accuracy ↑",
    "cohen_kappa": "Cohen's kappa ↑",
}


SHOWN_OF_ORDINAL = {
    **_SHOWN,
    "accuracy": "accuracy ↑",
    "quadratic_kappa": "quadratic weighted kappa ↑",
    "mean_absolute_error": "mean absolute error ↓",
}


def run(judgement: Judgement) -> Section:
    scores = judgement.scores
    averages = scores[scores["label"] == ""].set_index(["setting", "metric"])
    return Section(
        parts=[
            Words(
                text="Every row is scored by the same rules on the same test images. The first "
                f"{'two' if judgement.cohort.multiclass else 'three'} know nothing of the image; what they "
                "score is where knowledge starts."
            ),
            _by_our_rules(judgement, averages),
            Words(text=_how_to_read(judgement), kind="note"),
            *_prompts(judgement),
        ]
    )


def _by_our_rules(judgement: Judgement, averages: pd.DataFrame) -> Table:
    of_classes = SHOWN_OF_ORDINAL if judgement.cohort.ordinal else SHOWN_OF_MULTICLASS
    metrics = of_classes if judgement.cohort.multiclass else SHOWN
    auroc = averages.xs("macro_auroc", level="metric")
    rows = []
    for row in judgement.rows:
        own = auroc.loc[row.id]
        first, *others = score_cells(averages.loc[row.id], metrics)
        drawn = replace(first, strip=(own["value"], own["low"], own["high"], row_style(row).colour))
        cells = [Cell(text=row.name, small=row.note), drawn, *others]
        rows.append(Row(cells=cells, kind=row_kind(row), rule=begins_trials(judgement, row)))
    return Table(
        columns=["setting", *metrics.values()],
        rows=rows,
        wide=True,
        strip_range=(
            min(0.45, float(np.nanmin(auroc[["value", "low"]]))),
            max(0.6, float(np.nanmax(auroc[["value", "high"]]))),
        ),
    )


def _how_to_read(judgement: Judgement) -> str:
    averaged = np.flatnonzero(judgement.split.averaged_C)
    labels = [
        f"{judgement.cohort.label_name(judgement.cohort.labels[c])} ({judgement.split.fewer_patients_C[c]})"
        for c in averaged
    ]
    fixed = [row.name for row in judgement.rows if row.rule.strategy == "fixed"]
    at = "the most probable label" if judgement.cohort.multiclass else "0.5"
    fitted = [row.name for row in judgement.rows if row.name not in fixed]
    whose = f"those of {', '.join(fitted)} were fitted on validation" if fitted else "none was fitted"
    text = (
        "Small figures: 95 % intervals over patients, exact ones of shares of decisions, others with "
        f"{judgement.study.bootstrap:,} resamples; for random the range of 95 % of its throws. Thresholds: "
        f"{whose}, those of {', '.join(fixed)} are "
        f"fixed at {at}. The macro averages take {len(labels)} labels, those with enough positive patients "
        f"on validation and at least {AVERAGED_PATIENTS} on the smaller side on test, whose number is given: "
        f"{', '.join(labels)}. The other columns are over all labels."
    )
    if judgement.cohort.multiclass:
        text += (
            " Labels are multiclass: an image has exactly one, and one is decided for it. Balanced accuracy "
            "is the mean over labels of the share of their images decided right."
        )
    if judgement.cohort.ordinal:
        text += (
            " They are grades: the quadratic weighted kappa holds the squared error in grades against that "
            "of decisions as frequent but independent of the truth, and the mean absolute error is in grades."
        )
    if why := judgement.absent.get(ZERO_SHOT):
        text += f" There is no zero-shot row: {why}."
    if why := judgement.absent.get(METADATA):
        text += f" There is no row of the kept columns alone; {why}."
    return text


def _prompts(judgement: Judgement) -> list[Folded]:
    """What stood for each label in front of the text tower: how good an opponent zero-shot is."""
    if not judgement.has(PROMPTED):
        return []
    cohort, wording = judgement.cohort, Wording.of(judgement.cohort)
    style = judgement.row(PROMPTED).origin.params["prompts"]
    entries = []
    bare, prompted = (label_prompts(cohort.labels, kind, wording) for kind in ("name", style))
    for label, name, sentences in zip(cohort.labels, bare, prompted, strict=True):
        said = " · ".join(sentences.positive)
        if sentences.negative:
            said += f" — against: {' · '.join(sentences.negative)}"
        entries.append((name.positive[0], label if label != name.positive[0] else "", said))
    return [
        Folded(
            title="The prompts of zero-shot",
            parts=[
                Words(
                    text=f"{judgement.names[ZERO_SHOT]} takes the bare names on the left, "
                    f"{judgement.names[PROMPTED]} the mean of sentences "
                    "beside each, in that of two styles that is better on validation."
                ),
                Terms(entries=entries),
            ],
        )
    ]


def score_cells(own: pd.DataFrame, metrics: Mapping[str, str]) -> list[Cell]:
    """A setting's averages by these metrics; `own` are its rows of `test_scores.csv` by metric."""
    return [Cell.of_score(own.loc[metric], digits(metric)) for metric in metrics]


def digits(metric: str) -> int:
    """Behind the point, of an average by this metric."""
    return 2 if metric.endswith("coverage_error") else 3


def row_kind(row: ScoredRow) -> str:
    """Of a row of the tables."""
    return "best" if row.role == ANSWER else ""


def begins_trials(judgement: Judgement, row: ScoredRow) -> bool:
    """Whether the baselines end above a row."""
    return row.id == next((one.id for one in judgement.rows if one.role != BASELINE), None)
