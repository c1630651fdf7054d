"""Every row on the test split, by the project's rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.evidence import Evidence
from analysis.figures import BEST, COLOURS, OTHER
from analysis.predictors import FLOORS, PROMPTED, ZERO_SHOT
from analysis.section import Cell, Folded, Row, Section, Table, Terms, Words
from analysis.test_split import AVERAGED_PATIENTS
from vlm.prompts import Wording, label_prompts

TITLE = "Against the floors"

_METRICS = {"macro_auroc": "macro AUROC ↑", "macro_ap": "macro AP ↑", "macro_f1": "macro F1 ↑"}
METRICS = {
    **_METRICS,
    "micro_f1": "micro F1 ↑",
    "lrap": "LRAP ↑",
    "coverage_error": "coverage error ↓",
    "exact_match": "exact match ↑",
}
METRICS_OF_EXCLUSIVE = {
    **_METRICS,
    "accuracy": "accuracy ↑",
    "balanced_accuracy": "balanced accuracy ↑",
    "cohen_kappa": "Cohen's kappa ↑",
}


def run(evidence: Evidence) -> Section:
    scores = evidence.scores
    averages = scores[scores["label"] == ""].set_index(["setting", "metric"])
    return Section(
        parts=[
            Words(
                text="Every row is scored by the same rules on the same test images. The first "
                f"{'two' if evidence.cohort.exclusive else 'three'} know nothing about the image: what they "
                "score is where knowledge starts."
            ),
            _by_our_rules(evidence, averages),
            Words(text=_how_to_read(evidence), kind="note"),
            *_prompts(evidence),
        ]
    )


def _by_our_rules(evidence: Evidence, averages: pd.DataFrame) -> Table:
    metrics = METRICS_OF_EXCLUSIVE if evidence.cohort.exclusive else METRICS
    auroc = averages.xs("macro_auroc", level="metric")
    rows = []
    for row in evidence.rows:
        colour = BEST if row.name == evidence.best else COLOURS.get(row.name, OTHER)
        own = auroc.loc[row.name]
        first, *others = score_cells(averages.loc[row.name], metrics)
        drawn = replace(first, strip=(own["value"], own["low"], own["high"], colour))
        cells = [Cell(text=row.name, small=row.note), drawn, *others]
        rows.append(
            Row(cells=cells, kind=row_kind(evidence, row.name), rule=begins_trials(evidence, row.name))
        )
    return Table(
        columns=["setting", *metrics.values()],
        rows=rows,
        wide=True,
        strip_range=(
            min(0.45, float(np.nanmin(auroc[["value", "low"]]))),
            max(0.6, float(np.nanmax(auroc[["value", "high"]]))),
        ),
    )


def _how_to_read(evidence: Evidence) -> str:
    averaged = np.flatnonzero(evidence.split.averaged_C)
    labels = [
        f"{evidence.cohort.label_name(evidence.cohort.labels[c])} ({evidence.split.fewer_patients_C[c]})"
        for c in averaged
    ]
    fixed = [row.name for row in evidence.rows if row.rule.strategy == "fixed"]
    at = "the most probable label" if evidence.cohort.exclusive else "0.5"
    fitted = [row.name for row in evidence.rows if row.name not in fixed]
    whose = f"those of {', '.join(fitted)} were fitted on validation" if fitted else "none was fitted"
    text = (
        "Small figures: 95 % intervals over patients, exact ones of shares of decisions, others with "
        f"{evidence.study.bootstrap:,} resamples; for random the range of 95 % of its throws. Thresholds: "
        f"{whose}, those of {', '.join(fixed)} are "
        f"fixed at {at}. The macro averages take {len(labels)} labels, those with enough positive patients "
        f"on validation and at least {AVERAGED_PATIENTS} on the smaller side on test, whose number is given: "
        f"{', '.join(labels)}. The other columns are over all labels."
    )
    if evidence.cohort.exclusive:
        text += (
            " Labels are exclusive: an image has exactly one, and one is decided for it. Balanced accuracy "
            "is the mean over labels of the share of their images decided right."
        )
    if evidence.no_zero_shot:
        text += f" There is no zero-shot row: {evidence.no_zero_shot}."
    if evidence.no_metadata:
        text += f" There is no row of the kept columns alone; {evidence.no_metadata}."
    return text


def _prompts(evidence: Evidence) -> list[Folded]:
    """What stood for each label in front of the text tower: how good an opponent zero-shot is."""
    if evidence.no_zero_shot:
        return []
    cohort, wording = evidence.cohort, Wording.of(evidence.cohort)
    style = evidence.row(PROMPTED).predictor.origin.params["prompts"]
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
                    text=f"{ZERO_SHOT} takes the bare names on the left, {PROMPTED} the mean of sentences "
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


def row_kind(evidence: Evidence, name: str) -> str:
    """Of the row of a setting."""
    return "best" if name == evidence.best else ""


def begins_trials(evidence: Evidence, name: str) -> bool:
    """Whether the floors end above the row of a setting."""
    return name == next((row.name for row in evidence.rows if row.name not in FLOORS), None)
