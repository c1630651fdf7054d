"""radtune's own packages, before anything else that has their names.

They are called `cohort` or `analysis`, as many a file of a user is. In a notebook, under `python -m`, and in
every worker of Ray the user's folder comes first on the path, and a file `cohort.py` there would be imported
in their place. What is imported already, nothing on the path can replace.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
ROOMS = ("cohort", "scoring", "vlm", "search_spaces", "trainables", "analysis", "study", "sample")


def import_rooms() -> None:
    """Import the packages, none of which imports more than itself, from beside this one.

    Raises:
        ImportError: another module of such a name was imported before; the message names its file.
    """
    sys.path.insert(0, str(REPOSITORY))
    try:
        rooms = [importlib.import_module(room) for room in ROOMS]
    finally:
        sys.path.remove(str(REPOSITORY))
    for room in rooms:
        # A folder without an __init__.py has no file, only places.
        file = Path(room.__file__ or next(iter(room.__path__))).resolve()
        if not file.is_relative_to(REPOSITORY / room.__name__):
            raise ImportError(
                f"{file} was imported as {room.__name__!r}, which is a package of radtune; rename that file, "
                "or import radtune before it"
            )


def shadowing(folder: Path) -> Path | None:
    """A module in `folder` that has the name of one of the packages and is none of them; None without."""
    for room in ROOMS:
        for path in (folder / room / "__init__.py", folder / f"{room}.py"):
            if path.exists() and not path.resolve().is_relative_to(REPOSITORY):
                return path
    return None
