"""What was chosen of a finished search, and why: by validation alone, never by test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from cohort.errors import InputError
from trainables.records import TrialRecord, ranking

NOTES = {"paper": "the paper's configuration"}
"""Preset -> what it is, for the reader of a table."""


def chosen(records: Mapping[int, TrialRecord], top: int) -> dict[str, TrialRecord]:
    """The published configuration and the best on validation, by their names in the tables.

    A published configuration that is among the best stands there too, under its rank, and is then cut by its
    best thresholds like its neighbours; under its own name it is cut as published.
    """
    named = {record.preset: record for record in records.values() if record.preset and record.head}
    ranked = ranking(records.values())[:top]
    return named | {f"best-{place}": as_searched(record) for place, record in enumerate(ranked, start=1)}


def exported(records: Mapping[int, TrialRecord], top: int, number: int | None) -> tuple[str, TrialRecord]:
    """The trial to export and its name in the tables: the best on validation, or the one of a number.

    A published configuration that is asked for by its number is cut as published, whatever its rank.

    Raises:
        InputError: no such trial, or one without a head.
    """
    named = chosen(records, top)
    if number is None:
        return "best-1", named["best-1"]
    record = records.get(number)
    if record is None or record.head is None:
        what = "is not of this study" if record is None else f"has no trained head ({record.reason})"
        raise InputError(f"trial {number} {what}; `radtune show` lists those that have one")
    names = [name for name, one in named.items() if one.number == number and one.preset == record.preset]
    return names[0] if names else f"trial-{number}", record


def note(name: str, record: TrialRecord) -> str:
    """Why a trial stands in the tables under this name, for their reader."""
    if record.preset:
        why = NOTES.get(record.preset, f"the published configuration {record.preset}")
    else:
        why = "asked for by its number" if name == f"trial-{record.number}" else "chosen on validation"
    return f"trial {record.number}, {why}"


def as_searched(record: TrialRecord) -> TrialRecord:
    """The record as that of a searched configuration."""
    return replace(record, preset="")
