"""Rows of some radiographic views only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from cohort.errors import InputError
from cohort.labels import did_you_mean
from cohort.spellings import folded


def keep_views(
    frame: pd.DataFrame, column: str, views: Sequence[str], table: Path | str
) -> tuple[pd.DataFrame, str, list[str]]:
    """The rows of these views, which others are left out, in words, and warnings of views that no row has;
    InputError where no row is left."""
    wanted = {folded(view): view for view in views}
    of_row = [folded(cell or "") for cell in frame[column]]
    kept = frame[[view in wanted for view in of_row]]
    others = Counter(
        cell or "(blank)" for cell, view in zip(frame[column], of_row, strict=True) if view not in wanted
    )
    said = ", ".join(f"{view} {count}" for view, count in others.most_common())
    if kept.empty:
        raise InputError(f"{table}: no row has a view among {', '.join(views)}; {column!r} holds: {said}")
    unknown = [view for key, view in wanted.items() if key not in set(of_row)]
    warnings = [
        f"no row has the view {view!r}, and {len(frame) - len(kept)} rows of others are left out; "
        f"{did_you_mean(view, others)}"
        for view in unknown
    ]
    return kept, f" (left out: {said})" if others else "", warnings
