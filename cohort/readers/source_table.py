"""A source's table as text cells, and label cells as numbers; shared by the readers.

Shape legend: N rows, C labels.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from cohort.errors import InputError, shortened
from cohort.labels import NO_FINDING, did_you_mean
from cohort.limits import LONGEST_CELL
from cohort.parquet_files import read_parquet
from cohort.readers.table_files import WRONG_FILE, read_cells
from cohort.readers.unlike_labels import unlike_labels
from cohort.spellings import seen

# Narrower than what Python reads as a number: `2024_01` is an id and `inf` a word.
_ID = re.compile(r"0\d.*|[+-]?\d{16,}", re.ASCII)
_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
_DECIMAL_COMMA = re.compile(r"[+-]?\d+(,\d+)?", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,2})?", re.ASCII)

# What cells raise that are of no kind pandas has, a day of the year 9999 or an unknown time zone say.
_WRONG_CELLS = (ValueError, TypeError, KeyError, OverflowError, NotImplementedError)

MISSING = frozenset(
    ["", "na", "n/a", "#n/a", "#na", "<na>", "nan", "-nan", "nat", "null", "none", "-", "--", "?"]
)
"""What programs and people write into a cell that is blank, in lower case: the markers that pandas reads so,
and three of people's own."""
LABEL_CELLS = {  # the cells of a label column, in lower case
    "1": 1.0,
    "1.0": 1.0,
    "0": 0.0,
    "0.0": 0.0,
    "-1": -1.0,
    "-1.0": -1.0,
    **dict.fromkeys("true yes y ja j positive pos present".split(), 1.0),
    **dict.fromkeys("false no n nein negative neg absent".split(), 0.0),
}


def read_source(path: Path | str, missing: Container[str] = MISSING) -> pd.DataFrame:
    """`source_and_notes` without notes, of a table that says itself what it is."""
    return source_and_notes(path, missing)[0]


def source_and_notes(
    path: Path | str,
    missing: Container[str] = MISSING,
    encoding: str | None = None,
    columns: Sequence[str] | None = None,
) -> tuple[pd.DataFrame, list[str]]:
    """A table (`table_files`, or Parquet) with every cell as stripped text, or None where it is blank or
    holds one of `missing`, in lower case; and what was guessed of it, in sentences.

    Text, so that an id such as `007` stays what it is; in a table without commas between its cells a column
    of numbers with decimal commas gets points. The index names each row as a person finds it: where there is
    a header it is row 1, as in a spreadsheet. InputError where the file is absent, unreadable, larger than
    `cohort.limits` says or without a row, where a row has more or fewer cells than the header, where two
    columns bear one name, and for a cell that holds a NUL.

    Args:
        encoding: of a text; None: as its bytes say.
        columns: names of the columns of a text without a header.
    """
    path = Path(path)
    notes: list[str] = []
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            raw, rows = _read_parquet(path)
        else:
            table = read_cells(path, encoding, columns)
            _refuse_twice([name for name in table.header if name])
            raw = {
                name: [cells[c] for cells in table.rows.values()]
                for c, name in enumerate(table.header)
                if name
            }
            rows, notes = list(table.rows), table.notes
            if table.delimiter not in ("", ","):
                raw = {name: _with_points(column) for name, column in raw.items()}
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except InputError:
        raise
    except (*WRONG_FILE, csv.Error, pa.ArrowException, *_WRONG_CELLS) as error:
        reason = shortened(getattr(error, "strerror", None) or str(error))
        raise InputError(f"{path}: not a readable CSV or Parquet table ({reason})") from error
    if not rows:
        raise InputError(f"{path}: there are no rows below the header; give a table with one row per image")
    index = [f"{path}, row {row}" for row in rows]
    texts = {name: _texts(column, missing, name, index) for name, column in raw.items()}
    return pd.DataFrame(texts, index=index, dtype=object), notes


def _texts(
    column: Sequence[Any], missing: Container[str], name: str, index: Sequence[str]
) -> list[str | None]:
    """The cells as text; each different one, of which most columns have few, is looked at once."""
    # True, 1 and 1.0 are the same key.
    keys = column if set(map(type, column)) == {str} else [(type(cell), cell) for cell in column]
    texts: dict[Any, str | None] = {}
    for key, cell in dict(zip(keys, column, strict=True)).items():
        text = texts[key] = _text(cell, missing)
        if text is not None and (len(text) > LONGEST_CELL or "\0" in text):
            fault = "a NUL" if "\0" in text else f"more than {LONGEST_CELL:,} characters"
            row = index[keys.index(key)]
            raise InputError(f"{row}: column {shortened(name)!r} has a cell with {fault}; mend the table")
    return [texts[key] for key in keys]


def _with_points(column: Sequence[Any]) -> Sequence[Any]:
    """A column of numbers of which some have a decimal comma, with points; another as it is."""
    distinct = {cell.strip() for cell in column} - {""}
    if not any("," in cell for cell in distinct) or not all(map(_DECIMAL_COMMA.fullmatch, distinct)):
        return column
    return [cell.replace(",", ".") for cell in column]


def _read_parquet(path: Path) -> tuple[dict[str, list[Any]], range]:
    """The columns and the numbers of the rows."""
    table = read_parquet(path)
    _refuse_twice(table.column_names)
    frame = table.to_pandas(ignore_metadata=True)
    return {str(name): frame[name].tolist() for name in frame}, range(1, len(frame) + 1)


def _refuse_twice(names: Sequence[str]) -> None:
    name, count = Counter(map(seen, names)).most_common(1)[0] if names else ("", 0)
    if count > 1:
        raise ValueError(f"{count} columns are called {name!r}; give them different names")
    if unfit := next((name for name in names if not name.isprintable()), None):
        raise ValueError(f"the column {shortened(unfit)!r} is called what cannot be printed; rename it")


