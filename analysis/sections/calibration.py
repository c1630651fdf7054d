"""Whether predicted probabilities are met by as many positives.

Shape legend: N images, C labels, M known cells of the averaged labels.
"""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from analysis.evidence import Evidence
from analysis.figures import BEST, COLOURS, QUIET, STYLE, WIDTH, legend_beneath, new_figure
from analysis.predictors import LOGREG, PAPER
from analysis.section import Picture, Section

TITLE = "Calibration"

FEWEST = 20
"""Predictions that a group needs for a dot."""


def run(evidence: Evidence) -> Section:
    shown = [name for name in (LOGREG, PAPER, evidence.best) if evidence.drawn(name)]
    probs = {row.name: row.test_unit_NC for row in evidence.rows if row.name in shown and not row.ranks_only}
    return Section(
        parts=[
            Picture(
                name="reliability",
                figure=reliability(evidence.split.targets_NC, probs, evidence.split.averaged_C),
                alt="Share of positive test images against the predicted probability, with the diagonal of "
                "perfect calibration.",
                caption="Test images, the averaged labels pooled and grouped by predicted probability, at "
                f"least {FEWEST} to a group. On the dashed line, of ten images given a probability of 0.3 "
                "three are positive. A loss that is weighted for imbalance leaves this line by design; use "
                "the decisions, or calibrate, before reading its outputs as risks.",
            )
        ]
    )


def reliability(targets_NC: np.ndarray, probs: Mapping[str, np.ndarray], averaged_C: np.ndarray) -> Figure:
    """Share of positives against the predicted probability, all averaged labels pooled.

    Predictions are grouped by probability, finer near 0 where most lie; a group needs FEWEST of them.

    Args:
        targets_NC: 0, 1 or NaN where masked.
        probs: setting -> probabilities (N, C).
        averaged_C: bool (C,).
    """
    edges = [0.02, 0.05, 0.1, 0.15, *np.arange(0.2, 1, 0.1)]
    with mpl.rc_context(STYLE):
        figure = new_figure(WIDTH, 3.8)
        axes = figure.subplots()
        known_NC = ~np.isnan(targets_NC[:, averaged_C])
        target_M = targets_NC[:, averaged_C][known_NC]
        for name, probs_NC in probs.items():
            prob_M = probs_NC[:, averaged_C][known_NC]
            group_M = np.digitize(prob_M, edges)
            groups = [group_M == g for g in range(len(edges) + 1) if np.sum(group_M == g) >= FEWEST]
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
        legend_beneath(figure, axes.get_lines()[: len(probs)])
    return figure
