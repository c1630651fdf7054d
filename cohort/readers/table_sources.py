"""One table out of several: one per split, tables joined by their keys, several images in a row apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from cohort.errors import InputError
from cohort.labels import did_you_mean
from cohort.parquet_files import check_size
from cohort.readers.list_cells import are_lists, list_items
from cohort.readers.source_table import as_written, require_columns, source_and_notes
from cohort.readers.split_lists import split_and_rest
from cohort.readers.table_options import TableOptions

SPLIT, IMAGE, ROW = "split (tables)", "image (columns)", "row (images)"
"""Columns that are added: of which split's table a row is, the images of `--image-columns`, and the first
image of the row that they stood in."""


@dataclass
class SourceRowsRead:
    """Text cells of a table, None where blank; the options as they are of it."""

    frame: pd.DataFrame
    options: TableOptions
    name: str
    """Of the table, for messages."""
    flow: list[tuple[str, int]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def open_tables(tables: Sequence[str], options: TableOptions) -> SourceRowsRead:
    """The rows of one table, or of `SPLIT=FILE` tables under each other, joined with others and with one
    image a row.

    Raises:
        InputError: one is not readable, a column is not there, or nothing is left.
    """
    read = _one_or_a_split_each(tables, options)
    read.flow.append(("rows read", len(read.frame)))
    for table, keys in zip(options.join, options.on, strict=True):
        _join(read, table, keys)
    if options.image_columns:
        _one_image_a_row(read)
    _lists_of_images(read)
    if options.images_in:
        _in_folders(read)
    return read


def _one_or_a_split_each(tables: Sequence[str], options: TableOptions) -> SourceRowsRead:
    if len(tables) == 1 and (Path(tables[0]).exists() or "=" not in tables[0]):
        frame, notes = source_and_notes(tables[0], ("",), options.encoding, options.columns)
        return SourceRowsRead(frame, options, str(tables[0]), notes=notes)
    if options.split_column or options.split_list:
        raise InputError("--table SPLIT=FILE gives the splits; leave out --split-column and --split-list")
    frames, notes = [], []
    for text in tables:
        split, file = split_and_rest(str(text), "--table")
        frame, said = source_and_notes(file, ("",), options.encoding, options.columns)
        notes += said
        frames.append(frame.assign(**{SPLIT: split}))
    frame = pd.concat(frames)
    frame = frame.astype(object).where(frame.notna(), None)
    for one, text in zip(frames, tables, strict=True):
        if lacking := [name for name in frame.columns if name not in one.columns]:
            notes.append(f"{text} has no column {lacking[0]!r}: blank there")
    return SourceRowsRead(
        frame, replace(options, split_column=SPLIT), " and ".join(map(str, tables)), notes=notes
    )


def _join(read: SourceRowsRead, table: str, keys: Sequence[str]) -> None:
    """The rows that have a partner in another table, with its columns."""
    other, notes = source_and_notes(table, ("",), read.options.encoding)
    sides = [key.partition("=")[::2] for key in keys]  # A, or A=B where it is called otherwise there
    left = [as_written(read.frame, key) for key, _ in sides]
    right = [as_written(other, there or key) for key, there in sides]
    require_columns(read.frame, left, read.name)
    require_columns(other, right, table)
    other = other.rename(columns=dict(zip(right, left, strict=True)))
    clash = [name for name in other.columns if name not in left and name in read.frame]
    other = other.rename(columns={name: f"{name} ({Path(table).stem})" for name in clash}).dropna(subset=left)
    twice = other.duplicated(left)
    if twice.any() and not (read.options.rows or read.options.label_column):
        raise InputError(
            f"{twice.idxmax()}: a second row with the same {', '.join(left)}; pass --rows any or --rows "
            "majority to have one answer made of several, or name more columns with --on"
        )
    pairs = read.frame.groupby(left).size() * other.groupby(left).size()
    check_size(table, rows=int(pairs.sum()))
    rows = pd.Series(read.frame.index, index=read.frame.index)
    joined = read.frame.assign(**{ROW: rows}).merge(other, on=left, how="inner", sort=False)
    if joined.empty:
        first = read.frame[left].iloc[0].tolist()
        raise InputError(f"{table}: no row has the {', '.join(left)} of a row of {read.name}, {first} say")
    without = ~other.set_index(left).index.isin(read.frame.set_index(left).index)
    if without.any():
        notes.append(
            f"{int(without.sum())} of {len(other)} rows of {Path(table).name} have no row in the table"
        )
    read.frame = joined.set_index(ROW).rename_axis(None).astype(object)
    read.frame = read.frame.where(read.frame.notna(), None)
    read.flow.append((f"row in {Path(table).name}", len(read.frame)))
    read.notes += notes


def _one_image_a_row(read: SourceRowsRead) -> None:
    """One row per image; those of one row are one patient's, where nothing else is said of patients."""
    columns = [as_written(read.frame, name) for name in read.options.image_columns]
    require_columns(read.frame, columns, read.name)
    first = read.frame[columns].bfill(axis=1).iloc[:, 0]
    parts = [read.frame.assign(**{IMAGE: read.frame[column], ROW: first}) for column in columns]
    frame = pd.concat(parts).sort_index(kind="stable", key=lambda rows: pd.factorize(rows)[0])
    read.frame = frame[frame[IMAGE].notna()]
    if read.frame.empty:
        raise InputError(f"{read.name}: columns {', '.join(columns)} are blank in every row")
    options = read.options
    said = options.patient_column or options.patient_from or options.patient_is_image
    read.options = replace(
        options,
        image_column=IMAGE,
        image_columns=None,
        patient_column=options.patient_column if said else ROW,
    )
    read.flow.append((f"images in {', '.join(columns)}", len(read.frame)))


def _lists_of_images(read: SourceRowsRead) -> None:
    """One row per image where a cell has a list of them, as some tables of studies have."""
    column = as_written(read.frame, read.options.image_column)
    if column not in read.frame or not are_lists(read.frame[column].tolist()):
        return
    lists = [list_items(cell or "[]", row) for row, cell in read.frame[column].items()]
    frame = read.frame.assign(**{column: pd.Series(lists, index=read.frame.index, dtype=object)})
    read.frame = frame.explode(column).dropna(subset=[column])
    read.flow.append((f"images in the lists of {column}", len(read.frame)))


def _in_folders(read: SourceRowsRead) -> None:
    """Names with the folder in front that their split's images lie in."""
    if not read.options.split_column:
        raise InputError(
            "--images-in says where each split's images lie: give --split-column, or one table per split"
        )
    folders = dict(split_and_rest(text, "--images-in") for text in read.options.images_in)
    split, image = (
        as_written(read.frame, name) for name in (read.options.split_column, read.options.image_column)
    )
    require_columns(read.frame, [split, image], read.name)
    for name in folders:
        if name not in set(read.frame[split]):
            raise InputError(
                f"--images-in: no split {name!r}; {did_you_mean(name, read.frame[split].dropna().unique())}"
            )
    names = [
        f"{folders[side].rstrip('/')}/{name}" if side in folders and name else name
        for side, name in zip(read.frame[split], read.frame[image], strict=True)
    ]
    read.frame = read.frame.assign(**{image: pd.Series(names, index=read.frame.index, dtype=object)})
