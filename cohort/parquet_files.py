"""Parquet that a stranger may have written: a table of bounded size, whatever it claims to hold.

A few kilobytes may stand for 10^9 rows of one value, or for a long text repeated in each of them.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cohort.errors import InputError, shortened
from cohort.files import open_regular
from cohort.limits import LARGEST_TABLE, MOST_CELLS, MOST_COLUMNS, MOST_ROWS


def read_parquet(path: Path | str, *, nested: bool = False) -> pa.Table:
    """The whole table; columns that are stored as a dictionary come as what it stands for.

    Checksums of pages are verified where the file has them.

    Args:
        nested: whether a cell may be a list or a structure, of which nothing bounds the length.

    Raises:
        InputError: it has more bytes, rows, columns or cells than `cohort.limits` says, packed or not, or
            nested cells.
        OSError, pa.ArrowException: it cannot be read, or is no Parquet file.
    """
    with open_regular(path) as file:
        check_size(path, bytes=file.seek(0, 2))
        metadata = pq.read_metadata(file)
        # Not by column: pyarrow ends the process where the metadata of one are damaged.
        unpacked = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
        rows, schema = metadata.num_rows, metadata.schema.to_arrow_schema()
        check_size(path, bytes=unpacked, rows=rows, columns=len(schema), cells=rows * len(schema))
        flat = [field.name for field in schema if not pa.types.is_nested(field.type)]
        if not nested and len(flat) < len(schema):
            name = next(name for name in schema.names if name not in flat)
            raise InputError(f"{path}: column {shortened(name)!r} holds lists; give one value a cell")
        # As dictionaries texts take no more memory than in the file, however often each is repeated.
        source = pq.ParquetFile(file, read_dictionary=flat, page_checksum_verification=True)
        packed = source.read()
    check_size(path, bytes=sum(map(_bytes_unpacked, packed.columns)))
    plain = [
        column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
        for column in packed.columns
    ]
    return pa.Table.from_arrays(plain, names=packed.column_names).replace_schema_metadata(
        packed.schema.metadata
    )


def check_size(path: Path | str, **counts: int) -> None:
    """InputError where a table has more bytes, rows, columns or cells than are read."""
    limits = {"bytes": LARGEST_TABLE, "rows": MOST_ROWS, "columns": MOST_COLUMNS, "cells": MOST_CELLS}
    for what, count in counts.items():
        if count > limits[what]:
            raise InputError(
                f"{path}: has more than {limits[what]:,} {what}; leave out rows and columns without a use"
            )


def _bytes_unpacked(column: pa.ChunkedArray) -> int:
    """Of the texts that a dictionary stands for; 0 for another column, whose cells are counted."""
    if not pa.types.is_dictionary(column.type):
        return 0
    return sum(
        pc.sum(pc.take(pc.binary_length(chunk.dictionary), chunk.indices)).as_py() or 0
        for chunk in column.chunks
    )
