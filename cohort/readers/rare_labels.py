"""Labels that are not worth a table's row: of too few patients, placeholders, and levels of names.

Shape legend: N images, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cohort.errors import InputError
from cohort.labels import NO_FINDING
from cohort.multiclass import is_multiclass, more_than_chance
from cohort.patients import positive_patients

OTHER = "other"
LEVEL = "/"
_PLACEHOLDERS = frozenset(
    ["todo", "tbd", "unknown", "unk", "n.a.", "not specified", "unspecified", "not available", "undefined"]
)
_NAMED = 5


@dataclass(frozen=True)
class LabelCells:
    """Labels before and after their policy."""

    labels: Sequence[str]
    raw_NC: np.ndarray
    """1, 0, -1 (uncertain), NaN (blank)."""
    targets_NC: np.ndarray
    """1, 0, NaN where masked: of all labels, so that No Finding is what it is whatever is left out."""


def without_rare(
    cells: LabelCells, patients: Sequence[str], fewest: int, rare: str
) -> tuple[LabelCells, list[str]]:
    """The labels that `fewest` patients at least are positive for, and what was said of the others; No
    Finding always stays.

    Args:
        rare: `leave-out`, or `other`, for which the others become one label of that name.

    Raises:
        InputError: no label is left, one is called `other` already, or labels are left out of which a row has
            exactly one.
    """
    labels, targets_NC = cells.labels, cells.targets_NC
    positive_C = positive_patients(targets_NC, patients)
    few = [c for c, label in enumerate(labels) if positive_C[c] < fewest and label != NO_FINDING]
    if not few:
        return cells, []
    kept = [c for c in range(len(labels)) if c not in few]
    named = ", ".join(f"{labels[c]} {positive_C[c]}" for c in few[:_NAMED])
    named += ", ..." if len(few) > _NAMED else ""
    if rare == OTHER:
        if OTHER in labels:
            raise InputError(f"--rare other: there is a label {OTHER!r} already; leave rare labels out")
        raw_N, target_N = _together(cells.raw_NC[:, few]), _together(targets_NC[:, few])
        found = LabelCells(
            [*(labels[c] for c in kept), OTHER],
            np.column_stack([cells.raw_NC[:, kept], raw_N]),
            np.column_stack([targets_NC[:, kept], target_N]),
        )
        return found, [f"{len(few)} labels of fewer than {fewest} positive patients are {OTHER!r} ({named})"]
    if not kept:
        raise InputError(f"--min-patients {fewest}: no label has so many patients; ask for fewer")
    if positive_C[few].any() and is_multiclass(targets_NC) and more_than_chance(targets_NC, labels):
        raise InputError(
            f"--min-patients {fewest}: each row has one label, and rows of rare ones ({named}) none then; "
            "pass --rare other, or leave the rows out of the table"
        )
    found = LabelCells([labels[c] for c in kept], cells.raw_NC[:, kept], targets_NC[:, kept])
    return found, [f"{len(few)} labels of fewer than {fewest} positive patients are left out ({named})"]


def _together(cells_NC: np.ndarray) -> np.ndarray:
    """Of several labels: positive where one is, uncertain where one is, blank where one is, else negative."""
    cases = [(cells_NC == 1).any(axis=1), (cells_NC == -1).any(axis=1), np.isnan(cells_NC).any(axis=1)]
    return np.select(cases, [1.0, -1.0, np.nan], default=0.0)


def doubtful_names(labels: Sequence[str], levels_asked: bool) -> list[str]:
    """Warnings of labels that look like placeholders, and of names with levels that nobody asked for."""
    warnings = []
    if placeholders := [label for label in labels if label.lower() in _PLACEHOLDERS]:
        named = ", ".join(map(repr, placeholders))
        warnings.append(
            f"labels look like placeholders ({named}): pass --missing {','.join(placeholders)} where nothing "
            "is known of these rows"
        )
    deep = [label for label in labels if LEVEL in label.strip(LEVEL)]
    above = [label.split(LEVEL)[0].strip() for label in deep]
    if not levels_asked and (len(set(above)) < len(above) or set(above) & set(labels)):
        warnings.append(
            f"{len(deep)} labels have levels ({deep[0]!r}): pass --label-levels all for a label of each, "
            "or --label-levels 1 for the first level alone"
        )
    return warnings


def at_levels(name: str, levels: str) -> list[str]:
    """`A`, `A/B` and `A/B/C` of `A/B/C` for `all`, or the first so many levels."""
    parts = [part.strip() for part in name.split(LEVEL)]
    wanted = range(1, len(parts) + 1) if levels == "all" else [min(int(levels), len(parts))]
    return [LEVEL.join(parts[:count]) for count in wanted]
