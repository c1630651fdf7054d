"""Names of files made of texts that a table, an image or a model brought: the only code that does so.

A label may hold a path, 300 bytes of Chinese, or a name that Windows gives to a device; two labels may differ
in what no file system tells apart.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence

LONGEST = 100
"""Bytes of a name in UTF-8, its ending not counted. File systems take 255, of which a temporary name, an
ending and the number of a collision need some."""

_DEVICES = frozenset(
    ["con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in "0123456789¹²³")]
)
"""Reserved by Windows, with any ending and in any case ("Naming Files, Paths, and Namespaces", Microsoft)."""


def file_name(text: str) -> str:
    """A text as the name of one file or folder, without an ending: never empty, no path, at most `LONGEST`
    bytes.

    Letters, digits, marks, blanks and `_-.` of any script stay, composed (NFC); everything else becomes `_`.
    No blank or dot stands at either end, where Windows drops it and Unix hides the file.
    """
    kept = "".join(c if _may_stay(c) else "_" for c in unicodedata.normalize("NFC", text))
    name = _cut(kept.strip(" ."), LONGEST) or "_"
    return _cut(f"_{name}", LONGEST) if name.split(".")[0].rstrip().casefold() in _DEVICES else name


def file_names(texts: Sequence[str]) -> list[str]:
    """The `file_name` of each text; no two are the same, in any case: of those that would be, the second ends
    in `_2`, the third in `_3`.

    The same texts in the same order have the same names.
    """
    names: list[str] = []
    taken: set[str] = set()
    last: Counter[str] = Counter()
    for text in texts:
        plain = name = file_name(text)
        key = whole = _folded(plain)
        while key in taken:
            last[whole] += 1
            end = f"_{last[whole] + 1}"
            name = _cut(plain, LONGEST - len(end)) + end
            key = _folded(name)
        taken.add(key)
        names.append(name)
    return names


def _folded(name: str) -> str:
    """What two names share that a file system may take for one."""
    return unicodedata.normalize("NFC", name.casefold())


def _may_stay(character: str) -> bool:
    return character in " _-." or unicodedata.category(character)[0] in "LNM"


def _cut(name: str, most: int) -> str:
    """The beginning of a name, of at most so many bytes, without a broken letter at its end."""
    return name.encode()[:most].decode(errors="ignore").rstrip(" .")
