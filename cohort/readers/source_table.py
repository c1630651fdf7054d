"""A source's table as text cells, and label cells as numbers; shared by the readers.

Shape legend: N rows, C labels.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np
import pandas as pd
import pyarrow as pa

from cohort.errors import InputError, shortened
from cohort.files import open_regular
from cohort.labels import NO_FINDING, did_you_mean
from cohort.limits import LONGEST_CELL, LONGEST_ROW
from cohort.parquet_files import check_size, read_parquet
from cohort.spellings import seen

# Narrower than what Python reads as a number: `2024_01` is an id and `inf` a word.
_ID = re.compile(r"0\d.*|[+-]?\d{16,}", re.ASCII)
_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
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
    "true": 1.0,
    "false": 0.0,
}


def read_source(path: Path | str, missing: Container[str] = MISSING) -> pd.DataFrame:
    """A CSV or Parquet table with every cell as stripped text, or None where it is blank or holds one of
    `missing`, in lower case.

    Text, so that an id such as `007` stays what it is. The index names each row as a person finds it: in a
    CSV file the header is row 1, as in a spreadsheet. InputError where the file is absent, unreadable, larger
    than `cohort.limits` says or without a row, where a row of a CSV file has more or fewer cells than the
    header, where two columns bear one name, and for a cell that holds a NUL.
    """
    path = Path(path)
    try:
        frame = _read_parquet(path) if path.suffix.lower() in (".parquet", ".pq") else _read_csv(path)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except InputError:
        raise
    except (OSError, csv.Error, pa.ArrowException, *_WRONG_CELLS) as error:
        reason = shortened(getattr(error, "strerror", None) or str(error))
        raise InputError(f"{path}: not a readable CSV or Parquet table ({reason})") from error
    if len(frame) == 0:
        raise InputError(f"{path}: there are no rows below the header; give a table with a row an image")
    cells = {str(name): [_text(cell, missing) for cell in frame[name]] for name in frame}
    rows = [f"{path}, row {row}" for row in frame.index]
    for name, column in cells.items():
        for row, cell in zip(rows, column, strict=True):
            if cell is not None and (len(cell) > LONGEST_CELL or "\0" in cell):
                fault = "a NUL" if "\0" in cell else f"more than {LONGEST_CELL:,} characters"
                raise InputError(f"{row}: column {shortened(name)!r} has a cell with {fault}; mend the table")
    return pd.DataFrame(cells, index=rows, dtype=object)


def csv_rows(path: Path) -> Iterator[list[str]]:
    """The rows of a CSV table, the header first; an empty line is an empty row.

    Raises:
        InputError: it is larger than `cohort.limits` says.
        OSError, ValueError, csv.Error: it cannot be read, is not in UTF-8, or is no CSV table.
    """
    with open_regular(path) as file:
        check_size(path, bytes=os.fstat(file.fileno()).st_size)
        text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
        cells = 0
        for count, row in enumerate(csv.reader(_lines(text, path), strict=True), start=1):
            cells += len(row)
            check_size(path, rows=count, columns=len(row), cells=cells)
            yield row


def _lines(text: TextIO, path: Path) -> Iterator[str]:
    """Lines of bounded length: one may be as long as the file."""
    number = 0
    while line := text.readline(LONGEST_ROW + 1):
        number += 1
        if len(line) > LONGEST_ROW:
            raise InputError(f"{path}, line {number}: has more than {LONGEST_ROW:,} characters; shorten it")
        yield line


def _read_parquet(path: Path) -> pd.DataFrame:
    table = read_parquet(path)
    _refuse_twice(table.column_names)
    frame = table.to_pandas(ignore_metadata=True)
    return frame.set_axis(range(1, len(frame) + 1))


def _read_csv(path: Path) -> pd.DataFrame:
    """The cells with the numbers of their rows; ValueError where these are not as long as the header. pandas
    fills up short rows with blanks, and moves all cells by a column where every row has one too many."""
    reader = csv_rows(path)
    header = [name.strip() for name in next(reader, [])]
    rows = {number: cells for number, cells in enumerate(reader, start=2) if cells}
    if not header:
        raise ValueError("its first row is empty")
    _refuse_twice([name for name in header if name])
    for number, cells in rows.items():
        if len(cells) != len(header):
            raise ValueError(
                f"row {number} has {len(cells)} cells and the header {len(header)}; a text that holds commas "
                "needs quotes"
            )
    columns = {name: [cells[c] for cells in rows.values()] for c, name in enumerate(header) if name}
    return pd.DataFrame(columns, index=list(rows), dtype=object)


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
        name: Counter(cell for cell in frame[name] if cell is not None and cell.lower() in missing)
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


def label_cells(frame: pd.DataFrame, labels: Sequence[str]) -> np.ndarray:
    """raw_NC for `cohort.labels.apply_policy`: 1, 0, -1 (uncertain) and NaN (blank)."""
    raw_NC = np.full((len(frame), len(labels)), np.nan)
    for c, label in enumerate(labels):
        for n, cell in enumerate(frame[label].tolist()):
            if cell is None:
                continue
            value = LABEL_CELLS.get(cell.lower())
            if value is None:
                raise InputError(
                    f"{frame.index[n]}: label {label!r} must be 1, 0, -1 (uncertain) or blank, "
                    f"got {shortened(cell)!r}"
                )
            raw_NC[n, c] = value
    return raw_NC


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
