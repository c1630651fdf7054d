"""Every row on the test split, by the project's rules and by those of the published table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.evidence import Evidence
from analysis.figures import BEST, COLOURS, OTHER
from analysis.number_format import score
from analysis.predictors import FLOORS, PROMPTED, ZERO_SHOT
from analysis.section import Cell, Folded, Row, Section, Table, Terms, Words
from analysis.test_split import AVERAGED_PATIENTS
from cohort.labels import CHEXPERT_14
from vlm.prompts import Wording, label_prompts

TITLE = "Against the floors"

METRICS = {
    "macro_auroc": "macro AUROC ↑",
    "macro_ap": "macro AP ↑",
    "macro_f1": "macro F1 ↑",
    "micro_f1": "micro F1 ↑",
    "lrap": "LRAP ↑",
    "coverage_error": "coverage error ↓",
    "exact_match": "exact match ↑",
}
PAPER_METRICS = {
    "paper.macro_f1": "macro F1 ↑",
    "paper.exact_match": "exact match ↑",
    "paper.lrap": "LRAP ↑",
    "paper.coverage_error": "coverage error ↓",
    "paper.ranking_loss": "ranking loss ↓",
}
PUBLISHED = {
    "zero-shot": (0.105, 0.000, 0.250, 7.70, np.nan),
    "fine-tune": (0.235, 0.134, 0.779, 2.750, np.nan),
    "linear probe": (0.183, 0.143, 0.741, 3.077, np.nan),
}
"""`PAPER_METRICS` in the table of arXiv 2506.14136: IU-Xray under the 14 labels of CheXpert."""


def run(evidence: Evidence) -> Section:
    scores = evidence.scores
    averages = scores[scores["label"] == ""].set_index(["setting", "metric"])
    return Section(
        parts=[
            Words(
                text="Every row is scored by the same rules on the same test images. The first three know "
                "nothing about the image: what they score is where knowledge starts."
            ),
            _by_our_rules(evidence, averages),
            Words(text=_how_to_read(evidence), kind="note"),
            *_prompts(evidence),
            _by_the_papers_rules(evidence, averages),
            Words(
                text="arXiv 2506.14136 scales each image's scores to [0, 1], cuts at 0.5, averages all "
                f"{len(evidence.cohort.labels)} labels and counts an undefined score as 0. Decisions are "
                "then relative within an image; knowing the prevalences alone goes a long way.",
                kind="note",
            ),
        ]
    )


def _by_our_rules(evidence: Evidence, averages: pd.DataFrame) -> Table:
    auroc = averages.xs("macro_auroc", level="metric")
    rows = []
    for row in evidence.rows:
        colour = BEST if row.name == evidence.best else COLOURS.get(row.name, OTHER)
        own = auroc.loc[row.name]
        first, *others = _cells(averages.loc[row.name], METRICS)
        drawn = replace(first, strip=(own["value"], own["low"], own["high"], colour))
        cells = [Cell(text=row.name, small=row.note), drawn, *others]
        rows.append(Row(cells=cells, kind=_kind(evidence, row.name), rule=_begins_trials(evidence, row.name)))
    return Table(
        columns=["setting", *METRICS.values()],
        rows=rows,
        wide=True,
        strip_range=(
            min(0.45, float(np.nanmin(auroc[["value", "low"]]))),
            max(0.6, float(np.nanmax(auroc[["value", "high"]]))),
        ),
    )


def _how_to_read(evidence: Evidence) -> str:
    averaged = np.array(evidence.cohort.labels)[evidence.split.averaged_C]
    labels = [evidence.cohort.label_name(label) for label in averaged]
    fixed = [row.name for row in evidence.rows if row.rule.strategy == "fixed"]
    text = (
        f"Small figures: 95 % intervals over patients, from {evidence.study.bootstrap:,} resamples; for "
        "random the range of 95 % of its throws. Thresholds were fitted on validation, but those of "
        f"{', '.join(fixed)} are fixed at 0.5. The macro averages take {len(labels)} labels, those "
        f"with enough positive patients on validation and at least {AVERAGED_PATIENTS} on test: "
        f"{', '.join(labels)}. The other columns are over all labels."
    )
    if evidence.no_zero_shot:
        text += f" There is no zero-shot row: {evidence.no_zero_shot}."
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


def _by_the_papers_rules(evidence: Evidence, averages: pd.DataFrame) -> Table:
    rows = [
        Row(
            cells=[row.name, *_cells(averages.loc[row.name], PAPER_METRICS)],
            kind=_kind(evidence, row.name),
            rule=_begins_trials(evidence, row.name),
        )
        for row in evidence.rows
    ]
    cohort = evidence.cohort
    if cohort.labels == CHEXPERT_14 and cohort.modality == "chest radiograph" and not cohort.drawn:
        for place, (name, values) in enumerate(PUBLISHED.items()):
            first = Cell(text=f"{name}, as published", small="IU-Xray, authors' own labels, split")
            numbers = [
                score(value, _digits(metric)) for metric, value in zip(PAPER_METRICS, values, strict=True)
            ]
            rows.append(Row(cells=[first, *numbers], kind="published", rule=place == 0))
    return Table(
        columns=["setting", *PAPER_METRICS.values()], rows=rows, title="The same by the paper's rules"
    )


def _cells(own: pd.DataFrame, metrics: Mapping[str, str]) -> list[Cell]:
    return [Cell.of_score(own.loc[metric], _digits(metric)) for metric in metrics]


def _digits(metric: str) -> int:
    return 2 if metric.endswith("coverage_error") else 3


def _kind(evidence: Evidence, name: str) -> str:
    return "best" if name == evidence.best else ""


def _begins_trials(evidence: Evidence, name: str) -> bool:
    return name == next((row.name for row in evidence.rows if row.name not in FLOORS), None)
