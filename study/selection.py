"""What was chosen of a finished search, and why: by validation alone, never by test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from analysis.predictors import PUBLICATION, PUBLISHED
from cohort.errors import InputError
from trainables.ranking import ranking
from trainables.records import TrialRecord

NOTES = {"paper": f"{PUBLISHED} ({PUBLICATION})"}
"""Preset -> what it is, for the reader of a table."""

SPLIT_NOTE = (
    "trial {number}, what the given split would have chosen: trained on training alone, of the finalists the "
    "best on validation"
)
"""Of the row `split-best`."""


def chosen(records: Mapping[int, TrialRecord], top: int) -> dict[str, TrialRecord]:
    """The published configuration and the best on validation, by their names in the tables.

    A published configuration that is among the best stands there too, under its rank, and is then cut by its
    best thresholds like its neighbours; under its own name it is cut as published. Where it is the very best,
    and these thresholds are the published ones, its own name would say the same again and is left out.
    """
    named = {record.preset: record for record in records.values() if record.preset and record.head}
    ranked = ranking(records.values())[:top]
    if ranked and ranked[0].preset and _cut_alike(ranked[0], as_searched(ranked[0])):
        del named[ranked[0].preset]
    return named | {f"best-{place}": as_searched(record) for place, record in enumerate(ranked, start=1)}


def exported(records: Mapping[int, TrialRecord], top: int, number: int | None) -> tuple[str, TrialRecord]:
    """A trial to export and its name in the tables: the best on validation, or the one of a number.

    A published configuration that is asked for by its number is cut as published, whatever its rank.

    Raises:
        InputError: no such trial, or one without a head.
    """
    named = chosen(records, top)
    if number is None:
        return "best-1", named["best-1"]
    record = records.get(number)
    if record is None or record.head is None:
        what = (
            f"is not of this study, whose trials are numbered {min(records)} to {max(records)}"
            if record is None
            else f"has no trained head ({record.reason})"
        )
        raise InputError(f"trial {number} {what}; those that are COMPLETE in trials.parquet have one")
    names = [name for name, one in named.items() if one.number == number and _cut_alike(one, record)]
    return names[0] if names else f"trial-{number}", record


def note(name: str, record: TrialRecord) -> str:
    """Why a trial, as the search left it, stands in the tables under this name, for their reader."""
    why = "asked for by its number" if name == f"trial-{record.number}" else "chosen on validation"
    if record.preset:
        why = f"{NOTES[record.preset]}, {'cut as published' if name == record.preset else why}"
    return f"trial {record.number}, {why}"


def as_searched(record: TrialRecord) -> TrialRecord:
    """The record as that of a searched configuration."""
    return replace(record, preset="")


def _cut_alike(one: TrialRecord, other: TrialRecord) -> bool:
    """Whether the same scores become the same decisions under both."""
    return np.array_equal(one.rule().thresholds_C, other.rule().thresholds_C)
