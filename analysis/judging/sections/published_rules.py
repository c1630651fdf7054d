"""Every row by the rules of the published table, beside its numbers where these are of the same labels."""

from __future__ import annotations

import numpy as np

from analysis.judging.judgement import Judgement
from analysis.judging.sections.scores import begins_trials, digits, row_kind, score_cells
from analysis.number_format import score
from analysis.section import Cell, Row, Section, Table, Words
from cohort.labels import CHEXPERT_14
from search_spaces.publication import PUBLICATION

TITLE = "By the published rules"

PUBLISHED_METRICS = {
    "paper.macro_f1": "macro F1 ↑",
    "paper.exact_match": "exact match ↑",
    "paper.lrap": "LRAP ↑",
    "paper.coverage_error": "coverage error ↓",
    "paper.ranking_loss": "ranking loss ↓",
}
PUBLISHED_SCORES = {
    "zero-shot": (0.105, 0.000, 0.250, 7.70, np.nan),
    "fine-tune": (0.235, 0.134, 0.779, 2.750, np.nan),
    "linear probe": (0.183, 0.143, 0.741, 3.077, np.nan),
}
"""`PUBLISHED_METRICS` in the table of arXiv 2506.14136: IU-Xray under the 14 labels of CheXpert."""


def run(judgement: Judgement) -> Section:
    return Section(
        parts=[
            Words(
                text=f"The same rows by the rules of {PUBLICATION}: each image's scores are scaled to "
                f"[0, 1] with the threshold 0.5, all {len(judgement.cohort.labels)} labels are averaged, and "
                "an undefined score counts as 0. Decisions are then relative within an image; knowing the "
                "prevalences alone goes a long way."
            ),
            _table(judgement),
        ]
    )


def _table(judgement: Judgement) -> Table:
    scores = judgement.scores
    averages = scores[scores["label"] == ""].set_index(["setting", "metric"])
    rows = [
        Row(
            cells=[row.name, *score_cells(averages.loc[row.id], PUBLISHED_METRICS)],
            kind=row_kind(row),
            rule=begins_trials(judgement, row),
        )
        for row in judgement.rows
    ]
    cohort = judgement.cohort
    if cohort.labels == CHEXPERT_14 and cohort.modality == "chest radiograph" and not cohort.drawn:
        for place, (name, values) in enumerate(PUBLISHED_SCORES.items()):
            first = Cell(text=f"{name}, as published", small="IU-Xray, authors' own labels, split")
            numbers = [
                score(value, digits(metric)) for metric, value in zip(PUBLISHED_METRICS, values, strict=True)
            ]
            rows.append(Row(cells=[first, *numbers], kind="published", rule=place == 0))
    return Table(columns=["setting", *PUBLISHED_METRICS.values()], rows=rows)
