"""Whether predicted probabilities are met by as many positives.

Shape legend: N images, C labels, M known cells of the averaged labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.figures import QUIET, STYLE, WIDTH, legend_beneath, new_figure
from analysis.judging.evaluation_set import EvaluationSet
from analysis.judging.judgement import Judgement
from analysis.number_format import score
from analysis.row_styles import RowStyle, row_style
from analysis.section import Part, Picture, Row, Section, Table, Words
from scoring.intervals import MIN_PATIENTS
from trainables.baselines import LOGREG

TITLE = "Calibration"

FEWEST = 20
"""Predictions that a group needs for a dot."""
EDGES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Between the groups of probabilities, finer near 0 where most lie."""


def run(judgement: Judgement) -> Section:
    shown = [id for id in (LOGREG, judgement.published, judgement.best) if judgement.drawn(id)]
    rows = [judgement.row(id) for id in dict.fromkeys(shown)]
    probs = {row.id: row.test_unit_NC for row in rows if not row.ranks_only}
    table = calibration_table(judgement.split, probs)
    return Section(
        parts=[
            Picture(
                name="reliability",
                figure=reliability(
                    judgement.split.targets_NC,
                    [(row_style(judgement.row(id)), probs_NC) for id, probs_NC in probs.items()],
                    judgement.split.averaged_C,
                ),
                alt="Share of positive test images against the predicted probability, with the diagonal of "
                "perfect calibration.",
                caption="Test images, the averaged labels pooled and grouped by predicted probability, at "
                f"least {FEWEST} to a group. On the dashed line, of ten images given a probability of 0.3 "
                "three are positive. A loss that is weighted for imbalance leaves this line by design; use "
                "the decisions, or calibrate, before reading its outputs as risks.",
            ),
            *_by_label(judgement, table),
        ],
        tables={"calibration": judgement.shown(table)},
    )


def _by_label(judgement: Judgement, table: pd.DataFrame) -> list[Part]:
    """The answer's; nothing of scores that only rank."""
    own = table[table["setting"] == judgement.best]
    if own.empty:
        return []
    rows = []
    for row in own.itertuples():
        name = judgement.cohort.label_name(row.label) if row.label else "all of them pooled"
        numbers = [f"{row.images:,}", *(score(x) for x in (row.predicted, row.observed, row.error))]
        few = bool(row.label) and row.patients < MIN_PATIENTS
        rows.append(Row(cells=[name, *numbers], kind="quiet" if few else "", rule=not row.label))
    return [
        Table(
            title=f"Each label of {judgement.answer.name}",
            columns=["label", "images", "mean\nprobability", "share of\npositives", "calibration\nerror"],
            rows=rows,
        ),
        Words(
            text="In the pool labels whose probabilities are too high make up for labels whose are too low: "
            "it may lie on the line where no label does. Calibration error: the mean distance of "
            "probability and share of positives over the groups of the figure, weighted by their images; "
            f"it is above 0 by chance alone, the more so of few images. In grey: fewer than {MIN_PATIENTS} "
            "patients on the smaller side.",
            kind="note",
        ),
    ]


def calibration_table(split: EvaluationSet, probs: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """`calibration.csv`, rows by their ids: setting, label (empty for the averaged labels pooled), images,
    patients (on the smaller side, missing of the pool), predicted (mean probability), observed (share of
    positives), error."""
    rows = []
    columns = np.flatnonzero(split.averaged_C)
    for name, probs_NC in probs.items():
        for label, own in [*((split.labels[c], [c]) for c in columns), ("", columns)]:
            known_NC = ~np.isnan(split.targets_NC[:, own])
            target_M, prob_M = split.targets_NC[:, own][known_NC], probs_NC[:, own][known_NC]
            patients = split.fewer_patients_C[own[0]] if label else np.nan
            error = calibration_error(target_M, prob_M)
            rows.append((name, label, len(prob_M), patients, prob_M.mean(), target_M.mean(), error))
    names = ["setting", "label", "images", "patients", "predicted", "observed", "error"]
    return pd.DataFrame(rows, columns=names)


def calibration_error(target_M: np.ndarray, prob_M: np.ndarray) -> float:
    """Expected calibration error (Naeini et al., AAAI 2015) over the groups of EDGES: the mean over
    predictions of the distance between the mean probability of their group and its share of positives."""
    group_M = np.digitize(prob_M, EDGES)
    gap_G = np.bincount(group_M, weights=prob_M - target_M, minlength=len(EDGES) + 1)
    return float(np.abs(gap_G).sum() / len(prob_M))


def reliability(
    targets_NC: np.ndarray, probs: Sequence[tuple[RowStyle, np.ndarray]], averaged_C: np.ndarray
) -> Figure:
    """Share of positives against the predicted probability, all averaged labels pooled.

    Predictions are grouped by EDGES; a group needs FEWEST of them.

    Args:
        targets_NC: 0, 1 or NaN where masked.
        probs: of each row its style and probabilities (N, C).
        averaged_C: bool (C,).
    """
    with mpl.rc_context(STYLE):
        figure = new_figure(WIDTH, 3.8)
        axes = figure.subplots()
        known_NC = ~np.isnan(targets_NC[:, averaged_C])
        target_M = targets_NC[:, averaged_C][known_NC]
        for style, probs_NC in probs:
            prob_M = probs_NC[:, averaged_C][known_NC]
            group_M = np.digitize(prob_M, EDGES)
            groups = [group_M == g for g in range(len(EDGES) + 1) if np.sum(group_M == g) >= FEWEST]
            axes.plot(
                [prob_M[group].mean() for group in groups],
                [target_M[group].mean() for group in groups],
                marker="o",
                markersize=4,
                linewidth=1.2,
                color=style.colour,
                label=style.name,
            )
        axes.plot([0, 1], [0, 1], color=QUIET, linewidth=0.8, linestyle=(0, (3, 3)))
        axes.set_xlabel("predicted probability")
        axes.set_ylabel("share of positives")
        axes.grid()
        legend_beneath(figure, axes.get_lines()[: len(probs)])
    return figure
