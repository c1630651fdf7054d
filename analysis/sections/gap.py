"""How much of the best score on validation was luck: what is left of it on test, and in other trainings."""

from __future__ import annotations

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.evidence import Evidence
from analysis.figures import BEST, COLOURS, QUIET, STYLE, WIDTH, legend_beneath, new_figure, short
from analysis.number_format import OBJECTIVES, mean_and_deviation, score, signed
from analysis.section import Cell, Part, Picture, Row, Section, Table, Words

TITLE = "How much was luck?"


def run(evidence: Evidence) -> Section:
    gap, objective = evidence.gap, OBJECTIVES[evidence.study.objective]
    rows = [
        Row(
            cells=[row.setting, score(row.validation), score(row.test), signed(row.gap)],
            kind="best" if row.setting == evidence.best else "",
        )
        for row in gap.itertuples()
    ]
    parts: list[Part] = [
        *_what_validation_is(evidence),
        Words(
            text="The best of many configurations is chosen by the number that is reported for it on "
            "validation, so that number is too high. The generalization gap, validation minus test, shows by "
            "how much here."
        ),
        Picture(
            name="generalization_gap",
            figure=validation_test(gap, evidence.study.objective),
            alt=f"{objective[0].upper()}{objective[1:]} of every row on validation and on test; the numbers "
            "stand in the table.",
        ),
        Table(columns=[objective, "validation", "test", "gap"], rows=rows),
    ]
    return Section(parts=parts + _repeated(evidence, objective))


def _what_validation_is(evidence: Evidence) -> list[Part]:
    if not evidence.cross_validated:
        return []
    images, folds = len(evidence.data.judged_N()), evidence.data.folds
    text = (
        f"Wherever this report says validation, it means all {images:,} training and validation images, each "
        f"scored by what was trained on the other {folds - 1} of {folds} folds of patients; a label's scores "
        "are brought to the same mean on every fold before they are ranked together, since each fold's "
        "intercept mirrors how common the label is in the others. A published configuration alone is judged "
        "as it was published, on the given validation split."
    )
    return [Words(text=text)]


def _repeated(evidence: Evidence, objective: str) -> list[Part]:
    """The finalists over other seeds and other splits; nothing where they were not trained again."""
    repeats = evidence.study.repeats
    records = evidence.study.records
    finalists = {name: one for name, one in records.items() if one.number in repeats and evidence.drawn(name)}
    if not finalists:
        return []
    rows = [
        Row(
            cells=[
                Cell(text=name, small=f"trial {record.number}"),
                score(record.objective),
                mean_and_deviation(repeats[record.number]["seeds"]),
                mean_and_deviation(repeats[record.number]["splits"]),
            ]
        )
        for name, record in finalists.items()
    ]
    trainings = max(len(repeats[record.number]["seeds"]) for record in finalists.values())
    return [
        Table(
            title="The finalists trained again",
            columns=[f"{objective}, validation", "chosen at", "other seeds", "patients dealt anew"],
            rows=rows,
        ),
        Words(
            text=f"Mean and standard deviation over {trainings} trainings each. Test images take no part.",
            kind="note",
        ),
    ]


def validation_test(gap: pd.DataFrame, objective: str) -> Figure:
    """The objective on validation and on test of each setting, joined by the gap."""
    with mpl.rc_context(STYLE):
        figure = new_figure(WIDTH, 1.1 + 0.3 * len(gap))
        axes = figure.subplots()
        dot = {"marker": "o", "markersize": 5.5}
        for place, row in enumerate(gap.itertuples()):
            colour = COLOURS.get(row.setting, BEST)
            axes.plot([row.validation, row.test], [-place, -place], color=colour, linewidth=1.6)
            axes.plot(row.validation, -place, color=colour, markerfacecolor="white", **dot)
            axes.plot(row.test, -place, color=colour, **dot)
        axes.set_yticks([-place for place in range(len(gap))], [short(name) for name in gap["setting"]])
        axes.set_ylim(-len(gap) + 0.4, 0.6)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        axes.set_xlabel(OBJECTIVES[objective])
        hollow = Line2D([], [], color=QUIET, markerfacecolor="white", linestyle="", label="validation", **dot)
        filled = Line2D([], [], color=QUIET, linestyle="", label="test", **dot)
        legend_beneath(figure, [hollow, filled])
    return figure
