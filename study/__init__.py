"""The driver: from a study file to a finished run folder, its analysis and its export."""

from typing import TYPE_CHECKING, Any

from study.rooms import import_rooms

if TYPE_CHECKING:
    from study.study import Study

__all__ = ["Study"]

import_rooms()


def __getattr__(name: str) -> Any:
    # Lazy, so that `radtune --help` imports neither pandas nor Optuna.
    if name == "Study":
        from study.study import Study

        return Study
    raise AttributeError(f"module 'study' has no attribute {name!r}")
