"""Tables as CSV, for spreadsheets too: a cell that one would take for a formula stays the text that it is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd  # a page of text does without it

# What a formula begins with, as OWASP lists it; and the escaped form, so that no other text is taken for it.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def csv_text(frame: pd.DataFrame, float_format: str) -> str:
    """The table without its index; an apostrophe stands before every text, in a cell or a column's name, that
    begins like a formula. Numbers are written as they are, by `float_format`."""
    escaped = frame.rename(columns=_escaped)
    for c, kind in enumerate(frame.dtypes):
        if kind.kind not in "biufc":
            escaped.isetitem(c, frame.iloc[:, c].map(_escaped))
    return escaped.to_csv(index=False, float_format=float_format)


def _escaped(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value
