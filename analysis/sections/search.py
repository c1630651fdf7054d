"""What the search saw: every configuration, every parameter that varied, how the finalists learnt."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.evidence import Evidence
from analysis.figures import BEST, COLOURS, INK, OTHER, QUIET, RIGHT, STYLE, new_figure
from analysis.number_format import NONE, OBJECTIVES
from analysis.predictors import LOGREG, PAPER
from analysis.section import Folded, Picture, Row, Section, Table
from trainables.records import TrialRecord

TITLE = "The search"


def run(evidence: Evidence) -> Section:
    study = evidence.study
    on_validation = {row.setting: row.validation for row in evidence.gap.itertuples()}
    floors = {name: on_validation[name] for name in (PAPER, LOGREG) if name in on_validation}
    return Section(
        parts=[
            Picture(name="search_history", figure=search_history(study.trials, study.objective, floors)),
            Picture(
                name="search_slices",
                figure=search_slices(study.trials, study.objective),
                title="Each parameter that varied",
                caption="Completed configurations; the ring is the best.",
            ),
            Picture(
                name="learning_curves",
                figure=learning_curves(study.records, study.objective),
                title="Learning curves of the finalists",
            ),
            Folded(title="Their configurations", parts=[_configurations(evidence)]),
        ]
    )


def _configurations(evidence: Evidence) -> Table:
    records = evidence.study.records
    parameters = sorted({name for record in records.values() for name in record.params})
    rows = [Row(cells=["trial number", *(str(record.number) for record in records.values())])]
    for name in parameters:
        values = [_value(record.params.get(name, NONE)) for record in records.values()]
        rows.append(Row(cells=[name.replace("_", " "), *values]))
    strategies = [evidence.row(name).rule.strategy.replace("_", " ") for name in records]
    rows.append(Row(cells=["threshold strategy", *strategies]))
    return Table(columns=["parameter", *records], rows=rows)


def _value(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def search_history(trials: pd.DataFrame, objective: str, floors: Mapping[str, float]) -> Figure:
    """The objective of every configuration in the order of their numbers, the best so far, and floors.

    Args:
        trials: `trials.parquet`.
        objective: its column is `val.<objective>`.
        floors: setting -> objective on validation, drawn as lines (paper, logreg).
    """
    column = f"val.{objective}"
    with mpl.rc_context(STYLE):
        figure = new_figure(7.2, 3.1)
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
        for name, value in floors.items():
            axes.axhline(
                value, color=COLOURS[name], linewidth=1.1, linestyle=(0, (5, 2)), label=f"{name} {value:.3f}"
            )
        axes.set_xlabel("configuration")
        axes.set_ylabel(f"{OBJECTIVES[objective]}, validation")
        axes.grid(axis="y")
        axes.legend(**RIGHT)
    return figure


def search_slices(trials: pd.DataFrame, objective: str) -> Figure:
    """The objective against each parameter that varied, completed configurations only."""
    column = f"val.{objective}"
    rows = trials[(trials["state"] == "COMPLETE") & trials[column].notna()]
    names = [name for name in rows.columns if str(name).startswith("params.") and rows[name].nunique() > 1]
    across = 4
    down = max(1, -(-len(names) // across))
    best = rows[column].idxmax() if len(rows) else None
    with mpl.rc_context(STYLE):
        figure = new_figure(9.4, 1.9 * down)
        grid = figure.subplots(down, across, squeeze=False, sharey=True)
        for axes, name in zip(grid.flat, names, strict=False):
            values = rows[name]
            if pd.api.types.is_numeric_dtype(values):
                known = values.notna()
                axes.scatter(values[known], rows.loc[known, column], s=7, color=BEST, linewidths=0, alpha=0.6)
                positive = values[known] > 0
                if positive.all() and values.max() > 20 * values[known].min():
                    axes.set_xscale("log")
                if best is not None and known[best]:
                    axes.scatter(
                        values[best], rows.loc[best, column], s=42, facecolors="none", edgecolors=INK
                    )
            else:
                kinds = sorted(values.dropna().unique())
                place = values.map({kind: i for i, kind in enumerate(kinds)})
                jitter = np.random.default_rng(0).uniform(-0.18, 0.18, len(rows))
                axes.scatter(place + jitter, rows[column], s=7, color=BEST, linewidths=0, alpha=0.6)
                axes.set_xticks(range(len(kinds)), kinds)
                axes.set_xlim(-0.5, len(kinds) - 0.5)
            axes.set_title(str(name).removeprefix("params.").replace("_", " "))
            axes.grid(axis="y")
        for axes in grid.flat[len(names) :]:
            axes.set_axis_off()
        for axes in grid[:, 0]:
            axes.set_ylabel(objective.replace("_", " "))
    return figure


def learning_curves(records: Mapping[str, TrialRecord], objective: str) -> Figure:
    """Losses and the objective of the chosen configurations over their epochs."""
    with mpl.rc_context(STYLE):
        figure = new_figure(9.4, 2.9)
        left, right = figure.subplots(1, 2)
        shades = [BEST, OTHER, "#9fb8c9", "#c3d0da", "#dfe6eb"]
        ranked = [name for name in records if name != PAPER]
        for name, record in records.items():
            if not record.curve:
                continue
            colour = COLOURS[PAPER] if name == PAPER else shades[min(ranked.index(name), len(shades) - 1)]
            curve = pd.DataFrame(record.curve)
            left.plot(curve["epoch"], curve["train_loss"], color=colour, linewidth=1, linestyle=(0, (2, 2)))
            left.plot(curve["epoch"], curve["val_loss"], color=colour, linewidth=1.4)
            right.plot(
                curve["epoch"],
                curve["objective"],
                color=colour,
                linewidth=1.4,
                marker="o",
                markersize=3,
                label=name,
            )
        left.set_title("binary cross-entropy")
        right.set_title(OBJECTIVES[objective])
        for axes in (left, right):
            axes.set_xlabel("epoch")
            axes.grid(axis="y")
        dashed = Line2D([], [], color=QUIET, linestyle=(0, (2, 2)), label="training")
        whole = Line2D([], [], color=QUIET, label="validation")
        left.legend(handles=[dashed, whole], loc="upper right")
        if any(record.curve for record in records.values()):
            right.legend(**RIGHT)
    return figure
