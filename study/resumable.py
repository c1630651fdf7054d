"""What of a study's settings may change when it is taken up again."""

from __future__ import annotations

from typing import Any

from cohort.errors import InputError
from study.config import StudyConfig
from vlm.encoder_names import split_path

RESUMABLE = {
    ("search", "configurations"),
    ("search", "time_budget"),
    ("resources", "cpus"),
    ("resources", "gpus"),
    ("analysis", "top"),
    ("analysis", "bootstrap"),
    ("analysis", "permutations"),
    ("analysis", "images"),
    ("analysis", "looked_at"),
    ("analysis", "compare_with"),
    ("analysis", "operating_points"),
    ("analysis", "sections"),
    ("cohort",),
    ("tracking", "uri"),
    ("storage",),
    ("cache",),
    ("checkpoints",),
    ("search", "warm_start"),
}
"""Settings that a resumed study may change: none of them alters what already ran. Where the cohort lies is
one of them: that it is the same is told by its content."""


def refuse_changes(before: StudyConfig, after: StudyConfig) -> None:
    """Check that a resumed study keeps every setting on which its finished configurations depend.

    Raises:
        InputError: naming the changed key with both values, or a shrunken search.configurations.
    """
    old, new = _flat(before.model_dump(mode="json")), _flat(after.model_dump(mode="json"))
    for key in old:
        if key == ("encoder",) and split_path(old[key])[1] and split_path(new[key])[1]:
            # File or folder may have moved; that the weights are the same is told by their fingerprint.
            continue
        if key not in RESUMABLE and old[key] != new[key]:
            raise InputError(
                f"{'.'.join(key)}: this study already ran with {old[key]!r}, so it cannot be resumed with "
                f"{new[key]!r}; start a study under another name"
            )
    if after.search.configurations < before.search.configurations:
        raise InputError(
            f"search.configurations: the study was started with {before.search.configurations}, "
            f"so it can be extended but not cut to {after.search.configurations}"
        )


def kept_settings(config: StudyConfig) -> dict[str, Any]:
    """Settings, by their dotted names, that a study keeps for good, as far as they are set."""
    return {
        ".".join(key): value
        for key, value in _flat(config.model_dump(mode="json")).items()
        if key not in RESUMABLE and value not in (None, {})
    }


def _flat(mapping: dict[str, Any], prefix: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    flat: dict[tuple[str, ...], Any] = {}
    for key, value in mapping.items():
        if isinstance(value, dict) and key not in ("fixed", "ranges"):
            flat |= _flat(value, (*prefix, key))
        else:
            flat[(*prefix, key)] = value
    return flat
