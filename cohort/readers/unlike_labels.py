"""Columns that hold something else than labels: run lengths, free text, measurements, ids."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

from cohort.errors import shortened

_RUNS = re.compile(r"\d+(\s+\d+){3,}", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?", re.ASCII)
_LONG = 80
"""Characters of a name: those of published vocabularies are shorter."""
_FEW = 10
"""Names that may all be different without being ids; and numbers that may be grades."""
_OWN = 0.8
"""Share of rows with a name that no other row has, from which on names are ids."""


def unlike_labels(named: Sequence[str]) -> str | None:
    """What the names in a column look like, where that is no label, and what to do about it.

    Args:
        named: every name of every row, once per row.
    """
    count = Counter(named)
    distinct = list(count)
    if len(distinct) < 2:
        return None
    if _most(distinct, lambda name: bool(_RUNS.fullmatch(name))):
        return "run lengths of masks: put them beside a cohort with `radtune cohort annotate --format siim`"
    if _most(distinct, lambda name: len(name) > _LONG):
        return (
            f"free text, such as {shortened(distinct[0])!r}: carry it along with --keep, and name the "
            "column that holds labels"
        )
    if len(distinct) > _FEW and _most(distinct, lambda name: bool(_NUMBER.fullmatch(name))):
        return "numbers that are measured or counted: carry them along with --keep"
    if len(distinct) >= _FEW and len(distinct) >= _OWN * len(named):
        return (
            f"ids or free text, for {len(distinct)} of {len(named)} are different: name the column that "
            "holds labels, or choose among these with --labels"
        )
    return None


def _most(names: Sequence[str], like: Callable[[str], bool]) -> bool:
    return sum(map(like, names)) > len(names) / 2
