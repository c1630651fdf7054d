"""What the search saw: every configuration, every parameter that varied, how the best learnt."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from analysis.figures import INK, QUIET, SMALL_WIDTH, STYLE, WIDTH, legend_beneath, new_figure, powers_of_ten
from analysis.judging.judgement import Judgement
from analysis.number_format import NONE
from analysis.row_styles import BEST, OTHER, PUBLISHED_COLOUR, RowStyle, row_style
from analysis.section import Folded, Part, Picture, Row, Section, Table, Words
from scoring.objectives import OBJECTIVES
from search_spaces.publication import PUBLISHED_NAME
from trainables.baselines import LOGREG
from trainables.records import TrialRecord

TITLE = "The search"


def run(judgement: Judgement) -> Section:
    study = judgement.study
    # A published configuration of a cross-validated study is judged on the given split, unlike all others.
    comparable = (LOGREG,) if judgement.cross_validated else (judgement.published, LOGREG)
    lines = [
        (row_style(judgement.row(id)), judgement.row(id).objective)
        for id in comparable
        if judgement.drawn(id)
    ]
    trials = study.trials
    if judgement.cross_validated:
        trials = trials[trials["preset"] == ""]
    objective = OBJECTIVES[study.objective].title
    parts: list[Part] = [
        Picture(
            name="search_history",
            figure=search_history(trials, study.objective, lines),
            alt=f"{objective} on validation of every configuration by its number, the best so "
            "far, and baselines.",
        ),
        *_slices(trials, study.objective),
        Picture(
            name="learning_curves",
            figure=learning_curves(_curves(judgement), study.objective),
            alt=f"Losses and {objective} of the best configurations over their epochs.",
            title="Learning curves of the best configurations",
        ),
        Folded(title="Their configurations", parts=[_configurations(judgement)]),
    ]
    return Section(parts=parts)


def _slices(trials: pd.DataFrame, objective: str) -> list[Part]:
    """One small picture per parameter that varied, and how to read them; nothing where none did."""
    pictures = [
        Picture(
            name=f"search_{name}",
            figure=figure,
            alt=f"{OBJECTIVES[objective].title} on validation against {name.replace('_', ' ')}.",
            title="Each parameter that varied" if place == 0 else "",
            small=True,
        )
        for place, (name, figure) in enumerate(search_slices(trials, objective).items())
    ]
    if not pictures:
        return []
    note = f"{OBJECTIVES[objective].title} on validation of completed configurations; the ring is the best."
    return [*pictures, Words(text=f"{note[0].upper()}{note[1:]}", kind="note")]


def _curves(judgement: Judgement) -> list[tuple[RowStyle, TrialRecord]]:
    """Each configuration once, where two rows are the same one under both names; the better, the darker."""
    study, shades = (
        judgement.study,
        iter([BEST, OTHER, "#9fb8c9", "#c3d0da", *["#dfe6eb"] * len(judgement.rows)]),
    )
    rows_of: dict[int, list[str]] = {}
    for id, record in study.records.items():
        rows_of.setdefault(record.number, []).append(id)
    found = []
    for ids in rows_of.values():
        names = [judgement.names[id] for id in ids]
        if judgement.best_is_published and judgement.best in ids and judgement.published not in ids:
            names.append(PUBLISHED_NAME)
        colour = PUBLISHED_COLOUR if ids == [judgement.published] else next(shades)
        found.append((RowStyle(" = ".join(names), colour), study.records[ids[0]]))
    return found


def _configurations(judgement: Judgement) -> Table:
    records = judgement.study.records
    parameters = sorted({name for record in records.values() for name in record.params})
    rows = [Row(cells=["trial number", *(str(record.number) for record in records.values())])]
    for name in parameters:
        values = [_value(record.params.get(name, NONE)) for record in records.values()]
        rows.append(Row(cells=[name.replace("_", " "), *values]))
    strategies = [judgement.row(id).rule.strategy.replace("_", " ") for id in records]
    rows.append(Row(cells=["threshold strategy", *strategies]))
    return Table(columns=["parameter", *(judgement.names[id] for id in records)], rows=rows)


def _value(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def search_history(trials: pd.DataFrame, objective: str, lines: Sequence[tuple[RowStyle, float]]) -> Figure:
    """The objective of every configuration in the order of their numbers, the best so far, and baselines.

    Args:
        trials: `trials.parquet`.
        objective: its column is `val.<objective>`.
        lines: of each row that is drawn as a line, its style and objective on validation.
    """
    column = f"val.{objective}"
    with mpl.rc_context(STYLE):
        figure = new_figure(WIDTH, 3.6)
        axes = figure.subplots()
        for state, colour, label in (
            ("COMPLETE", BEST, "completed"),
            ("PRUNED", "#b9c3cc", "stopped early for lagging"),
        ):
            rows = trials[(trials["state"] == state) & trials[column].notna()]
            if len(rows):
                axes.scatter(
                    rows["number"], rows[column], s=9, color=colour, linewidths=0, label=label, alpha=0.85
                )
        complete = trials[trials["state"] == "COMPLETE"].sort_values("number")
        axes.step(
            complete["number"],
            complete[column].cummax(),
            where="post",
            color=INK,
            linewidth=1.2,
            label="best so far",
        )
        for style, value in lines:
            label = f"{style.name} {value:.3f}"
            axes.axhline(value, color=style.colour, linewidth=1.1, linestyle=(0, (5, 2)), label=label)
        axes.set_xlabel("configuration")
        axes.set_ylabel(f"{OBJECTIVES[objective].title}, validation")
        axes.grid(axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        legend_beneath(figure, axes.get_legend_handles_labels()[0], columns=2)
    return figure


def search_slices(trials: pd.DataFrame, objective: str) -> dict[str, Figure]:
    """Parameter that varied -> the objective against it, completed configurations only."""
    column = f"val.{objective}"
    rows = trials[(trials["state"] == "COMPLETE") & trials[column].notna()]
    names = [name for name in rows.columns if str(name).startswith("params.") and rows[name].nunique() > 1]
    return {
        str(name).removeprefix("params."): _slice(rows[column], rows[name], str(name).removeprefix("params."))
        for name in names
    }


def _slice(objective: pd.Series, values: pd.Series, name: str) -> Figure:
    with mpl.rc_context(STYLE):
        figure = new_figure(SMALL_WIDTH, 2.0)
        axes = figure.subplots()
        dots = {"s": 7, "color": BEST, "linewidths": 0, "alpha": 0.6}
        if pd.api.types.is_numeric_dtype(values):
            known = values.dropna().astype(float)
            axes.scatter(known, objective[known.index], **dots)
            if (known > 0).all() and known.max() > 20 * known.min():
                powers_of_ten(axes)
            else:
                whole = bool((known % 1 == 0).all())
                axes.xaxis.set_major_locator(MaxNLocator(nbins=3, integer=whole))
            if (best := objective.idxmax()) in known.index:
                axes.scatter(known[best], objective[best], s=42, facecolors="none", edgecolors=INK)
        else:
            kinds = sorted(values.dropna().unique())
            place = values.map({kind: i for i, kind in enumerate(kinds)})
            jitter = np.random.default_rng(0).uniform(-0.18, 0.18, len(values))
            axes.scatter(place + jitter, objective, **dots)
            # Words side by side would run into each other.
            axes.set_xticks(
                range(len(kinds)),
                kinds,
                rotation=35,
                ha="right",
                va="center",
                rotation_mode="anchor",
                fontsize=9,
            )
            axes.set_xlim(-0.5, len(kinds) - 0.5)
        figure.suptitle(name.replace("_", " "), x=0.02, ha="left", fontsize=9, fontweight="bold")
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
        axes.set_ylim(*_padded(objective))
        axes.grid(axis="y")
    return figure


def _padded(values: pd.Series) -> tuple[float, float]:
    """The same range for the slices of a study, so that their heights can be compared."""
    margin = 0.06 * (values.max() - values.min()) or 0.01
    return values.min() - margin, values.max() + margin


def learning_curves(lines: Sequence[tuple[RowStyle, TrialRecord]], objective: str) -> Figure:
    """Losses of training and validation on the left, the objective on the right.

    Args:
        lines: of each configuration its style and record; those without a curve are left out.
        objective: one of `scoring.objectives.OBJECTIVES`.
    """
    with mpl.rc_context(STYLE):
        figure = new_figure(WIDTH, 3.0)
        left, right = figure.subplots(1, 2)
        for style, record in lines:
            if not record.curve:
                continue
            curve, colour = pd.DataFrame(record.curve), style.colour
            left.plot(curve["epoch"], curve["train_loss"], color=colour, linewidth=1, linestyle=(0, (2, 2)))
            left.plot(curve["epoch"], curve["val_loss"], color=colour, linewidth=1.4)
            right.plot(
                curve["epoch"],
                curve["objective"],
                color=colour,
                linewidth=1.4,
                marker="o",
                markersize=3,
                label=style.name,
            )
        of_classes = any(record.params.get("loss") == "softmax" for _, record in lines)
        left.set_title("cross-entropy" if of_classes else "binary cross-entropy", fontsize=9)
        right.set_title(OBJECTIVES[objective].title, fontsize=9)
        for axes in (left, right):
            axes.set_xlabel("epoch")
            axes.grid(axis="y")
            axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
        handles = [
            Line2D([], [], color=QUIET, linestyle=(0, (2, 2)), label="training"),
            Line2D([], [], color=QUIET, label="validation"),
        ]
        legend_beneath(figure, [*handles, *right.get_lines()])
    return figure
