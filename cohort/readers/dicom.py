"""A table of the DICOM images in a folder or a zip archive, to be completed by labels and read as any table.

It holds the columns of `COLUMNS` and nothing else of the files. Identifiers are pseudonyms: the first 16
hexadecimal digits of an HMAC-SHA256, so that the images of one patient stand together and nobody without the
key can tell who it is, not by trying all numbers either.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import os
import secrets
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cohort.errors import InputError

if TYPE_CHECKING:
    from pydicom import Dataset

HELP = "write a table of the DICOM images in a folder, for `radtune cohort table`"
EXAMPLE = "radtune cohort dicom export/ --out images.csv"
OUT = ("CSV", "the table")

IDENTIFIERS = ("PatientID", "StudyInstanceUID")
DESCRIPTIONS = ("ViewPosition", "PatientSex", "PatientAge", "Modality", "Manufacturer")
COLUMNS = ("image", *IDENTIFIERS, *DESCRIPTIONS)
LONGEST_VALUE = 64
"""Characters of a description: DICOM's own limit."""
KEY_BYTES = 32
_HEADER = 2**22
"""Bytes of a file that are looked at: what comes before the pixels."""
_YEARS = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}


@dataclass(frozen=True)
class DicomTable:
    """The rows of the images, and what was left out or may not be meant, a line each."""

    rows: list[dict[str, str]]
    remarks: list[str]


def arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `radtune cohort dicom`, which writes a table instead of a cohort."""
    parser.add_argument("images", metavar="DIR|ZIP", help="the DICOM files, with subfolders")
    parser.add_argument(
        "--key",
        metavar="FILE",
        help="key of the pseudonyms, made if it is not there, to be kept apart from the table (default: one "
        "that is forgotten, so that the next run gives other pseudonyms)",
    )
    parser.add_argument(
        "--keep-identifiers",
        action="store_true",
        help="write PatientID and StudyInstanceUID as they are, to join them with other tables",
    )
    parser.set_defaults(command=_write)


def _write(arguments: argparse.Namespace) -> None:
    from cohort.csv_text import csv_text
    from cohort.files import check_output_file, write_atomically

    check_output_file(arguments.out)
    key = None if arguments.keep_identifiers else pseudonym_key(arguments.key)
    table = dicom_table(arguments.images, key)
    import pandas as pd

    write_atomically(arguments.out, csv_text(pd.DataFrame(table.rows, columns=COLUMNS), "%g").encode())
    print("\n".join([f"{len(table.rows)} DICOM images: {arguments.out}", *table.remarks]))


def pseudonym_key(file: Path | str | None) -> bytes:
    """The key in a file, made there for its owner alone if it is absent; a random one without a file.

    Raises:
        InputError: the file is no key.
    """
    if file is None:
        return secrets.token_bytes(KEY_BYTES)
    path = Path(file)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        key = bytes.fromhex(text) if _is_hex(text := path.read_text("latin-1")[:1000].strip()) else b""
        if len(key) != KEY_BYTES:
            raise InputError(f"{path}: no key of pseudonyms; name a file that is not there yet") from None
        return key
    key = secrets.token_bytes(KEY_BYTES)
    with open(descriptor, "w") as opened:
        opened.write(key.hex() + "\n")
    return key


def _is_hex(text: str) -> bool:
    return len(text) % 2 == 0 and set(text) <= set("0123456789abcdef")


def pseudonym(key: bytes, keyword: str, value: str) -> str:
    """16 hexadecimal digits that stand for an identifier; "" for none."""
    if not value:
        return ""
    return hmac.new(key, f"{keyword}\0{value}".encode(), hashlib.sha256).hexdigest()[:16]


def dicom_table(root: Path | str, key: bytes | None) -> DicomTable:
    """A row per DICOM image below a folder or in a zip archive, in the order of paths.

    A patient's age is in years. A file without PatientID stays without patient, and is counted.

    Args:
        root: the folder or archive; files are known by their content.
        key: of the pseudonyms; None leaves identifiers as they are.

    Raises:
        InputError: no DICOM image is there.
    """
    from cohort.image_files import ImageFiles, image_names, list_files
    from cohort.threads import in_threads

    files = ImageFiles(root, image_names(root, list_files(root)))

    def look(i: int) -> tuple[str, Mapping[str, str]]:
        try:
            return _row(files.head(i, _HEADER), files.names[i], key)
        except InputError:
            return "unreadable", {}

    rows, left_out, named, burned = [], Counter(), 0, 0
    for why, row in in_threads(look, len(files), "reading headers", "file"):
        if why:
            left_out[why] += 1
            continue
        rows.append({column: row[column] for column in COLUMNS})
        named += row["named"] == "yes"
        burned += row["burned in"] == "yes"
    if not rows:
        found = ", ".join(f"{count} {why}" for why, count in sorted(left_out.items()))
        raise InputError(f"{root}: no DICOM image there{f' ({found})' if found else ''}; give their folder")
    remarks = [f"left out: {count} {why}" for why, count in sorted(left_out.items())]
    if key is not None:
        remarks.append("PatientID and StudyInstanceUID are pseudonyms")
    if absent := sum(not row["PatientID"] for row in rows):
        remarks.append(f"{absent} images have no PatientID; fill the column in before the split is drawn")
    if named:
        remarks.append(f"{named} paths hold the patient's name or number; rename the files to hide them")
    if burned:
        remarks.append(f"{burned} images state burned-in annotations, which may name people")
    return DicomTable(rows, remarks)


def _row(head: bytes, name: str, key: bytes | None) -> tuple[str, dict[str, str]]:
    """("", the row) of an image, or why a file is left out and nothing."""
    from cohort.decoders.dicom import read_header
    from cohort.decoders.formats import HEAD, format_of

    if format_of(head[:HEAD]) != "DICOM":
        return "no DICOM", {}
    wanted = [*IDENTIFIERS, *DESCRIPTIONS, "PatientName", "Rows", "NumberOfFrames", "BurnedInAnnotation"]
    ds = read_header(head, wanted, name)
    if "Rows" not in ds:
        return "without an image", {}
    if str(ds.get("NumberOfFrames") or 1).strip() != "1":
        return "of several frames", {}
    row = {"image": name} | {keyword: _text(ds, keyword) for keyword in (*IDENTIFIERS, *DESCRIPTIONS)}
    person = [*_text(ds, "PatientName").replace("^", " ").split(), row["PatientID"]]
    row["named"] = "yes" if any(len(part) > 2 and part.lower() in name.lower() for part in person) else ""
    row["burned in"] = "yes" if _text(ds, "BurnedInAnnotation").upper() == "YES" else ""
    row["PatientAge"] = _years(row["PatientAge"])
    if key is not None:
        row |= {keyword: pseudonym(key, keyword, row[keyword]) for keyword in IDENTIFIERS}
    return "", row


def _text(ds: Dataset, keyword: str) -> str:
    value = str(ds.get(keyword) or "")
    return "".join(letter for letter in value if letter.isprintable()).strip()[:LONGEST_VALUE]


def _years(age: str) -> str:
    """`63` of `063Y`, `0.5` of `006M`; "" of what is no age (PS3.5 6.2, AS)."""
    number, unit = age[:-1], age[-1:]
    if unit not in _YEARS or not (number.isascii() and number.isdigit()):
        return ""
    return f"{round(int(number) * _YEARS[unit], 2):g}"
