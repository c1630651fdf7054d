"""ROC and precision-recall curves of each label, and what the wanted operating points give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures import QUIET, STYLE, WIDTH, legend_beneath, new_figure, short
from analysis.judging.claims import Claim, unclaimed
from analysis.judging.judgement import Judgement
from analysis.number_format import score
from analysis.row_styles import BEST, RowStyle, row_style
from analysis.section import Cell, Part, Picture, Row, Section, Table, Words
from scoring.curves import GRID, Band, Curves, bands, curves
from trainables.baselines import LOGREG, PIXELS

TITLE = "Curves and operating points"

BASELINES = (LOGREG, PIXELS)
RESAMPLES = 1000
"""Behind a band, which is drawn and not read to three digits."""

MEASURES = {"sensitivity": "sensitivity", "specificity": "specificity", "ppv": "PPV", "npv": "NPV"}


def run(judgement: Judgement) -> Section:
    parts: list[Part] = [
        Words(
            text=f"The solid line is {judgement.answer.name} on the test images; its shade is the 95 % "
            "interval over patients at each place by itself, not of the curve as a whole. Chance is the "
            "diagonal, and in the right half the share of positives."
        ),
        *_pictures(judgement),
    ]
    if without := unclaimed(judgement.claims):
        parts.append(Words(text=f"Too few patients, with or without, for a curve: {without}.", kind="note"))
    points = judgement.operating_points
    claims = {claim.label: claim for claim in judgement.claims}
    fewer = {label: judgement.split.own.fewer_side(c) for c, label in enumerate(judgement.split.labels)}
    for point, found in points.groupby("point", sort=False):
        parts.append(_point_table(str(point), found, claims, fewer))
    if len(points):
        parts.append(
            Words(
                text="Each threshold was found on validation, where it has what is wanted; on test it has "
                "what stands here. PPV and NPV are those of the test split's own prevalence.",
                kind="note",
            )
        )
    return Section(parts=parts, tables={"operating_points": points} if len(points) else {})


def _pictures(judgement: Judgement) -> list[Part]:
    """One a label of which something can be claimed, in the cohort's order."""
    split, best = judgement.split, judgement.answer
    rows = [*(judgement.row(id) for id in BASELINES if judgement.has(id)), best]
    weights_PB = judgement.weights_PB[:, :RESAMPLES]
    pictures: list[Part] = []
    for c, claim in enumerate(judgement.claims[: len(split.labels)]):
        if claim.silent:
            continue
        target_N = split.targets_NC[:, c]
        of_rows = [(row_style(row), curves(target_N, row.test_ranked_NC[:, c])) for row in rows]
        pictures.append(
            Picture(
                name=f"curves_{c + 1:02d}_{claim.label}",
                figure=roc_and_precision(
                    claim.name,
                    of_rows,
                    bands(target_N, best.test_ranked_NC[:, c], split.patients_N, weights_PB),
                    prevalence=float(np.nanmean(target_N)),
                ),
                alt=f"ROC and precision-recall curve of {claim.name}: {claim.score}.",
            )
        )
    return pictures


def roc_and_precision(
    label: str, of_rows: Sequence[tuple[RowStyle, Curves]], band: tuple[Band, Band], prevalence: float
) -> Figure:
    """ROC on the left, precision against sensitivity on the right.

    Args:
        of_rows: of each row its style and curves; the last one is the one that the band is of.
        band: `scoring.curves.bands`.
        prevalence: share of positives, in [0, 1].
    """
    with mpl.rc_context(STYLE):
        figure = new_figure(WIDTH, 3.0)
        figure.suptitle(short(label), x=0.02, ha="left", fontsize=10, fontweight="bold")
        left, right = figure.subplots(1, 2)
        for place, (style, found) in enumerate(of_rows, start=1):
            line = {
                "color": style.colour,
                "linewidth": 1.8 if place == len(of_rows) else 1.1,
                "label": style.name,
            }
            start = np.zeros((1, 1))
            left.plot(
                np.vstack([start, found.false_positive_rate]), np.vstack([start, found.sensitivity]), **line
            )
            right.plot(found.sensitivity, found.precision, drawstyle="steps-pre", **line)
        for axes, (low_G, high_G) in zip((left, right), band, strict=True):
            axes.fill_between(GRID, low_G, high_G, color=BEST, alpha=0.15, linewidth=0)
        chance = {"color": QUIET, "linewidth": 0.8, "linestyle": (0, (3, 3))}
        left.plot([0, 1], [0, 1], **chance)
        right.axhline(prevalence, **chance)
        _named(left, "1 − specificity", "sensitivity")
        _named(right, "sensitivity (recall)", "precision (PPV)")
        legend_beneath(
            figure, [*left.get_lines()[: len(of_rows)], Line2D([], [], label="chance", **chance)], 4
        )
    return figure


def _named(axes: Axes, across: str, up: str) -> None:
    axes.set_xlabel(across, fontsize=9)
    axes.set_ylabel(up, fontsize=9)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_aspect("equal")
    axes.grid()


def _point_table(
    point: str, found: pd.DataFrame, claims: Mapping[str, Claim], fewer: Mapping[str, str]
) -> Table:
    """One operating point, one line per label in the cohort's order; counts alone where patients are too few.

    Args:
        fewer: label -> patients on its smaller side, in words.
    """
    rows = []
    for label, own in found.groupby("label", sort=False):
        by_metric = own.set_index("metric")
        claim = claims[str(label)]
        if claim.silent:
            silence = Cell(text=f"no claim: {fewer[str(label)]}", across=len(MEASURES) + 1)
            rows.append(Row(cells=[claim.name, silence], kind="quiet"))
        else:
            cells = [Cell.of_score(by_metric.loc[metric]) for metric in MEASURES]
            rows.append(Row(cells=[claim.name, *cells, _threshold(own["threshold"].iloc[0])]))
    measure, wanted = point.split()
    return Table(
        title=f"{measure.capitalize()} of {wanted} on validation",
        columns=["label", *MEASURES.values(), "threshold"],
        rows=rows,
    )


def _threshold(value: float) -> str:
    return "above all" if np.isinf(value) else score(value)
