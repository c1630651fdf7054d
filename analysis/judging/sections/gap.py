"""How much of the best score on validation was luck: what is left of it on test, and in other trainings."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures import QUIET, STYLE, WIDTH, legend_beneath, new_figure, short
from analysis.judging.judgement import Judgement
from analysis.number_format import mean_and_deviation, score, signed
from analysis.row_styles import RowStyle, row_style
from analysis.section import Cell, Part, Picture, Row, Section, Table, Words
from scoring.objectives import OBJECTIVES

TITLE = "How much was luck?"


def run(judgement: Judgement) -> Section:
    gap, objective = judgement.gap, OBJECTIVES[judgement.study.objective].title
    rows = [
        Row(
            cells=[judgement.names[row.setting], score(row.validation), score(row.test), signed(row.gap)],
            kind="best" if row.setting == judgement.best else "",
        )
        for row in gap.itertuples()
    ]
    parts: list[Part] = [
        *_what_validation_is(judgement),
        Words(
            text="The best of many configurations is chosen by the number that is reported for it on "
            "validation, so that number is too high. The generalization gap, validation minus test, shows by "
            "how much here."
        ),
        Picture(
            name="generalization_gap",
            figure=validation_test(
                gap,
                judgement.study.objective,
                [row_style(judgement.row(id)) for id in gap["setting"]],
            ),
            alt=f"{objective[0].upper()}{objective[1:]} of every row on validation and on test; the numbers "
            "stand in the table.",
        ),
        Table(columns=[objective, "validation", "test", "gap"], rows=rows),
    ]
    return Section(parts=parts + _repeated(judgement, objective))


def _what_validation_is(judgement: Judgement) -> list[Part]:
    if not judgement.cross_validated:
        return []
    images = judgement.predictions.images
    count, folds = len(images.judged_N), images.folds
    text = (
        f"Wherever this report says validation, it means all {count:,} training and validation images, each "
        f"scored by what was trained on the other {folds - 1} of {folds} folds of patients; a label's scores "
        "are brought to the same mean on every fold before they are ranked together, since each fold's "
        "intercept mirrors how common the label is in the others. A published configuration alone is judged "
        "as it was published, on the given validation split."
    )
    return [Words(text=text)]


def _repeated(judgement: Judgement, objective: str) -> list[Part]:
    """The finalists over other seeds and other splits; nothing where they were not trained again."""
    repeats = judgement.study.repeats
    records = judgement.study.records
    finalists = {id: one for id, one in records.items() if one.number in repeats and judgement.drawn(id)}
    if not finalists:
        return []
    rows = [
        Row(
            cells=[
                Cell(text=judgement.names[id], small=f"trial {record.number}"),
                score(record.objective),
                mean_and_deviation(repeats[record.number]["seeds"]),
                mean_and_deviation(repeats[record.number]["splits"]),
            ]
        )
        for id, record in finalists.items()
    ]
    trainings = max(len(repeats[record.number]["seeds"]) for record in finalists.values())
    return [
        Table(
            title="The finalists trained again",
            columns=[f"{objective}, validation", "chosen at", "other seeds", "patients split anew"],
            rows=rows,
        ),
        Words(
            text=f"Mean and standard deviation over {trainings} trainings each. Test images take no part.",
            kind="note",
        ),
    ]


def validation_test(gap: pd.DataFrame, objective: str, styles: Sequence[RowStyle]) -> Figure:
    """The objective on validation and on test of each row, joined by the gap; a style for each line of
    `gap`."""
    with mpl.rc_context(STYLE):
        figure = new_figure(WIDTH, 1.1 + 0.3 * len(gap))
        axes = figure.subplots()
        dot = {"marker": "o", "markersize": 5.5}
        for place, (row, style) in enumerate(zip(gap.itertuples(), styles, strict=True)):
            colour = style.colour
            axes.plot([row.validation, row.test], [-place, -place], color=colour, linewidth=1.6)
            axes.plot(row.validation, -place, color=colour, markerfacecolor="white", **dot)
            axes.plot(row.test, -place, color=colour, **dot)
        axes.set_yticks([-place for place in range(len(gap))], [short(style.name) for style in styles])
        axes.set_ylim(-len(gap) + 0.4, 0.6)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        axes.set_xlabel(OBJECTIVES[objective].title)
        hollow = Line2D([], [], color=QUIET, markerfacecolor="white", linestyle="", label="validation", **dot)
        filled = Line2D([], [], color=QUIET, linestyle="", label="test", **dot)
        legend_beneath(figure, [hollow, filled])
    return figure
