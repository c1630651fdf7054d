"""radtune from Python: `Study`, `Cohort`, `Bundle` and `compare_encoders`, each imported when it is first
asked for."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

# A user's own study.py, in the folder of a notebook say, would be imported in place of the package.
_PLACE = str(Path(__file__).resolve().parents[1])
sys.path.insert(0, _PLACE)
try:
    import study  # noqa: F401  (imports all packages, none of which imports more than itself)
    from cohort.version import VERSION as __version__
finally:
    sys.path.remove(_PLACE)

if TYPE_CHECKING:
    from cohort.manifest import Cohort
    from study.compare import compare_encoders
    from study.study import Study
    from vlm.bundle import Bundle

__all__ = ["Bundle", "Cohort", "Study", "__version__", "compare_encoders"]

_MODULES = {
    "Bundle": "vlm.bundle",
    "Cohort": "cohort.manifest",
    "Study": "study.study",
    "compare_encoders": "study.compare",
    "main": "study.cli",  # of the console script, which beside a user's study.py finds it here alone
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'radtune' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
