"""Files of tables, packed or not, as a header and rows of cells: delimited text, Excel, JSON lines."""

from __future__ import annotations

import gzip
import io
import json
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from cohort.errors import InputError, shortened
from cohort.files import open_regular
from cohort.limits import LARGEST_JSON, LARGEST_WORKBOOK
from cohort.parquet_files import check_size
from cohort.readers.delimited_text import delimiter_of, first_lines, rows_of
from cohort.readers.encodings import known_encoding, likely_encoding
from cohort.readers.named_files import ending

WRONG_FILE = (OSError, EOFError, zlib.error, zipfile.BadZipFile)
"""What reading a packed file raises where it is damaged."""
_EXCELS_ROWS = 2**20
_LONGEST_LIST = 2**20
"""Bytes of an archive's list of members, of which a table has one, or a workbook some dozens."""


@dataclass(frozen=True)
class TableCells:
    """A table as its file has it."""

    header: Sequence[str]
    rows: Mapping[int, Sequence[Any]]
    """The number of each row, as a person finds it -> its cells; empty rows stay out."""
    delimiter: str = ""
    notes: list[str] = field(default_factory=list)
    """What was guessed of it."""


def read_cells(path: Path, encoding: str | None = None, columns: Sequence[str] | None = None) -> TableCells:
    """The cells of a table; what the file is its name says, without a .gz behind it, and in a .zip that of
    the one file there.

    Args:
        encoding: of a text; None: as its bytes say.
        columns: names of the columns of a text without a header.

    Raises:
        InputError: it is larger than `cohort.limits` says, or no kind of table.
        ValueError, csv.Error, and what `WRONG_FILE` has: it cannot be read.
    """
    check_size(path, bytes=path.stat().st_size)
    name = path.name.lower().removesuffix(".gz")
    if name.endswith(".zip"):
        name = _member(path).filename.lower()
    if name.endswith(".xlsx"):
        return _workbook(path)
    if name.endswith((".h5", ".hdf5", ".npz", ".npy", ".mat")):
        raise InputError(
            f"{path}: holds arrays; write its images as PNGs and a table of them (`radtune cohort medmnist` "
            "reads MedMNIST's .npz)"
        )
    if name.endswith((".xls", ".ods", ".sav", ".dta", ".sas7bdat", ".rds")):
        raise InputError(f"{path}: save it as .csv or .xlsx; tables of this kind are not read")
    if name.endswith((".jsonl", ".ndjson", ".json")):
        return _json(path, lines=not name.endswith(".json"))
    return _text(path, encoding, columns)


