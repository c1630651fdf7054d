"""A bank's records as the bytes of one safetensors file, in which they travel and rest.

Arrays are tensors, the rest is JSON in the metadata, with a checksum over both. It is the first thing on disk
after a bank has trained; the journal, MLflow and `trials.parquet` follow.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields

import numpy as np

from cohort.errors import InputError
from trainables.packed import pack, unpack
from trainables.records import TrialRecord


def pack_bank(records: Iterable[TrialRecord]) -> bytes:
    """Serialise a bank's records; `unpack_bank` is the inverse."""
    tensors: dict[str, np.ndarray] = {}
    described = []
    for record in records:
        plain = {one.name: getattr(record, one.name) for one in fields(record) if one.name != "arrays"}
        described.append(plain)
        tensors |= {f"{record.number}/{name}": array for name, array in record.arrays.items()}
    return pack(tensors, described)


def unpack_bank(data: bytes, name: str = "bank file") -> list[TrialRecord]:
    """Read what `pack_bank` wrote.

    Raises:
        InputError: `data` is not a whole bank file; the message starts with `name`.
    """
    try:
        tensors, described = unpack(data)
        records = []
        for plain in described:
            prefix = f"{plain['number']}/"
            arrays = {
                key.removeprefix(prefix): array for key, array in tensors.items() if key.startswith(prefix)
            }
            plain["scale"] = tuple(plain["scale"])
            record = TrialRecord(**plain, arrays=arrays)
            _ = record.head  # damaged arrays are found here, not in the middle of an analysis
            records.append(record)
        return records
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{name}: not a whole bank file ({error}); delete it and resume the study") from None
