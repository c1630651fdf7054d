"""Which font has the letters of a text: DejaVu Sans, which matplotlib brings along, has no Chinese, say.

A letter that no font here has would be drawn as a box, and two such names as the same boxes. It is written by
its number in Unicode instead, as U+80BA.
"""

from __future__ import annotations

import functools
from pathlib import Path

import matplotlib as mpl
from matplotlib.font_manager import FontEntry, fontManager, get_font

from cohort.fonts import by_numbers, shapeless

FIRST = "DejaVu Sans"
BOLD = Path(mpl.get_data_path(), "fonts/ttf/DejaVuSans-Bold.ttf")


def families(text: str) -> list[str]:
    """Families of fonts, in the order in which a letter is looked for, that have all letters of a text that
    any font here has."""
    return list(dict.fromkeys([FIRST, *filter(None, map(_family_with, text))]))


def drawable(text: str) -> bool:
    """Whether the fonts here have every letter of a text."""
    return all(map(_family_with, text))


def as_drawn(text: str) -> str:
    """The text with what no font here has by its numbers in Unicode."""
    return by_numbers(text, {letter for letter in text if not _family_with(letter)})


def bold_file(text: str) -> Path | None:
    """The file of one font that has every letter of a text, DejaVu Sans in bold where it does; None where
    none has."""
    files = [BOLD, *(Path(entry.fname) for entry in _entries())]
    return next((file for file in files if all(_has(file, letter) for letter in text)), None)


@functools.cache
def _family_with(letter: str) -> str | None:
    """The family of a font that has a letter; None where none has."""
    return next((entry.name for entry in _entries() if _has(Path(entry.fname), letter)), None)


def _has(file: Path, letter: str) -> bool:
    return shapeless(letter) or ord(letter) in _letters(file)


@functools.cache
def _entries() -> list[FontEntry]:
    """All fonts here, DejaVu Sans first, then upright ones of ordinary weight. Last Resort, which comes with
    matplotlib, has a box for everything."""

    def order(entry: FontEntry) -> tuple[bool, bool, bool, str, str]:
        return (
            entry.name != FIRST,
            entry.style != "normal",
            entry.weight not in (400, "normal", "regular"),
            entry.name,
            entry.fname,
        )

    return sorted((one for one in fontManager.ttflist if not one.name.startswith("Last Resort")), key=order)


@functools.cache
def _letters(file: Path) -> frozenset[int]:
    try:
        return frozenset(get_font(file).get_charmap())
    except (OSError, RuntimeError):  # damaged, or gone since matplotlib listed it
        return frozenset()
