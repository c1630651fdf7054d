"""Every row by the rules of the published table, beside its numbers where these are of the same labels."""

from __future__ import annotations

import numpy as np

from analysis.evidence import Evidence
from analysis.number_format import score
from analysis.predictors import PUBLICATION
from analysis.section import Cell, Row, Section, Table, Words
from analysis.sections.scores import begins_trials, digits, row_kind, score_cells
from cohort.labels import CHEXPERT_14

TITLE = "By the published rules"

METRICS = {
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
"""`METRICS` in the table of arXiv 2506.14136: IU-Xray under the 14 labels of CheXpert."""


def run(evidence: Evidence) -> Section:
    return Section(
        parts=[
            Words(
                text=f"The same rows by the rules of {PUBLICATION}: each image's scores are scaled to "
                f"[0, 1] and cut at 0.5, all {len(evidence.cohort.labels)} labels are averaged, and an "
                "undefined score counts as 0. Decisions are then relative within an image; knowing the "
                "prevalences alone goes a long way."
            ),
            _table(evidence),
        ]
    )


def _table(evidence: Evidence) -> Table:
    scores = evidence.scores
    averages = scores[scores["label"] == ""].set_index(["setting", "metric"])
    rows = [
        Row(
            cells=[row.name, *score_cells(averages.loc[row.name], METRICS)],
            kind=row_kind(evidence, row.name),
            rule=begins_trials(evidence, row.name),
        )
        for row in evidence.rows
    ]
    cohort = evidence.cohort
    if cohort.labels == CHEXPERT_14 and cohort.modality == "chest radiograph" and not cohort.drawn:
        for place, (name, values) in enumerate(PUBLISHED.items()):
            first = Cell(text=f"{name}, as published", small="IU-Xray, authors' own labels, split")
            numbers = [score(value, digits(metric)) for metric, value in zip(METRICS, values, strict=True)]
            rows.append(Row(cells=[first, *numbers], kind="published", rule=place == 0))
    return Table(columns=["setting", *METRICS.values()], rows=rows)
