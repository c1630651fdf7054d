"""What a study takes over from an earlier one: its best configurations, trained again before any other."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from cohort.errors import InputError
from cohort.files import write_atomically
from study.config import StudyConfig
from study.run_folder import RunFolder
from study.study_file import load_stored
from trainables.ranking import ranking

MOST = 16
"""Configurations that a study takes over."""


def earlier_starts(
    config: StudyConfig,
    run: RunFolder,
    inside: Callable[[Iterable[Mapping[str, Any]]], list[dict[str, Any]]],
) -> list[dict[str, Any]]:
    """The best configurations of `search.warm_start` that lie inside this study's space, the best first.

    They are noted in the run folder, which a resume reads: the earlier study may be gone then. Their scores
    are not taken over, which may be of another cohort or another encoder.

    Args:
        inside: `Space.starts_inside` for this study.

    Raises:
        InputError: no study there, one of another trainable, none of its configurations lies inside, or the
            note is damaged.
    """
    if not config.search.warm_start:
        return []
    if run.warm_starts_file.exists():
        return run.warm_starts()
    earlier = RunFolder(Path(config.search.warm_start))
    where = f"search.warm_start: {earlier.path}"
    if not earlier.study_file.exists():
        raise InputError(f"{where}: no study there (study.yaml is missing)")
    other = load_stored(earlier.study_file)
    if other.trainable != config.trainable:
        raise InputError(
            f"{where}: its trainable is {other.trainable}, whose space is another than that of "
            f"{config.trainable}; name a study of the same trainable"
        )
    ranked = [record for record in ranking(earlier.records().values()) if not record.preset]
    starts = inside([record.params for record in ranked])[:MOST]
    if not starts:
        raise InputError(
            f"{where}: none of its {len(ranked)} completed configurations lies inside this study's space; "
            "leave search.warm_start out, or widen search.fixed and search.ranges"
        )
    write_atomically(run.warm_starts_file, json.dumps({"starts": starts}).encode())
    return starts
