"""Ray's snapshot of a working directory is no place for a study."""

from __future__ import annotations

from pathlib import Path

from cohort.errors import InputError
from study.config import StudyConfig
from study.sqlite_uri import sqlite_file


def refuse_snapshot(config: StudyConfig) -> None:
    """`ray job submit` runs the driver in a snapshot of the working directory that Ray deletes; InputError
    where a study would write there."""
    places = {
        "cohort": config.cohort,
        "storage": config.storage,
        "cache": config.cache,
        "checkpoints": config.checkpoints or "",
        "tracking.uri": sqlite_file(config.tracking.uri) or "",
    }
    for key, place in places.items():
        if "runtime_resources" in Path(place).parts:
            raise InputError(
                f"{key}: {place} lies in Ray's disposable snapshot under `ray job submit`; give an "
                "absolute path outside it, or where the setting allows it a URI"
            )
