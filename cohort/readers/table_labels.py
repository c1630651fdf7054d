"""The labels of a table: a column each, or one column for all.

Shape legend: N images, C labels.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cohort.readers.label_column import SEPARATOR, merge_rows, select_labels
from cohort.readers.source_table import as_written, label_cells, require_distinct, require_label_columns


@dataclass(frozen=True)
class LabelledRows:
    """A row an image, with its labels."""

    frame: pd.DataFrame
    labels: list[str]
    """As the table writes them."""
    raw_NC: np.ndarray
    """The table's label cells: 1, 0, -1 (uncertain), NaN (blank)."""
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class LabelSource:
    """Where the labels stand, as the user says."""

    labels: Sequence[str] | None
    column: str | None
    separator: str | None
    no_finding: str
    missing: Container[str]
    table: Path | str

    def in_columns(self, frame: pd.DataFrame, image_column: str) -> LabelledRows:
        """Of a table with a column a label; InputError for an image in several rows."""
        labels = [as_written(frame, label) for label in self.labels]
        frame = require_label_columns(frame, labels, self.no_finding, self.table)
        raw_NC = label_cells(frame, labels)
        require_distinct(
            frame[image_column],
            "image",
            "an image must have one row, unless a label column names one label a row",
        )
        return LabelledRows(frame, labels, raw_NC)

    def in_one_column(
        self,
        frame: pd.DataFrame,
        image_column: str,
        single: Sequence[str | None],
        markers: Counter[str],
    ) -> LabelledRows:
        """Of a table with a column that names labels; `single` are columns that must agree within an image,
        `markers` what that column is blank for, and how often."""
        merged = merge_rows(
            frame, image_column, self.column, self.separator or SEPARATOR, single, self.missing
        )
        warnings = list(merged.warnings)
        if markers:
            said = ", ".join(f"{marker} {count}" for marker, count in markers.most_common())
            warnings.append(
                f"column {self.column!r} is blank where it holds a marker ({said}){how_to_keep(markers)}"
            )
        if self.labels is None:
            return LabelledRows(merged.frame, merged.labels, merged.raw_NC, warnings)
        labels, raw_NC, left_out = select_labels(merged, self.labels, self.column, self.table)
        return LabelledRows(merged.frame, labels, raw_NC, [*warnings, *left_out])


def how_to_keep(markers: Counter[str]) -> str:
    """The end of a message about cells that are blank for their marker; "" where there are none."""
    if not markers:
        return ""
    marker = markers.most_common(1)[0][0]
    return f"; pass --not-missing {shlex.quote(marker)} where {marker} is a value and marks nothing missing"