def _text(cell: object, missing: Container[str]) -> str | None:
    if cell is None or cell is pd.NA or cell is pd.NaT or (isinstance(cell, float) and np.isnan(cell)):
        return None
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)  # Parquet stores a column of whole numbers with gaps as floats
    text = str(cell).strip()
    return None if text.lower() in missing else text


def require_columns(frame: pd.DataFrame, names: Sequence[str], path: Path | str) -> None:
    """InputError for the first of `names` that is not a column."""
    for name in names:
        if name not in frame.columns:
            raise InputError(f"{path}: no column {name!r}; {_meant(name, frame.columns)}")


def as_written(frame: pd.DataFrame, name: str) -> str:
    """The name of a column as the table writes it, where that looks the same; another name as it is."""
    if name in frame.columns:
        return name
    return next((column for column in frame.columns if seen(column) == seen(name)), name)


def _meant(name: str, columns: Iterable[str]) -> str:
    """The end of a message about an absent column; a name with a comma may have been taken for several."""
    for column in columns:
        if "," in column and name in [part.strip() for part in column.split(",")]:
            return f"the name {column!r} holds a comma: put it in quotes, as in CSV: '\"{column}\"'"
    return did_you_mean(name, columns)


def require_label_columns(
    frame: pd.DataFrame, labels: Sequence[str], no_finding: str, path: Path | str
) -> pd.DataFrame:
    """The table with a column for each of `labels`: an absent "No Finding" is added blank, to be derived.

    Raises InputError for another absent label, and for an absent "No Finding" that is to be taken as given.
    """
    for label in labels:
        if label not in frame.columns and label != NO_FINDING:
            raise InputError(f"{path}: no label column {label!r}; {_meant(label, frame.columns)}")
    if NO_FINDING not in labels or NO_FINDING in frame.columns:
        return frame
    if no_finding == "as-given":
        raise InputError(
            f"{path}: no column {NO_FINDING!r}, so it cannot be taken as given; choose the rule complement "
            "or strict, which derive it"
        )
    return frame.assign(**{NO_FINDING: None})


def without_markers(
    frame: pd.DataFrame, missing: Container[str]
) -> tuple[pd.DataFrame, dict[str, Counter[str]]]:
    """The table with None for every cell that is one of `missing` in lower case, and for each column how
    often which marker stood there."""
    markers = {
        name: Counter(
            {
                cell: count
                for cell, count in Counter(frame[name].tolist()).items()
                if cell is not None and cell.lower() in missing
            }
        )
        for name in frame.columns
    }
    cells = {
        name: [None if cell in found else cell for cell in frame[name]] if found else frame[name].tolist()
        for name, found in markers.items()
    }
    return pd.DataFrame(cells, index=frame.index, dtype=object), markers


def require_cells(frame: pd.DataFrame, name: str, hint: str = "") -> None:
    """InputError for the first blank cell of a column; `hint` ends the message."""
    for row, cell in frame[name].items():
        if cell is None:
            raise InputError(f"{row}: column {name!r} is blank; every row must have a value there{hint}")


def require_distinct(cells: pd.Series, what: str, hint: str = "keep one of the two") -> None:
    """InputError for the first cell that stands in an earlier row already; `what` is what a cell names."""
    first: dict[str, str] = {}
    for row, cell in cells.items():
        if cell in first:
            raise InputError(
                f"{row}: {what} {cell!r} stands in an earlier row already ({first[cell]}); {hint}"
            )
        first[cell] = row


def label_cells(frame: pd.DataFrame, labels: Sequence[str], positive_from: float | None = None) -> np.ndarray:
    """raw_NC for `cohort.labels.apply_policy`: 1, 0, -1 (uncertain) and NaN (blank); of grades 1 where they
    are `positive_from` or more; InputError for another cell."""
    raw_NC = np.full((len(frame), len(labels)), np.nan)
    for c, label in enumerate(labels):
        values = {cell: _label_value(cell, positive_from) for cell in set(frame[label]) if cell is not None}
        for n, cell in enumerate(frame[label].tolist()):
            if cell is None:
                continue
            if values[cell] is None:
                raise InputError(
                    f"{frame.index[n]}: label {label!r} must be 1, 0, -1 (uncertain), yes, no or blank, "
                    f"got {shortened(cell)!r}{_what_it_holds(frame[label], cell)}"
                )
            raw_NC[n, c] = values[cell]
    return raw_NC


def _what_it_holds(column: pd.Series, cell: str) -> str:
    """The end of a message about a cell that is no label, where its column tells more."""
    if looks := unlike_labels(column.dropna().tolist()):
        return f"; its column holds {looks}"
    return "; of grades `radtune cohort table` takes --positive-from GRADE" if _NUMBER.fullmatch(cell) else ""


def _label_value(cell: str, positive_from: float | None) -> float | None:
    """1, 0, -1, or None for another; `1.00` is 1."""
    number = float(cell) if _NUMBER.fullmatch(cell) else None
    if number is None or number == -1:
        return LABEL_CELLS.get(cell.lower(), number)
    if positive_from is not None:
        return float(number >= positive_from)
    return number if number in (0, 1) else None


def typed(cells: Sequence[str | None]) -> list:
    """Whole numbers or numbers where every cell is one, and none is an id: has a leading zero, or so many
    digits that a number would lose some."""
    given = [cell for cell in cells if cell is not None]
    if not given or any(map(_ID.fullmatch, given)):
        return list(cells)
    for written, number in ((_WHOLE, int), (_NUMBER, float)):
        if all(map(written.fullmatch, given)):
            return [None if cell is None else number(cell) for cell in cells]
    return list(cells)
