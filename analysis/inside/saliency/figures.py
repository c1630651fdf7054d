"""Maps over images, and how maps behave, as figures.

Shape legend: H height, W width, S steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from analysis.figures import INK, QUIET, STYLE, WIDTH, new_figure, short
from analysis.inside.saliency.pictures import overlay
from analysis.row_styles import BEST, OTHER

LARGEST_SIDE = 768
"""Pixels of an image on a sheet."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Line:
    """One image and label of a sheet."""

    title: str
    pixels: np.ndarray
    """uint8, (H, W) or (H, W, 3)."""
    maps: Sequence[np.ndarray | None]
    """One a column, (H, W); None where a setting has none."""
    mask_HW: np.ndarray | None = None
    """bool: the annotated region."""

    @classmethod
    def shrunk(
        cls,
        title: str,
        pixels: np.ndarray,
        maps: Sequence[np.ndarray | None],
        mask_HW: np.ndarray | None = None,
    ) -> Line:
        """Of an image of any size what a page can show: LARGEST_SIDE pixels on the longer side at most, as a
        drawing of full radiographs takes gigabytes."""
        step = -(-max(pixels.shape[:2]) // LARGEST_SIDE)
        return cls(
            title=title,
            pixels=pixels[::step, ::step],
            maps=[None if one is None else one[::step, ::step] for one in maps],
            mask_HW=None if mask_HW is None else mask_HW[::step, ::step],
        )


def sheet(lines: Sequence[Line], columns: Sequence[str]) -> Figure:
    """One row per line: the image, then each column's map over it, with the annotated region; a colour scale
    per column, by the square root, so that what is weak beside the strongest can still be seen."""
    tops = [
        max(
            (float(np.nanmax(line.maps[place])) for line in lines if line.maps[place] is not None),
            default=0.0,
        )
        for place in range(len(columns))
    ]
    side = WIDTH / (1 + len(columns))
    with mpl.rc_context(STYLE):
        figure = new_figure(WIDTH, len(lines) * (side + 0.25))
        grid = figure.subplots(len(lines), 1 + len(columns), squeeze=False)
        for row, line in zip(grid, lines, strict=True):
            plain = line.pixels if line.pixels.ndim == 3 else np.repeat(line.pixels[:, :, None], 3, axis=2)
            drawn = [plain] + [
                plain if map_HW is None else overlay(line.pixels, np.sqrt(map_HW), top**0.5)
                for map_HW, top in zip(line.maps, tops, strict=True)
            ]
            for axes, pixels in zip(row, drawn, strict=True):
                axes.set_axis_off()
                axes.imshow(pixels)
                if line.mask_HW is not None:
                    axes.contour(line.mask_HW.astype(float), levels=[0.5], colors=OTHER, linewidths=0.9)
            row[0].set_title(short(line.title), fontsize=9)
        for axes, name in zip(grid[0][1:], columns, strict=True):
            above = {"xytext": (0, 15), "textcoords": "offset points", "xycoords": "axes fraction"}
            axes.annotate(name, (0, 1), fontsize=9, **above)  # over the line's own title, which may be long
    return figure


def cascade(sanity: Sequence[tuple[str, float]]) -> Figure:
    """Rank correlation as weights are redrawn from the top down."""
    names = ["trained", *(name for name, _ in sanity)]
    with mpl.rc_context(STYLE):
        figure = new_figure(WIDTH, 0.9 + 0.24 * len(names))
        axes = figure.subplots()
        y = np.arange(len(names))
        axes.plot([1.0, *(value for _, value in sanity)], y, "o-", color=BEST, markersize=4)
        axes.axvline(0, color=QUIET, linewidth=0.7)
        axes.set_yticks(y, names, color=INK)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlabel("rank correlation")
    return figure


def deletion_curves(deleted: Mapping[str, np.ndarray], inserted: Mapping[str, np.ndarray]) -> Figure:
    """Mean probability, (S,) of each kind of map, as pixels are blurred and as they alone are shown."""
    colours = [BEST, "#D55E00", QUIET]
    with mpl.rc_context(STYLE):
        figure = new_figure(WIDTH, 2.3)
        left, right = figure.subplots(1, 2, sharey=True)
        for axes, curves, title in ((left, deleted, "blurred"), (right, inserted, "shown alone")):
            for (name, curve_S), colour in zip(curves.items(), colours, strict=False):
                axes.plot(np.linspace(0, 1, len(curve_S)), curve_S, color=colour, label=name)
            axes.set_xlabel(f"share of pixels {title}")
        left.set_ylabel("probability")
        right.legend(fontsize=8, frameon=False)
    return figure
