"""What was chosen of a finished search, and why: by validation alone, never by test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from cohort.errors import InputError
from scoring.predictions import ANSWER, PUBLISHED, TRIAL
from search_spaces.publication import PUBLICATION, PUBLISHED_NAME
from trainables.ranking import ranking
from trainables.records import TrialRecord

NOTES = {"paper": f"{PUBLISHED_NAME} ({PUBLICATION})"}
"""Preset -> what it is, for the reader of a table."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ChosenTrial:
    """A finished configuration as a row of the tables."""

    id: str
    name: str
    role: str
    """One of `scoring.predictions.ROLES`."""
    record: TrialRecord
    """With the thresholds of this row."""
    note: str
    """Why it stands there, for the reader of a table."""


def chosen(records: Mapping[int, TrialRecord], top: int, *, with_answer: bool) -> list[ChosenTrial]:
    """The published configuration and the best on validation.

    A published configuration that is among the best stands there too, under its rank, with its best
    thresholds like its neighbours; its own row keeps the published threshold. Where it is the very best, and
    these thresholds are the published ones, its own row would repeat that and is left out.

    Args:
        with_answer: whether the study has an answer made of several; without one the best is its answer.
    """
    published = {record.preset: record for record in records.values() if record.preset and record.head}
    ranked = ranking(records.values())[:top]
    if ranked and ranked[0].preset and _cut_alike(ranked[0], as_searched(ranked[0])):
        del published[ranked[0].preset]
    rows = [
        ChosenTrial(
            id=f"{PUBLISHED}/{preset}",
            name=preset,
            role=PUBLISHED,
            record=record,
            note=_note(record, "thresholds as published"),
        )
        for preset, record in published.items()
    ]
    for place, record in enumerate(ranked, start=1):
        rows.append(
            ChosenTrial(
                id=trial_id(record.number),
                name=f"best-{place}",
                role=ANSWER if place == 1 and not with_answer else TRIAL,
                record=as_searched(record),
                note=_note(record, "chosen on validation"),
            )
        )
    return rows


def trial_id(number: int) -> str:
    """The id of a configuration's row."""
    return f"{TRIAL}/{number}"


def split_choice(record: TrialRecord) -> ChosenTrial:
    """What the given split would have chosen, and trained on training alone."""
    return ChosenTrial(
        id=f"split_choice/{record.number}",
        name="split-best",
        role=TRIAL,
        record=record,
        note=f"trial {record.number}, what the given split would have chosen: trained on training alone, of "
        "the study's candidates the best on validation",
    )


def exported(records: Mapping[int, TrialRecord], top: int, number: int | None) -> ChosenTrial:
    """A trial to export: the best on validation, or the one of a number.

    A published configuration asked for by number keeps the published threshold, whatever its rank. One that
    has no row in the tables has an empty id.

    Raises:
        InputError: no such trial, or one without a head.
    """
    rows = chosen(records, top, with_answer=False)
    if number is None:
        return next(row for row in rows if row.role == ANSWER)
    record = records.get(number)
    if record is None or record.head is None:
        what = (
            f"is not of this study, whose trials are numbered {min(records)} to {max(records)}"
            if record is None
            else f"has no trained head ({record.reason})"
        )
        raise InputError(f"trial {number} {what}; those that are COMPLETE in trials.parquet have one")
    own = [row for row in rows if row.record.number == number and _cut_alike(row.record, record)]
    if own:
        return own[0]
    note = _note(record, "thresholds as published" if record.preset else "asked for by its number")
    return ChosenTrial(id="", name=f"trial-{number}", role=TRIAL, record=record, note=note)


def _note(record: TrialRecord, why: str) -> str:
    if record.preset:
        why = f"{NOTES[record.preset]}, {why}"
    return f"trial {record.number}, {why}"


def as_searched(record: TrialRecord) -> TrialRecord:
    """The record as that of a searched configuration."""
    return replace(record, preset="")


def _cut_alike(one: TrialRecord, other: TrialRecord) -> bool:
    """Whether the same scores become the same decisions under both."""
    return np.array_equal(one.rule().thresholds_C, other.rule().thresholds_C)
