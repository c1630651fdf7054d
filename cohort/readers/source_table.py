"""A source's table as text cells, and label cells as numbers; shared by the readers.

Shape legend: N rows, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cohort.errors import InputError
from cohort.labels import NO_FINDING, did_you_mean

_BLANK = ("", "NA", "N/A", "nan", "NaN", "null")
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


def read_source(path: Path | str) -> pd.DataFrame:
    """A CSV or Parquet table with every cell as stripped text, or None where it is blank.

    Text, so that an id such as `007` stays what it is. The index names each row as a person finds it: in a
    CSV file the header is row 1, as in a spreadsheet. InputError where the file is absent, unreadable
    or without a row.
    """
    path = Path(path)
    try:
        if _is_parquet(path):
            frame = pd.read_parquet(path)
        else:
            frame = pd.read_csv(
                path, dtype=str, keep_default_na=False, na_values=list(_BLANK), encoding="utf-8-sig"
            )
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (OSError, ValueError, pd.errors.ParserError) as error:
        raise InputError(f"{path}: not a readable CSV or Parquet table ({_one_line(error)})") from error
    if len(frame) == 0:
        raise InputError(f"{path}: there are no rows below the header; give a table with a row an image")
    header = 0 if _is_parquet(path) else 1
    rows = [f"{path}, row {row + 1 + header}" for row in range(len(frame))]
    cells = {str(name): [_text(cell) for cell in frame[name]] for name in frame}
    return pd.DataFrame(cells, index=rows, dtype=object)


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() in (".parquet", ".pq")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _text(cell: object) -> str | None:
    if cell is None or cell is pd.NA or cell is pd.NaT or (isinstance(cell, float) and np.isnan(cell)):
        return None
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)  # Parquet stores a column of whole numbers with gaps as floats
    return str(cell).strip() or None


def require_columns(frame: pd.DataFrame, names: Sequence[str], path: Path | str) -> None:
    """InputError for the first of `names` that is not a column."""
    for name in names:
        if name not in frame.columns:
            raise InputError(f"{path}: no column {name!r}; {did_you_mean(name, frame.columns)}")


def require_label_columns(
    frame: pd.DataFrame, labels: Sequence[str], no_finding: str, path: Path | str
) -> pd.DataFrame:
    """The table with a column for each of `labels`: an absent "No Finding" is added blank, to be derived.

    Raises InputError for another absent label, and for an absent "No Finding" that is to be taken as given.
    """
    for label in labels:
        if label not in frame.columns and label != NO_FINDING:
            raise InputError(f"{path}: no label column {label!r}; {did_you_mean(label, frame.columns)}")
    if NO_FINDING not in labels or NO_FINDING in frame.columns:
        return frame
    if no_finding == "as-given":
        raise InputError(
            f"{path}: no column {NO_FINDING!r}, so it cannot be taken as given; choose the rule complement "
            "or strict, which derive it"
        )
    return frame.assign(**{NO_FINDING: None})


def require_cells(frame: pd.DataFrame, name: str) -> None:
    """InputError for the first blank cell of a column."""
    for row, cell in frame[name].items():
        if cell is None:
            raise InputError(f"{row}: column {name!r} is blank; every row must have a value there")


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
        for n, (row, cell) in enumerate(frame[label].items()):
            if cell is None:
                continue
            value = LABEL_CELLS.get(cell.lower())
            if value is None:
                raise InputError(
                    f"{row}: label {label!r} must be 1, 0, -1 (uncertain) or blank, got {cell!r}"
                )
            raw_NC[n, c] = value
    return raw_NC


def typed(cells: Sequence[str | None]) -> list:
    """Whole numbers or numbers where every cell is one (and none has a leading zero, which makes it an
    id)."""
    given = [cell for cell in cells if cell is not None]
    if not given or any(len(cell) > 1 and cell[0] == "0" and cell[1].isdigit() for cell in given):
        return list(cells)
    for number in (int, float):
        try:
            return [None if cell is None else number(cell) for cell in cells]
        except ValueError:
            continue
    return list(cells)
