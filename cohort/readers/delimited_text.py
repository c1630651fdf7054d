"""Rows of a text with commas, semicolons, tabs or blanks between its cells."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TextIO

from cohort.errors import InputError
from cohort.limits import LONGEST_ROW
from cohort.parquet_files import check_size

DELIMITERS = (",", ";", "\t", "|")
BLANK = " "
_SAMPLE, _SAMPLED = 20, 2**20
"""Lines and characters that are looked at."""


def delimiter_of(lines: Sequence[str]) -> str:
    """What stands between the cells, by the first lines of a text: what cuts them all into as many cells as
    the header, more of them than another does; otherwise what cuts the header into the most."""
    best, most = ",", (False, 1)
    for delimiter in (*DELIMITERS, BLANK):
        try:
            rows = [
                row
                for row in csv.reader(lines, delimiter=delimiter, skipinitialspace=delimiter == BLANK)
                if row
            ]
        except csv.Error:
            continue
        if not rows or (delimiter == BLANK and best != ","):
            continue
        cells = len(rows[0])
        regular = all(len(row) == cells for row in rows[:-1])  # the last may be cut within a quote
        if cells > 1 and (regular, cells) > most and (delimiter != BLANK or (regular and most[1] == 1)):
            best, most = delimiter, (regular, cells)
    return best


def rows_of(file: BinaryIO, path: Path, encoding: str, delimiter: str) -> Iterator[list[str]]:
    """The rows, of bounded length and number; an empty line is an empty row.

    Raises:
        InputError: it is larger than `cohort.limits` says.
        ValueError, csv.Error: it is not in that encoding, or is no such table.
    """
    text = io.TextIOWrapper(file, encoding=encoding, newline="")
    cells = 0
    # Blanks at a cell's ends are taken away later; a quote behind one is no quote to the csv module.
    blank = delimiter == BLANK
    reader = csv.reader(_lines(text, path), strict=True, delimiter=delimiter, skipinitialspace=blank)
    for count, row in enumerate(reader, start=1):
        cells += len(row)
        check_size(path, rows=count, columns=len(row), cells=cells)
        yield row


def first_lines(file: BinaryIO, path: Path, encoding: str) -> list[str]:
    """Enough lines to see by what cells are apart."""
    text = io.TextIOWrapper(file, encoding=encoding, newline="")
    lines, left = [], _SAMPLED
    for line in islice(_lines(text, path), _SAMPLE):
        lines.append(line)
        left -= len(line)
        if left < 0:
            break
    return lines


def _lines(text: TextIO, path: Path) -> Iterator[str]:
    """Lines of bounded length: one may be as long as the file."""
    number = 0
    while line := text.readline(LONGEST_ROW + 1):
        number += 1
        if len(line) > LONGEST_ROW:
            raise InputError(f"{path}, line {number}: has more than {LONGEST_ROW:,} characters; shorten it")
        yield line
