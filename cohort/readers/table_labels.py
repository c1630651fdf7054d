"""The labels of a table: a column each, or one column for all.

Shape legend: N images, C labels.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from cohort.raters import Raters
from cohort.readers.label_column import SEPARATOR, merge_rows, select_labels
from cohort.readers.rater_rows import one_answer, one_row_a_key
from cohort.readers.source_table import as_written, label_cells, require_label_columns


@dataclass(frozen=True, kw_only=True)
class LabelledRows:
    """One row per image, with its labels."""

    frame: pd.DataFrame
    labels: list[str]
    """As the table writes them."""
    raw_NC: np.ndarray
    """The table's label cells: 1, 0, -1 (uncertain), NaN (blank)."""
    warnings: Sequence[str] = ()
    raters: Raters | None = None


@dataclass(frozen=True, kw_only=True)
class LabelSource:
    """Where the labels stand, as the user says."""

    labels: Sequence[str] | None
    column: str | None
    separator: str | None
    no_finding: str
    missing: Container[str]
    table: Path | str
    levels: str | None = None
    """See `rare_labels.at_levels`."""
    positive_from: float | None = None
    """The least grade that is positive."""
    rows: str | None = None
    """One of `cohort.labels.ANSWER_RULES`: the answer of several rows with label columns."""
    rater_column: str | None = None
    raters: str | None = None
    """One of `cohort.labels.ANSWER_RULES`, or the name of one."""

    def read(self, frame: pd.DataFrame, image_column: str, markers: Counter[str]) -> LabelledRows:
        """One row per image; `markers` are what the label column is blank for, and how often.

        Raises:
            InputError: an image has several rows or raters, and nothing says what they come to.
        """
        keys = [image_column, *filter(None, [self.rater_column])]
        read = (
            self._in_columns(frame, keys)
            if self.column is None
            else self._in_one_column(frame, keys, markers)
        )
        if self.rater_column is None:
            return read
        columns = image_column, self.rater_column
        frame, raw_NC, raters = one_answer(read.frame, columns, read.raw_NC, read.labels, self.raters)
        read = replace(read, frame=frame, raw_NC=raw_NC, raters=raters)
        return read if self.labels else _without_positives_left(read)

    def _in_columns(self, frame: pd.DataFrame, keys: Sequence[str]) -> LabelledRows:
        labels = [as_written(frame, label) for label in self.labels]
        frame = require_label_columns(frame, labels, self.no_finding, self.table)
        frame, raw_NC = one_row_a_key(frame, keys, label_cells(frame, labels, self.positive_from), self.rows)
        return LabelledRows(frame=frame, labels=labels, raw_NC=raw_NC)

    def _in_one_column(self, frame: pd.DataFrame, keys: Sequence[str], markers: Counter[str]) -> LabelledRows:
        separator = self.separator or SEPARATOR
        merged = merge_rows(frame, keys, self.column, separator, self.missing, self.labels, self.levels)
        warnings = list(merged.warnings)
        if markers:
            said = ", ".join(f"{marker} {count}" for marker, count in markers.most_common())
            warnings.append(
                f"column {self.column!r} is blank where it holds a marker ({said}){how_to_keep(markers)}"
            )
        labels, raw_NC = merged.labels, merged.raw_NC
        if self.labels is not None:
            labels, raw_NC, left_out = select_labels(merged, self.labels, self.column, self.table)
            warnings += left_out
        return LabelledRows(frame=merged.frame, labels=labels, raw_NC=raw_NC, warnings=warnings)


def _without_positives_left(read: LabelledRows) -> LabelledRows:
    """The rows without the labels that no image has by the rule for raters, and a warning of them."""
    kept = [c for c in range(len(read.labels)) if (read.raw_NC[:, c] == 1).any()]
    if len(kept) in (0, len(read.labels)):
        return read
    left_out = ", ".join(label for c, label in enumerate(read.labels) if c not in kept)
    said = f"no image has these labels by the raters' answer ({read.raters.rule}): left out {left_out}"
    return replace(
        read,
        labels=[read.labels[c] for c in kept],
        raw_NC=read.raw_NC[:, kept],
        warnings=[*read.warnings, said],
    )


def how_to_keep(markers: Counter[str]) -> str:
    """The end of a message about cells that are blank for their marker; "" where there are none."""
    if not markers:
        return ""
    marker = markers.most_common(1)[0][0]
    return f"; pass --not-missing {shlex.quote(marker)} where {marker} is a value and marks nothing missing"
