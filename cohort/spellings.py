"""Names that differ in what nobody sees, or in what nobody means: one patient or label, written twice."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

_MINUS = "\N{MINUS SIGN}"


def seen(text: str) -> str:
    """What is to be seen of a text: composed letters (NFC), no characters without width (zero-width spaces
    and joiners, soft hyphens, marks of direction), one blank where there are several, none at the ends."""
    composed = unicodedata.normalize("NFC", text)
    return " ".join("".join(c for c in composed if unicodedata.category(c) != "Cf").split())


def folded(text: str) -> str:
    """What two spellings of one name share: `seen`, without regard to case, to the kind of hyphen, to the
    width of digits and letters (NFKC), and to a final `.0`, which spreadsheets append to numbers."""
    plain = unicodedata.normalize("NFKC", seen(text))
    hyphens = "".join("-" if c == _MINUS or unicodedata.category(c) == "Pd" else c for c in plain)
    return hyphens.casefold().removesuffix(".0")


def one_spelling(
    texts: Iterable[str | None], first: dict[str, str] | None = None
) -> tuple[list[str | None], list[tuple[str, str]]]:
    """The texts, each as the first one was written that looks like it; and which were replaced: the first
    spelling and the other, once each. None stays. `first` holds what was met before, and is added to."""
    first = {} if first is None else first
    known: dict[str, str] = {}
    kept = []
    for text in texts:
        if text is not None and text not in known:
            known[text] = first.setdefault(seen(text), text)
        kept.append(None if text is None else known[text])
    return kept, [(spelling, other) for other, spelling in known.items() if other != spelling]


def taken_for_one(what: str, replaced: list[tuple[str, str]]) -> list[str]:
    """A warning of the spellings that `one_spelling` replaced, or none; `what` says what they name."""
    replaced = list(dict.fromkeys(replaced))
    if not replaced:
        return []
    spelling, other = replaced[0]
    more = ", ..." if len(replaced) > 1 else ""
    return [
        f"{len(replaced)} {what} are written as others in all that can be seen ({spelling!a} and "
        f"{other!a}{more}): taken for the same"
    ]


def spelled_alike(names: Iterable[str]) -> list[tuple[str, str]]:
    """The name before it and the name, for each that another one before it may stand for (`folded`)."""
    first: dict[str, str] = {}
    pairs = ((first.setdefault(folded(name), name), name) for name in dict.fromkeys(names))
    return [(other, name) for other, name in pairs if other != name]
