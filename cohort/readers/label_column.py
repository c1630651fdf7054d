"""One column that names each row's labels: several rows of one image merged, several labels in a cell apart.

Shape legend: N images, C labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from cohort.errors import InputError
from cohort.labels import CHEXPERT_14, NIH_14, NO_FINDING
from cohort.readers.source_table import LABEL_CELLS

# ChestX-ray14's own table writes several labels into one cell.
SEPARATOR = "|"

_LIKELY_SEPARATORS = (",", ";", "|", "/", "+", "&")
_SHOWN = 3


def merge_rows(
    frame: pd.DataFrame, image_column: str, label_column: str, separator: str, single: Sequence[str | None]
) -> tuple[pd.DataFrame, list[str], np.ndarray]:
    """One row an image, from one label a row: (frame, labels, raw_NC), in which what is not named is negative
    and a blank cell blank for all labels. `single` are columns that must agree within an image.

    Raises InputError where they do not, and where the column is blank throughout or holds no names but 1 and
    0.
    """
    position: dict[str, int] = {}
    first_rows: list[int] = []
    positive: list[set[str]] = []
    columns = {name: frame[name].tolist() for name in {image_column, label_column, *filter(None, single)}}
    for row in range(len(frame)):
        image = columns[image_column][row]
        n = position.setdefault(image, len(first_rows))
        if n == len(first_rows):
            first_rows.append(row)
            positive.append(set())
        for name in filter(None, single):
            if columns[name][row] != columns[name][first_rows[n]]:
                raise InputError(
                    f"{frame.index[row]}: image {image!r} has {columns[name][row]!r} in column {name!r}, but "
                    f"{columns[name][first_rows[n]]!r} in an earlier row; rows of one image must agree"
                )
        cell = columns[label_column][row] or ""
        positive[n] |= {part.strip() for part in cell.split(separator)} - {""}

    labels = _in_known_order(set().union(*positive))
    if not labels:
        raise InputError(f"{frame.index[0]}: column {label_column!r} is blank here and in every other row")
    if all(label.lower() in LABEL_CELLS for label in labels):
        raise InputError(
            f"{frame.index[0]}: column {label_column!r} holds {', '.join(labels)}, which say yes or no and "
            f"name no label; pass --labels {label_column!r} instead of --label-column"
        )
    raw_NC = np.array([[float(label in has) if has else np.nan for label in labels] for has in positive])
    return frame.iloc[first_rows], labels, raw_NC


def missed_separator(labels: Sequence[str], separator: str) -> str | None:
    """A warning where labels look like several in one: where a part of one, cut at another mark, is a label
    itself or part of another as well (`Edema,Mass` beside `Mass`)."""
    for mark in _LIKELY_SEPARATORS:
        parts = {label: {part.strip() for part in label.split(mark)} - {""} for label in labels}
        count = Counter(part for label in labels for part in parts[label])
        several = [
            label for label in labels if mark in label and any(count[part] > 1 for part in parts[label])
        ]
        if several and mark != separator:
            shown = ", ".join(map(repr, several[:_SHOWN])) + (", ..." if len(several) > _SHOWN else "")
            return (
                f"{len(several)} of {len(labels)} labels look like several in one ({shown}), for cells are "
                f"cut at {separator!r} only; pass --label-separator {mark!r} if they are"
            )
    return None


def _in_known_order(labels: set[str]) -> list[str]:
    for vocabulary in (CHEXPERT_14, (*NIH_14, NO_FINDING)):
        if labels <= set(vocabulary):
            return [label for label in vocabulary if label in labels]
    return sorted(labels)
