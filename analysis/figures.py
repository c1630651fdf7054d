"""The style of the report's figures: small, of one palette, each as SVG for the page and as a PNG file.

They are drawn on matplotlib's object interface, which keeps no global state and needs no display.
"""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from analysis.predictors import (
    ALL_POSITIVE,
    LOGREG,
    PAPER,
    PIXELS,
    PREVALENCE,
    PROMPTED,
    RANDOM,
    ZERO_SHOT,
)
from cohort.files import write_atomically

# Okabe and Ito's palette, which colour-blind readers can tell apart; what knows nothing is grey.
BEST, OTHER = "#0072B2", "#56B4E9"
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

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.axisbelow": True,
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
RIGHT = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
"""Where a legend stands: right of its axes, on none of the data."""


def new_figure(width: float, height: float) -> Figure:
    """An empty figure in inches, to be filled under `mpl.rc_context(STYLE)`."""
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
