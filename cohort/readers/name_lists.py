"""Names on a command line, with commas between them."""

from __future__ import annotations

import argparse
import csv

from cohort.errors import InputError


def cells(text: str) -> list[str]:
    """The cells of a line of CSV, without blanks at their ends; InputError where a quote is not closed."""
    try:
        rows = list(csv.reader([text], skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise InputError(
            f"{text}: expected names with commas between them, and quotes around one that holds a comma, as "
            "in CSV"
        ) from error
    return [cell.strip() for row in rows for cell in row]


def comma_separated(text: str) -> list[str]:
    """The names in `A, B,C`, quoted as in CSV where one holds a comma: `"Mass, left",B`; the type of an
    option that takes several."""
    try:
        return [name for name in cells(text) if name]
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
