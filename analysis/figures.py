"""Figures of the report: small, of one style, each as SVG for the page and as a PNG file.

They are drawn on matplotlib's object interface, which keeps no global state and needs no display.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.settings import (
    ALL_POSITIVE,
    LOGREG,
    PAPER,
    PIXELS,
    PREVALENCE,
    PROMPTED,
    RANDOM,
    ZERO_SHOT,
    FinishedTrial,
)
from cohort.files import write_atomically

# Okabe and Ito's palette, which colour-blind readers can tell apart; what knows nothing is grey.
BEST = "#0072B2"
COLOURS = {
    PAPER: "#D55E00",
    LOGREG: "#009E73",
    PIXELS: "#CC79A7",
    ZERO_SHOT: "#E69F00",
    PROMPTED: "#E69F00",
    PREVALENCE: "#8a94a0",
    RANDOM: "#8a94a0",
    ALL_POSITIVE: "#8a94a0",
}
INK, QUIET, RULE = "#1c2733", "#6b7783", "#dde3e8"
OBJECTIVES = {"macro_ap": "macro average precision", "macro_auroc": "macro AUROC", "macro_f1": "macro F1"}

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "text.color": INK,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.hashsalt": "radtune",
}


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def write(figure: Figure, path: Path) -> str:
    """Write `path` as PNG at 150 dots an inch and return the figure as an SVG element."""
    with mpl.rc_context(STYLE):
        png, svg = io.BytesIO(), io.StringIO()
        figure.savefig(png, format="png", dpi=150, metadata={"Software": None})
        figure.set_layout_engine("none")  # keep the layout just found, which takes longer than the drawing
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    write_atomically(path, png.getvalue())
    return svg.getvalue()[svg.getvalue().index("<svg") :]


def search_history(trials: pd.DataFrame, objective: str, floors: Mapping[str, float]) -> Figure:
    """The objective of every configuration in the order of their numbers, the best so far, and floors.

    Args:
        trials: `trials.parquet`.
        objective: its column is `val.<objective>`.
        floors: setting -> objective on validation, drawn as lines (paper, logreg).
    """
    column = f"val.{objective}"
    with mpl.rc_context(STYLE):
        figure = _figure(7.2, 3.1)
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
        axes.set_axisbelow(True)
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
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
        figure = _figure(9.4, 1.9 * down)
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
            axes.set_axisbelow(True)
        for axes in grid.flat[len(names) :]:
            axes.set_axis_off()
        for axes in grid[:, 0]:
            axes.set_ylabel(objective.replace("_", " "))
    return figure


def forest(
    scores: pd.DataFrame, labels: Sequence[str], best: str, floors: Sequence[str], minimum: int
) -> Figure:
    """AUROC of each label with its interval, the floors' values beside it; counts only below `minimum`.

    Labels stand by their number of positive patients, the most first, then the macro average.
    """
    auroc = scores[scores["metric"] == "auroc"].set_index(["setting", "label"])
    macro = scores[scores["metric"] == "macro_auroc"].set_index("setting")
    order = sorted(labels, key=lambda label: -auroc.loc[(best, label), "positive_patients"])
    with mpl.rc_context(STYLE):
        figure = _figure(7.6, 0.9 + 0.29 * (len(order) + 1))
        axes = figure.subplots()
        ticks = []
        for place, label in enumerate([*order, ""]):
            y = -place - (0.35 if label == "" else 0)
            row = auroc.loc[(best, label)] if label else macro.loc[best]
            patients = int(row["positive_patients"])
            ticks.append(
                (y, f"{label}  ({patients})" if label else f"macro average of {int(row['labels_averaged'])}")
            )
            if label and patients < minimum:
                what = "no positive patient" if patients == 0 else "too few positive patients for a claim"
                axes.text(0.5, y, f"  {what}", va="center", ha="left", color=QUIET, fontsize=8)
                continue
            for floor in floors:
                value = auroc.loc[(floor, label), "value"] if label else macro.loc[floor, "value"]
                axes.plot(
                    value, y, marker="|", markersize=9, markeredgewidth=2, color=COLOURS[floor], linestyle=""
                )
            axes.plot([row["low"], row["high"]], [y, y], color=BEST, linewidth=1.6, solid_capstyle="butt")
            axes.plot(row["value"], y, marker="o", markersize=5.5, color=BEST)
        axes.axvline(0.5, color=QUIET, linewidth=0.8, linestyle=(0, (3, 3)))
        axes.set_yticks([y for y, _ in ticks], [text for _, text in ticks])
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        axes.set_xlabel("AUROC on test, 95 % interval over patients (positive patients in brackets)")
        handles = [Line2D([], [], color=BEST, marker="o", markersize=5.5, label=best)]
        handles += [
            Line2D(
                [],
                [],
                color=COLOURS[floor],
                marker="|",
                markersize=9,
                markeredgewidth=2,
                linestyle="",
                label=floor,
            )
            for floor in floors
        ]
        handles.append(Line2D([], [], color=QUIET, linewidth=0.8, linestyle=(0, (3, 3)), label="chance"))
        axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def validation_test(fall: pd.DataFrame, objective: str) -> Figure:
    """The objective on validation and on test of each setting, joined by its fall."""
    with mpl.rc_context(STYLE):
        figure = _figure(6.4, 0.8 + 0.3 * len(fall))
        axes = figure.subplots()
        dot = {"marker": "o", "markersize": 5.5}
        for place, row in enumerate(fall.itertuples()):
            colour = COLOURS.get(row.setting, BEST)
            axes.plot([row.validation, row.test], [-place, -place], color=colour, linewidth=1.6)
            axes.plot(row.validation, -place, color=colour, markerfacecolor="white", **dot)
            axes.plot(row.test, -place, color=colour, **dot)
        axes.set_yticks([-place for place in range(len(fall))], fall["setting"])
        axes.set_ylim(-len(fall) + 0.4, 0.6)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        axes.set_xlabel(f"{OBJECTIVES[objective]}, the same labels on both")
        hollow = Line2D([], [], color=QUIET, markerfacecolor="white", linestyle="", label="validation", **dot)
        filled = Line2D([], [], color=QUIET, linestyle="", label="test", **dot)
        axes.legend(handles=[hollow, filled], loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def learning_curves(trials: Sequence[FinishedTrial], objective: str) -> Figure:
    """Losses and the objective of the finished trials over their epochs."""
    with mpl.rc_context(STYLE):
        figure = _figure(9.4, 2.9)
        left, right = figure.subplots(1, 2)
        shades = [BEST, "#56B4E9", "#9fb8c9", "#c3d0da", "#dfe6eb"]
        ranked = [trial for trial in trials if trial.name != PAPER]
        for trial in trials:
            if not trial.curve:
                continue
            colour = (
                COLOURS[PAPER] if trial.name == PAPER else shades[min(ranked.index(trial), len(shades) - 1)]
            )
            curve = pd.DataFrame(list(trial.curve))
            left.plot(curve["epoch"], curve["train_loss"], color=colour, linewidth=1, linestyle=(0, (2, 2)))
            left.plot(curve["epoch"], curve["val_loss"], color=colour, linewidth=1.4)
            right.plot(
                curve["epoch"],
                curve["objective"],
                color=colour,
                linewidth=1.4,
                marker="o",
                markersize=3,
                label=trial.name,
            )
        left.set_title("binary cross-entropy")
        right.set_title(OBJECTIVES[objective])
        for axes in (left, right):
            axes.set_xlabel("epoch")
            axes.grid(axis="y")
            axes.set_axisbelow(True)
        dashed = Line2D([], [], color=QUIET, linestyle=(0, (2, 2)), label="training")
        whole = Line2D([], [], color=QUIET, label="validation")
        left.legend(handles=[dashed, whole], loc="upper right")
        if any(trial.curve for trial in trials):
            right.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def reliability(
    targets_NC: np.ndarray, probs: Mapping[str, np.ndarray], averaged_C: np.ndarray, fewest: int = 20
) -> Figure:
    """Share of positives against the predicted probability, all averaged labels pooled.

    Predictions are grouped by probability, finer near 0 where most lie; a group needs `fewest` of them.

    Args:
        targets_NC: 0, 1 or NaN where masked.
        probs: setting -> probabilities (N, C).
        averaged_C: bool (C,).
    """
    edges = [0.02, 0.05, 0.1, 0.15, *np.arange(0.2, 1, 0.1)]
    with mpl.rc_context(STYLE):
        figure = _figure(5.6, 3.5)
        axes = figure.subplots()
        known_NC = ~np.isnan(targets_NC[:, averaged_C])
        target_M = targets_NC[:, averaged_C][known_NC]
        for name, probs_NC in probs.items():
            prob_M = probs_NC[:, averaged_C][known_NC]
            group_M = np.digitize(prob_M, edges)
            groups = [group_M == g for g in range(len(edges) + 1) if np.sum(group_M == g) >= fewest]
            axes.plot(
                [prob_M[group].mean() for group in groups],
                [target_M[group].mean() for group in groups],
                marker="o",
                markersize=4,
                linewidth=1.2,
                color=COLOURS.get(name, BEST),
                label=name,
            )
        axes.plot([0, 1], [0, 1], color=QUIET, linewidth=0.8, linestyle=(0, (3, 3)))
        axes.set_xlabel("predicted probability")
        axes.set_ylabel("share of positives")
        axes.grid()
        axes.set_axisbelow(True)
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure
