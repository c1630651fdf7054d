"""What an analysis puts on the page: words, tables and figures, in the order in which they are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import pandas as pd

from analysis.number_format import interval, score

if TYPE_CHECKING:  # words do without it
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Words:
    """A paragraph, or several lines as a list."""

    text: str = ""
    lines: Sequence[str] = ()
    kind: Literal["plain", "note"] = "plain"
    """A note is small print beneath a table."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell of a table, where plain text does not do."""

    text: str = ""
    small: str = ""
    """A second line in small figures: an interval, a remark."""
    chips: Sequence[tuple[str, str]] = ()
    """Small labels in place of text: what stands on each, and good, bad or an empty string."""
    strip: tuple[float, float, float, str] | None = None
    """value, low, high and colour of a small drawing beside the text, where there is room for it."""
    across: int = 1
    """Columns that it takes; over several it is flush left."""

    @classmethod
    def of_score(cls, row: pd.Series, digits: int = 3) -> Cell:
        """A row of `test_scores.csv`, its interval in small figures."""
        return cls(text=score(row["value"], digits), small=interval(row))


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a table."""

    cells: Sequence[Cell | str]
    kind: Literal["", "best", "quiet", "published"] = ""
    rule: bool = False
    """A line above it: another kind of rows begins."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows beneath their column names; the first column is flush left."""

    columns: Sequence[str]
    rows: Sequence[Row]
    title: str = ""
    wide: bool = False
    """Over the whole width of the page. Where it is too wide for it, the first column stays and the rest is
    moved sideways."""
    left: Sequence[int] = (0,)
    """Columns that are flush left."""
    strip_range: tuple[float, float] = (0.0, 1.0)
    """Range of the values in small drawings; 0.5 is marked."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Terms with what is to be said of each; a term's details stand beneath it in small print."""

    entries: Sequence[tuple[str, str, str]]
    """(term, details, what is said)."""
    kinds: Sequence[Literal["", "best", "quiet"]] = ()


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure, written as a PNG of this name as well."""

    name: str
    figure: Figure
    alt: str
    """What it shows, for a reader who cannot see it."""
    small: bool = False
    """Two of them stand side by side on a phone."""
    caption: str = ""
    title: str = ""


@dataclass(frozen=True, kw_only=True)
class Folded:
    """Parts that the reader opens."""

    title: str
    parts: Sequence[Words | Table | Terms | Picture]


Part = Words | Table | Terms | Picture | Folded


@dataclass(frozen=True, kw_only=True)
class Section:
    """What one analysis found."""

    parts: Sequence[Part]
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    """Its numbers in long form: name -> table, written as `<name>.csv` beside the report."""
    brief: Sequence[str] = ()
    """What the terminal says of it, a line each; mostly nothing."""
