"""One column that names each row's labels: several rows of one image merged, several labels in a cell apart.

Shape legend: N images, C labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Container, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cohort.errors import InputError
from cohort.labels import CHEXPERT_14, NIH_14, NO_FINDING, did_you_mean
from cohort.readers.list_cells import are_lists, list_items
from cohort.readers.rare_labels import at_levels, doubtful_names
from cohort.readers.source_table import LABEL_CELLS, MISSING
from cohort.readers.unlike_labels import unlike_labels
from cohort.spellings import one_spelling, seen, taken_for_one

# ChestX-ray14's own table writes several labels into one cell.
SEPARATOR = "|"

_LIKELY_SEPARATORS = (",", ";", "|", "/", "+", "&")
_LISTING = (",", ";", "|")
_SHOWN = 3


@dataclass(frozen=True)
class Merged:
    """One row per image, from one label per row."""

    frame: pd.DataFrame
    labels: list[str]
    raw_NC: np.ndarray
    """What is not named is negative, and a blank cell blank for all labels."""
    warnings: list[str]


def merge_rows(
    frame: pd.DataFrame,
    keys: Sequence[str],
    label_column: str,
    separator: str,
    missing: Container[str] = MISSING,
    chosen: Sequence[str] | None = None,
    levels: str | None = None,
) -> Merged:
    """The rows of one image merged, or of one image and rater, as `keys` names the columns, and each cell cut
    at the separator, or taken apart where the column holds lists (`list_cells`).

    Names that look the same are one label, written as the first of them; a name among `missing`, in lower
    case, is none. `chosen` are the labels that are wanted, None for all; `levels` what
    `at_levels` takes.

    Raises InputError where the column is blank throughout or holds no names but 1 and 0, and unless labels
    are chosen where it holds something else than labels (`unlike_labels`).
    """
    position: dict[tuple[str, ...], int] = {}
    first_rows: list[int] = []
    positive: list[set[str]] = []
    spellings: dict[str, str] = {}
    replaced: list[tuple[str, str]] = []
    names: list[str] = []
    known: dict[str | None, list[str]] = {}
    lists = are_lists(frame[label_column].tolist())
    keyed = zip(*(frame[name] for name in keys), strict=True)
    for row, (key, cell) in enumerate(zip(keyed, frame[label_column], strict=True)):
        n = position.setdefault(key, len(first_rows))
        if n == len(first_rows):
            first_rows.append(row)
            positive.append(set())
        if cell not in known:
            if lists:
                where = f"{frame.index[row]}, column {label_column!r}"
                parts = list_items(cell, where) if cell else []
            else:
                parts = [part.strip() for part in (cell or "").split(separator)]
            if levels:
                parts = [name for part in parts for name in at_levels(part, levels)]
            named, again = one_spelling([part for part in parts if part.lower() not in missing], spellings)
            known[cell] = list(dict.fromkeys(named))
            replaced += again
        names += known[cell]
        positive[n].update(known[cell])

    labels = _in_known_order(set().union(*positive))
    if not labels:
        raise InputError(f"{frame.index[0]}: column {label_column!r} is blank here and in every other row")
    if chosen is None and all(label.lower() in LABEL_CELLS for label in labels):
        raise InputError(
            f"{frame.index[0]}: column {label_column!r} holds {', '.join(labels)}, which say yes or no and "
            f"name no label; pass --labels {label_column!r} instead of --label-column"
        )
    if chosen is None and (looks := unlike_labels(names)):
        raise InputError(f"{frame.index[0]}: column {label_column!r} holds no labels but {looks}")
    raw_NC = np.array([[float(label in has) if has else np.nan for label in labels] for has in positive])
    warnings = taken_for_one("labels", replaced)
    if not lists and (missed := missed_separator(labels, separator)):
        warnings.append(missed)
    warnings += doubtful_names(labels, levels_asked=levels is not None)
    return Merged(frame.iloc[first_rows], labels, raw_NC, warnings)


def select_labels(
    merged: Merged, chosen: Sequence[str], label_column: str, path: Path | str
) -> tuple[list[str], np.ndarray, list[str]]:
    """`chosen` of the labels that a column names: as the column writes them, their cells, and a warning of
    the others, which are no labels then; InputError for one that it does not name."""
    written = {seen(label): label for label in merged.labels}
    for label in chosen:
        if seen(label) not in written:
            raise InputError(
                f"{path}: column {label_column!r} names no label {label!r}; "
                f"{did_you_mean(label, merged.labels)}"
            )
    labels = [written[seen(label)] for label in chosen]
    others = {
        label: int(np.nansum(merged.raw_NC[:, c]))
        for c, label in enumerate(merged.labels)
        if label not in labels
    }
    said = ", ".join(f"{label} {count}" for label, count in list(others.items())[:_SHOWN])
    more = ", ..." if len(others) > _SHOWN else ""
    warnings = (
        [f"{len(others)} labels of column {label_column!r} are left out ({said}{more})"] if others else []
    )
    return labels, merged.raw_NC[:, [merged.labels.index(label) for label in labels]], warnings


def missed_separator(labels: Sequence[str], separator: str) -> str | None:
    """A warning where labels look like several in one: where a part of one, cut at another mark, is a label
    itself or part of another as well (`Edema,Mass` beside `Mass`), or where all parts of one, cut at a mark
    of lists, begin as names do (`COVID-19, ARDS`; not `melanoma, in situ`)."""
    for mark in _LIKELY_SEPARATORS:
        parts = {label: {part.strip() for part in label.split(mark)} - {""} for label in labels}
        count = Counter(part for label in labels for part in parts[label])
        several = [
            label
            for label in labels
            if mark in label and (any(count[part] > 1 for part in parts[label]) or _names(parts[label], mark))
        ]
        if several and mark != separator:
            shown = ", ".join(map(repr, several[:_SHOWN])) + (", ..." if len(several) > _SHOWN else "")
            return (
                f"{len(several)} of {len(labels)} labels look like several in one ({shown}), for cells are "
                f"cut at {separator!r} only; pass --label-separator {mark!r} if they are"
            )
    return None


def _names(parts: Collection[str], mark: str) -> bool:
    return mark in _LISTING and len(parts) > 1 and all(part[0].isupper() for part in parts)


def _in_known_order(labels: set[str]) -> list[str]:
    for vocabulary in (CHEXPERT_14, (*NIH_14, NO_FINDING)):
        if labels <= set(vocabulary):
            return [label for label in vocabulary if label in labels]
    return sorted(labels)