def text_rows(path: Path) -> Iterator[list[str]]:
    """The rows of a table with commas, the header first; an empty line is an empty row. Errors are those of
    `read_cells`."""
    with opened(path) as file:
        encoding = likely_encoding(file)
    with opened(path) as file:
        yield from rows_of(file, path, encoding, ",")


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a file, or of what is packed in it, as many as a table may have."""
    with open_regular(path) as file:
        check_size(path, bytes=os.fstat(file.fileno()).st_size)
        if path.name.lower().endswith(".gz"):
            with gzip.open(file) as unpacked:
                yield io.BufferedReader(_Bounded(unpacked, path), 2**20)
        elif path.name.lower().endswith(".zip"):
            with zipfile.ZipFile(file) as archive, archive.open(_member(path)) as unpacked:
                yield io.BufferedReader(_Bounded(unpacked, path), 2**20)
        else:
            yield file


class _Bounded(io.RawIOBase):
    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path, self._count = file, path, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        data = self._file.read(len(buffer))
        self._count += len(data)
        check_size(self._path, bytes=self._count)
        buffer[: len(data)] = data
        return len(data)


def _member(path: Path) -> zipfile.ZipInfo:
    """The one file in an archive that is not the system's own."""
    members = [
        member
        for member in listed_members(path)
        if not member.is_dir() and not member.filename.startswith("__MACOSX/")
    ]
    if len(members) != 1:
        raise InputError(f"{path}: has {len(members)} files, and a packed table must be one; unpack it")
    if members[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or members[0].flag_bits & 1:
        raise InputError(f"{path}: is encrypted or packed in another way than deflate; unpack it")
    return members[0]


def listed_members(path: Path) -> list[zipfile.ZipInfo]:
    """What is in a zip archive of a few files; zipfile would read a list of any length before it can be
    counted.

    Raises:
        InputError: the list is longer than those of tables, workbooks or arrays.
        OSError, zipfile.BadZipFile: it cannot be read.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - 2**16 - 42))
        tail = file.read()
        end = tail.rfind(b"PK\5\6")
        listed = int.from_bytes(tail[end + 12 : end + 16], "little") if end >= 0 else 0
        if listed > _LONGEST_LIST or tail[max(0, end - 20) : end].startswith(b"PK\6\7"):
            raise InputError(f"{path}: holds more files than a packed table or its arrays; unpack it")
        with zipfile.ZipFile(file) as archive:
            return archive.infolist()


def _text(path: Path, encoding: str | None, columns: Sequence[str] | None) -> TableCells:
    notes = []
    if encoding is None:
        with opened(path) as file:
            encoding = likely_encoding(file)
        if not encoding.startswith("utf"):
            notes.append(
                f"{path.name} is not in UTF-8: read as {encoding} (Western European); pass --encoding where "
                "letters come out wrong"
            )
    else:
        encoding = known_encoding(encoding)
    with opened(path) as file:
        delimiter = delimiter_of(first_lines(file, path, encoding))
    with opened(path) as file:
        reader = rows_of(file, path, encoding, delimiter)
        header = list(columns) if columns else [name.strip() for name in next(reader, [])]
        rows = {number: cells for number, cells in enumerate(reader, start=1 if columns else 2) if cells}
    if not header:
        raise ValueError("its first row is empty")
    if not columns and any(ending(name) for name in header):
        raise InputError(
            f"{path}: its first row is no header but names an image; pass --columns image,... with a name "
            f"for each of its {len(header)} columns"
        )
    for number, cells in rows.items():
        if len(cells) != len(header):
            raise ValueError(
                f"row {number} has {len(cells)} cells and the header {len(header)}; a text that holds commas "
                "needs quotes"
            )
    return TableCells(header, rows, delimiter, notes)


def _workbook(path: Path) -> TableCells:
    """The first sheet of an Excel workbook."""
    import openpyxl

    if sum(member.file_size for member in listed_members(path)) > LARGEST_WORKBOOK:
        raise InputError(f"{path}: unpacks to more than {LARGEST_WORKBOOK:,} bytes; save it as .csv")
    with open_regular(path) as file:
        try:
            book = openpyxl.load_workbook(file, read_only=True, data_only=True, keep_links=False)
            sheet = book.worksheets[0]
            sheet.reset_dimensions()
            rows = _sheet_rows(sheet, path)
        except (InputError, *WRONG_FILE):
            raise
        except Exception as error:  # openpyxl raises whatever its parsers do
            raise ValueError(f"not a readable Excel workbook: {type(error).__name__}: {error}") from error
    if not rows:
        raise ValueError("its first sheet is empty")
    first = min(rows)
    header = ["" if name is None else str(name).strip() for name in rows.pop(first)]
    while header and not header[-1]:
        header.pop()
    for number, cells in rows.items():
        if any(cell is not None for cell in cells[len(header) :]):
            raise ValueError(f"row {number} has more cells than the header")
        rows[number] = [*cells[: len(header)], *[None] * (len(header) - len(cells))]
    others = [other.title for other in book.worksheets[1:]]
    notes = (
        [f"{path.name}: sheet {sheet.title!r} is read, and {len(others)} others are not"] if others else []
    )
    return TableCells(header, rows, "", notes)


def _sheet_rows(sheet: Any, path: Path) -> dict[int, list[Any]]:
    """The rows with a cell in them. A file may name a row or column far beyond what Excel has, and openpyxl
    gives all that are in between."""
    rows, count = {}, 0
    for number, cells in enumerate(sheet.iter_rows(max_row=_EXCELS_ROWS, values_only=True), start=1):
        count += len(cells)
        check_size(path, columns=len(cells), cells=count)
        if any(cell is not None for cell in cells):
            rows[number] = list(cells)
    return rows


def _json(path: Path, lines: bool) -> TableCells:
    """One object per line, or a list of objects; lists within them stay lists, as text."""
    names: dict[str, int] = {}
    objects: dict[int, dict[str, Any]] = {}
    with opened(path) as file:
        for number, one in enumerate(_values(file, path, lines), start=1):
            if not isinstance(one, dict) or any(isinstance(cell, dict) for cell in one.values()):
                where = "line" if lines else "entry"
                raise ValueError(f"{where} {number} is no object of plain values, {shortened(str(one))!r}")
            objects[number] = one
            for name in one:
                names.setdefault(name, len(names))
            check_size(path, columns=len(names), rows=len(objects), cells=len(objects) * len(names))
    rows = {number: [_json_cell(one.get(name)) for name in names] for number, one in objects.items()}
    return TableCells(list(names), rows)


def _values(file: BinaryIO, path: Path, lines: bool) -> Iterator[Any]:
    text = io.TextIOWrapper(file, encoding="utf-8-sig")
    try:
        if lines:
            yield from (json.loads(line) for line in text if line.strip())
            return
        whole = text.read(LARGEST_JSON + 1)
        if len(whole) > LARGEST_JSON:
            raise InputError(
                f"{path}: has more than {LARGEST_JSON:,} characters; write one object per line (.jsonl)"
            )
        content = json.loads(whole)
    except RecursionError as error:
        raise ValueError("has lists within lists") from error
    if not isinstance(content, list):
        raise ValueError("it must be a list of objects, one per row")
    yield from content


def _json_cell(cell: Any) -> Any:
    return json.dumps(cell, ensure_ascii=False) if isinstance(cell, list) else cell
