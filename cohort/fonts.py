"""A font for pictures that Pillow draws: its own has plain Latin alone, no accent and no Chinese.

Letters that no font here has would be drawn as boxes, and two such names as the same boxes. They are written
by their numbers in Unicode instead, as U+80BA.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

from PIL import ImageFont

NUMBERED = 6
"""Letters of a run that are written by their numbers; an ellipsis stands for the rest."""
ENDINGS = (".ttf", ".otf", ".ttc")
MOST_FONTS = 2000
"""That are looked through."""
_NONE = "\U0010ffff"
"""No character, and never one: what a font draws for it, it draws for all that it lacks."""
_UNUSUAL = ("bold", "italic", "oblique", "light", "thin", "black", "condensed", "mono", "serif")


def shapeless(letter: str) -> bool:
    """Whether it is only there to part letters or to join them, and has no shape of its own."""
    return unicodedata.category(letter) in ("Cc", "Cf", "Zl", "Zp", "Zs")


def by_numbers(text: str, lacking: Iterable[str]) -> str:
    """The text with these letters by their numbers in Unicode."""
    letters = "".join(lacking)
    return re.sub(f"[{re.escape(letters)}]+", _numbered, text) if letters else text


def _numbered(run: re.Match[str]) -> str:
    numbers = " ".join(f"U+{ord(letter):04X}" for letter in run[0][:NUMBERED])
    return numbers + ("…" if len(run[0]) > NUMBERED else "")


class Font:
    """The font here that has the most of the letters of some texts, Pillow's own where it has them all."""

    def __init__(self, texts: Iterable[str], size: int) -> None:
        letters = {letter for text in texts for letter in text if not shapeless(letter)} | {"…"}
        self.drawn = ImageFont.load_default(size)
        self.lacking = _lacking(self.drawn, letters)
        for file in _installed() if self.lacking else ():
            try:
                font = ImageFont.truetype(str(file), size)
                lacking = _lacking(font, letters)
            except OSError:  # damaged, or of fixed sizes
                continue
            if len(lacking) < len(self.lacking):
                self.drawn, self.lacking = font, lacking
            if not lacking:
                break

    def as_drawn(self, text: str) -> str:
        """The text with what the font lacks by its numbers in Unicode."""
        return by_numbers(text, self.lacking)


def _lacking(font: ImageFont.FreeTypeFont, letters: Iterable[str]) -> set[str]:
    def shape(letter: str) -> tuple[tuple[int, int], bytes]:
        mask = font.getmask(letter)
        return mask.size, bytes(mask)

    none = shape(_NONE)
    return {letter for letter in letters if shape(letter) == none}


def _installed() -> list[Path]:
    """Font files here: those that matplotlib brings along first, then the system's, ordinary ones first. Last
    Resort has a box for everything."""
    files = (file for folder in _folders() for file in _font_files(folder))
    found = [file for _, file in zip(range(MOST_FONTS), files, strict=False)]

    def order(file: Path) -> tuple[bool, bool, str]:
        name = file.name.lower()
        return not name.startswith("dejavusans."), any(word in name for word in _UNUSUAL), str(file)

    return sorted((file for file in found if not file.name.lower().startswith("lastresort")), key=order)


def _folders() -> list[Path]:
    home = Path.home()
    found = importlib.util.find_spec("matplotlib")  # looked up, not imported
    places = found.submodule_search_locations if found else None
    folders = [Path(place, "mpl-data", "fonts", "ttf") for place in places or ()]
    if sys.platform == "darwin":
        return [*folders, home / "Library/Fonts", Path("/Library/Fonts"), Path("/System/Library/Fonts")]
    shared = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    own = os.environ.get("XDG_DATA_HOME") or str(home / ".local/share")
    return [
        *folders,
        home / ".fonts",
        *(Path(place, "fonts") for place in (own, *shared.split(":")) if place),
    ]


def _font_files(folder: Path) -> Iterator[Path]:
    for top, _, names in os.walk(folder):
        yield from (Path(top, name) for name in sorted(names) if name.lower().endswith(ENDINGS))
