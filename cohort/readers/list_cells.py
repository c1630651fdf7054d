"""Cells that hold a list as Python or JSON writes one, `['edema', "Crohn's disease"]`; nothing is run."""

from __future__ import annotations

import re
from collections.abc import Sequence

from cohort.errors import InputError, shortened

_QUOTED = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
_ITEM = re.compile(rf"\s*({_QUOTED}|[^\s'\",\[\](){{}}][^'\",\[\](){{}}]*)\s*(,|(?=['\"])|$)")
_LIST = re.compile(rf"(\[.*\]|\(\s*(?:{_QUOTED})\s*,.*\)|\{{\s*(?:{_QUOTED}).*\}})", re.DOTALL)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|.)", re.DOTALL)
_NOTHING = ("none", "nan", "null")


def are_lists(cells: Sequence[str | None]) -> bool:
    """Whether a column holds lists: every filled cell is one, or some cell is one of quoted texts."""
    given = [cell for cell in cells if cell is not None]
    lists = [cell for cell in given if _LIST.fullmatch(cell)]
    return bool(lists) and (len(lists) == len(given) or any(cell[1:].lstrip()[:1] in "'\"" for cell in lists))


def list_items(cell: str, where: str) -> list[str]:
    """The texts in a list, without blanks at their ends; those that are empty or say nothing stay out. Texts
    side by side, as NumPy prints them, are several.

    Raises:
        InputError: it is no list of texts, or lists lie within it; begins with `where`.
    """
    fault = InputError(
        f"{where}: expected a list of texts such as ['edema', 'mass'], as other rows of its column have, got "
        f"{shortened(cell)!r}"
    )
    if not _LIST.fullmatch(cell):
        raise fault
    inside, place, items = cell[1:-1].strip(), 0, []
    while place < len(inside):
        found = _ITEM.match(inside, place)
        if found is None:
            raise fault
        items.append(_text(found[1].strip()))
        place = found.end()
    return [item for item in items if item]


def _text(item: str) -> str:
    if item[0] in "'\"":
        return _ESCAPE.sub(_unescaped, item[1:-1]).strip()
    return "" if item.lower() in _NOTHING else item


def _unescaped(found: re.Match[str]) -> str:
    letter = found[1]
    if len(letter) > 1:
        return chr(int(letter[1:], 16))
    return {"n": " ", "t": " ", "r": " "}.get(letter, letter)
