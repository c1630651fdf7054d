"""Labels that are not worth a table's row: of too few patients, placeholders, and levels of names.

Shape legend: N images, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cohort.errors import InputError
from cohort.labels import NO_FINDING
from cohort.patients import positive_patients

OTHER = "other"
LEVEL = "/"
_PLACEHOLDERS = frozenset(
    ["todo", "tbd", "unknown", "unk", "n.a.", "not specified", "unspecified", "not available", "undefined"]
)
_NAMED = 5


def without_rare(
    raw_NC: np.ndarray, labels: Sequence[str], patients: Sequence[str], fewest: int, rare: str
) -> tuple[np.ndarray, list[str], list[str]]:
    """The cells and names of the labels that `fewest` patients at least are positive for, and what was said
    of the others; No Finding always stays.

    Args:
        raw_NC: 1, 0, -1 (uncertain), NaN (blank).
        rare: `leave-out`, or `other`, for which the others become one label of that name.

    Raises:
        InputError: no label is left, or one is called `other` already.
    """
    positive_C = positive_patients(raw_NC == 1, patients)
    few = [c for c, label in enumerate(labels) if positive_C[c] < fewest and label != NO_FINDING]
    if not few:
        return raw_NC, list(labels), []
    kept = [c for c in range(len(labels)) if c not in few]
    named = ", ".join(f"{labels[c]} {positive_C[c]}" for c in few[:_NAMED])
    named += ", ..." if len(few) > _NAMED else ""
    cells_NC, names = raw_NC[:, kept], [labels[c] for c in kept]
    if rare == OTHER:
        if OTHER in names:
            raise InputError(f"--rare other: there is a label {OTHER!r} already; leave rare labels out")
        few_NC = raw_NC[:, few]
        blank_N = np.isnan(few_NC).all(axis=1)
        one_N, doubt_N = ((few_NC == answer).any(axis=1) for answer in (1, -1))
        other_N = np.select([blank_N, one_N, doubt_N], [np.nan, 1.0, -1.0], default=0.0)
        cells_NC, names = np.column_stack([cells_NC, other_N]), [*names, OTHER]
    if not names:
        raise InputError(f"--min-patients {fewest}: no label has so many patients; ask for fewer")
    became = f"became {OTHER!r}" if rare == OTHER else "are left out"
    return cells_NC, names, [f"{len(few)} labels of fewer than {fewest} positive patients {became} ({named})"]


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
