"""Where a private Ray keeps its sockets: in a folder whose path is short enough, and ASCII."""

from __future__ import annotations

import os
from pathlib import Path

from cohort.errors import InputError

LONGEST = 103 if os.uname().sysname == "Darwin" else 107
"""Bytes of a Unix socket's path, of `sun_path` without the zero at its end."""
_BELOW = "/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
"""What Ray makes in it; the last number of the session is its process's."""
OTHERS = ("/tmp", "/var/tmp", "/dev/shm")


def ray_place() -> str | None:
    """The folder in which Ray is to work; None where its own choice, `ray` in RAY_TMPDIR or TMPDIR, will do.

    Raises:
        InputError: no folder will do.
    """
    chosen = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or OTHERS[0]
    if _fits(f"{chosen}/ray"):
        return None
    for other in OTHERS:
        if os.access(other, os.W_OK | os.X_OK):
            return f"{other}/ray"
    name = "RAY_TMPDIR" if os.environ.get("RAY_TMPDIR") else "TMPDIR"
    raise InputError(
        f"{name} {Path(chosen)}: Ray's sockets need a path of at most {LONGEST - len(_BELOW) - len('/ray')} "
        "letters in ASCII, and no other folder can be written to; set RAY_TMPDIR to a shorter one"
    )


def _fits(folder: str) -> bool:
    return folder.isascii() and len(folder) + len(_BELOW) <= LONGEST
