"""The style of the report's figures: narrow, of one palette, each as SVG for the page and as a PNG file.

They are drawn on matplotlib's object interface, which keeps no global state and needs no display.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import escape
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.ticker import NullFormatter

from analysis.fonts import FIRST, as_drawn, families
from cohort.files import write_atomically

WIDTH = 4.7
"""Of a figure in inches. A phone shows it at three quarters of its size, where its text can still be read."""
SMALL_WIDTH = 2.2
"""Of a small figure, two of which stand side by side on a phone."""
NAME_LENGTH = 26
"""Letters of a name that a figure shows; the page and the tables have the whole of it."""
INK, QUIET, RULE = "#1c2733", "#6b7783", "#dde3e8"

STYLE = {
    "font.family": FIRST,
    "font.size": 10,
    "axes.axisbelow": True,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "text.color": INK,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "none",  # text stays text: smaller, searched and read aloud, in the reader's own font
    "svg.hashsalt": "radtune",
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
}
_NAMED_GROUP = re.compile(r'<g id="[^"]*"')
"""Nothing refers to these names, and each would stand on the page as often as there are figures."""


def new_figure(width: float, height: float) -> Figure:
    """An empty figure in inches, to be filled under `mpl.rc_context(STYLE)`."""
    figure = Figure(figsize=(width, height), layout="constrained")
    _Canvas(figure)
    return figure


class _Renderer(RendererAgg):
    """Draws each text in fonts that have its letters."""

    def draw_text(
        self, gc: Any, x: float, y: float, s: str, prop: FontProperties, angle: float, **more: Any
    ) -> None:
        super().draw_text(gc, x, y, as_drawn(s), _with_letters(prop, s), angle, **more)

    def get_text_width_height_descent(
        self, s: str, prop: FontProperties, ismath: bool
    ) -> tuple[float, float, float]:
        return super().get_text_width_height_descent(as_drawn(s), _with_letters(prop, s), ismath)


def _with_letters(prop: FontProperties, text: str) -> FontProperties:
    if len(found := families(text)) > 1:
        prop = prop.copy()
        prop.set_family(found)
        prop.set_weight("normal")  # which every family has
    return prop


class _Canvas(FigureCanvasAgg):
    def get_renderer(self) -> RendererAgg:
        width, height = self.get_width_height(physical=True)
        now = getattr(self, "renderer", None)
        if now is None or (now.width, now.height, now.dpi) != (width, height, self.figure.dpi):
            self.renderer = _Renderer(width, height, self.figure.dpi)
        return self.renderer


def legend_beneath(figure: Figure, handles: Sequence[Artist], columns: int = 3) -> None:
    """A legend beneath the axes, where it takes neither their width nor hides data."""
    figure.legend(
        handles=handles, loc="outside lower center", ncols=columns, handlelength=1.6, columnspacing=1.2
    )


def short(name: str) -> str:
    """A name as a figure has room for it."""
    return name if len(name) <= NAME_LENGTH else f"{name[: NAME_LENGTH - 1]}…"


def powers_of_ten(axes: Axes) -> None:
    """A logarithmic x axis whose ticks are written 10⁻³."""
    axes.set_xscale("log")
    raised = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    axes.xaxis.set_major_formatter(lambda value, _: "10" + str(round(np.log10(value))).translate(raised))
    axes.xaxis.set_minor_formatter(NullFormatter())


def write(figure: Figure, path: Path, alt: str) -> str:
    """Write `path` as PNG at 300 dots an inch, for slides, and return the figure as an SVG element.

    The same figure gives the same bytes.

    Args:
        alt: what it shows, for a reader who cannot see it.
    """
    with mpl.rc_context(STYLE):
        png, svg = io.BytesIO(), io.StringIO()
        figure.savefig(png, format="png", dpi=300, metadata={"Software": None})
        figure.set_layout_engine("none")  # keep the layout just found, which takes longer than the drawing
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        with warnings.catch_warnings():
            # A browser has fonts of its own, and the text is left to it.
            warnings.filterwarnings("ignore", "Glyph .* missing from font")
            figure.savefig(svg, format="svg", metadata=nothing)
    write_atomically(path, png.getvalue())
    element = svg.getvalue()[svg.getvalue().index("<svg") :]
    return _NAMED_GROUP.sub("<g", element).replace("<svg ", f'<svg role="img" aria-label="{escape(alt)}" ', 1)
