"""A name in either of Unicode's spellings: macOS takes an accent apart, most keyboards and tables do not."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from cohort.errors import InputError


def normal_form(name: str) -> str:
    """A name with every letter in the one way that Unicode calls composed (NFC, UAX 15)."""
    return unicodedata.normalize("NFC", name)


def as_written(name: str, names: Iterable[str], where: str) -> str | None:
    """The one of the names that is this one, or else the one that only spells its letters in another way;
    None where there is none.

    Raises:
        InputError: it is spelled like none of several names that look like it; begins with `where`.
    """
    form, alike = normal_form(name), []
    for other in names:
        if other == name:
            return other
        if normal_form(other) == form:
            alike.append(other)
    if len(alike) > 1:
        raise InputError(
            f"{where}: {name!r} may be either of two names that look alike, {alike[0]!a} and {alike[1]!a}, "
            "in which Unicode writes a letter in two ways; rename one"
        )
    return alike[0] if alike else None


def as_stored(path: str) -> str:
    """A path with its folders and its file spelled as they are on the disk; as given from the first part that
    is not there.

    Raises:
        InputError: a part may be either of two files or folders that look alike.
    """
    if path.isascii() or os.path.lexists(path):
        return path
    stored, *parts = Path(path).parts if os.path.isabs(path) else ("", *Path(path).parts)
    for place, part in enumerate(parts):
        if not os.path.lexists(os.path.join(stored, part)):
            try:
                there = os.listdir(stored or os.curdir)
            except OSError:  # no folder, or one that may not be looked into
                there = []
            found = as_written(part, there, stored or os.curdir)
            if found is None:
                return os.path.join(stored, *parts[place:])
            part = found
        stored = os.path.join(stored, part)
    return stored
