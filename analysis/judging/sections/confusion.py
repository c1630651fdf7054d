"""Which label was decided for images of which: the confusion matrices of the best configuration and the plain
method. Only for multiclass labels.

Shape legend: N images, C labels; the first axis of (C, C) is the true label, the second the decided one.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from analysis.figures import INK, STYLE, WIDTH, new_figure, short
from analysis.judging.judgement import Judgement
from analysis.number_format import share
from analysis.row_styles import BEST
from analysis.section import Folded, Part, Picture, Row, Section, Table, Words
from trainables.baselines import LOGREG

TITLE = "What was taken for what"

COUNTED, SHARED = 8, 15
"""Up to so many labels a cell of the figure has room for its count beneath its share, and for its share."""


def run(judgement: Judgement) -> Section:
    names = [judgement.cohort.label_name(label) for label in judgement.cohort.labels]
    targets_NC = judgement.split.targets_NC
    matrices = {
        id: class_counts(targets_NC, judgement.row(id).test_decisions_NC) for id in (judgement.best, LOGREG)
    }
    parts: list[Part] = [
        Words(
            text="Every test image has one label and one is decided for it. A line holds the images of one "
            "true label; along it stands what they were taken for, in percent of the line. On the diagonal "
            "lies what was right."
        )
    ]
    for id, counts_CC in matrices.items():
        name = judgement.names[id]
        parts.append(
            Picture(
                name=f"confusion_{name}",
                figure=confusion_matrix(counts_CC, names, name),
                alt=f"Confusion matrix of {name} on test; its counts stand in the table.",
            )
        )
    tables = [_table(counts_CC, names, judgement.names[id]) for id, counts_CC in matrices.items()]
    parts.append(Folded(title="The counts", parts=tables))
    return Section(
        parts=parts, tables={"confusion": judgement.shown(_long(matrices, judgement.cohort.labels))}
    )


def class_counts(targets_NC: np.ndarray, decisions_NC: np.ndarray) -> np.ndarray:
    """int64 (C, C): images of each label that each label was decided for; masked images take no part.

    Args:
        targets_NC: 0 and one 1, or NaN throughout where masked.
        decisions_NC: bool, one an image.
    """
    return (targets_NC == 1).T.astype(np.int64) @ decisions_NC.astype(np.int64)


def confusion_matrix(counts_CC: np.ndarray, names: Sequence[str], title: str) -> Figure:
    """The matrix, shaded by each cell's share of its line, which stands in it with the count where there is
    room; of many labels the columns have only numbers."""
    images_C1 = counts_CC.sum(axis=1, keepdims=True)
    share_CC = np.divide(counts_CC, images_C1, out=np.zeros(counts_CC.shape), where=images_C1 > 0)
    labels = len(names)
    with mpl.rc_context(STYLE):
        figure = new_figure(WIDTH, 1.6 + (0.42 if labels <= COUNTED else 0.3) * labels)
        axes = figure.subplots()
        shades = LinearSegmentedColormap.from_list("shares", ["white", BEST])
        axes.imshow(share_CC, cmap=shades, vmin=0, vmax=1, aspect="auto")
        for true, decided in np.ndindex(counts_CC.shape):
            if labels > SHARED:
                break
            text = f"{100 * share_CC[true, decided]:.0f}"
            if labels <= COUNTED:
                text += f"%\n{counts_CC[true, decided]:,}"
            colour = "white" if share_CC[true, decided] > 0.6 else INK
            axes.text(
                decided, true, text, ha="center", va="center", color=colour, fontsize=9, linespacing=1.05
            )
        shown = [short(name) for name in names]
        if labels <= COUNTED:
            upright = {"rotation": 35, "ha": "right", "va": "center", "rotation_mode": "anchor"}
            axes.set_xticks(range(labels), shown, **upright)
            lines = [f"{name}  ({images:,})" for name, images in zip(shown, images_C1[:, 0], strict=True)]
        else:
            axes.set_xticks(range(labels), [str(n) for n in range(1, labels + 1)], fontsize=9)
            lines = [f"{name}  {n}" for n, name in enumerate(shown, start=1)]
        axes.set_yticks(range(labels), lines)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("decided")
        axes.set_ylabel("true (images)" if labels <= COUNTED else "true")
        axes.set_title(title)
    return figure


def _table(counts_CC: np.ndarray, names: Sequence[str], title: str) -> Table:
    rows = []
    for name, counts_C in zip(names, counts_CC, strict=True):
        images = int(counts_C.sum())
        cells = [f"{count:,} ({share(int(count), images)})" for count in counts_C]
        rows.append(Row(cells=[name, *cells, f"{images:,}"]))
    return Table(columns=["true, decided as", *names, "images"], rows=rows, title=title)


def _long(matrices: dict[str, np.ndarray], labels: Sequence[str]) -> pd.DataFrame:
    """`confusion.csv`, rows by their ids: setting, true, decided, images, share (of the images of the true
    label)."""
    rows = [
        (name, labels[true], labels[decided], int(count), count / max(int(counts_CC[true].sum()), 1))
        for name, counts_CC in matrices.items()
        for (true, decided), count in np.ndenumerate(counts_CC)
    ]
    return pd.DataFrame(rows, columns=["setting", "true", "decided", "images", "share"])
