"""In which encoding a text is, from its bytes: by a mark at its beginning, or by what it decodes in."""

from __future__ import annotations

import codecs
from typing import BinaryIO

from cohort.errors import InputError

_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_HEAD = 4096
_CHUNK = 2**20


def known_encoding(name: str) -> str:
    """The name, where Python has a text encoding of it; InputError otherwise."""
    try:
        codec = codecs.lookup(name)
        "".encode(name)  # refuses those from bytes to bytes
    except (LookupError, ValueError) as error:
        raise InputError(f"--encoding {name!r}: no such encoding; such as utf-8, cp1252 or utf-16") from error
    return codec.name


def likely_encoding(file: BinaryIO) -> str:
    """`utf-8-sig`, `utf-16` (or with the order of its bytes), or where the bytes are not UTF-8 `cp1252`, or
    `latin-1` where they are not that either; the file is read from its beginning to its end.

    Raises:
        ValueError: it is UTF-8 but for single bytes, so that it is damaged rather than another.
    """
    head = file.read(_HEAD)
    for mark, encoding in _MARKS.items():
        if head.startswith(mark):
            return encoding
    pairs = len(head) // 2
    for first, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        if pairs and head[first::2].count(0) > pairs / 2:
            return encoding
    strict, tolerant = (
        codecs.getincrementaldecoder("utf-8")(),
        codecs.getincrementaldecoder("utf-8")("replace"),
    )
    windows = codecs.getincrementaldecoder("cp1252")()
    fits = {"utf-8": True, "cp1252": True}
    letters = damaged = 0
    while chunk := head:
        if not chunk.isascii() or strict.getstate()[0]:
            for name, decoder in (("utf-8", strict), ("cp1252", windows)):
                fits[name] = fits[name] and _decodes(decoder, chunk)
            text = tolerant.decode(chunk)
            damaged += text.count("\ufffd")
            letters += sum(not letter.isascii() for letter in text)
        head = file.read(_CHUNK)
    if fits["utf-8"]:
        return "utf-8-sig"
    if letters > 2 * damaged:
        raise ValueError(
            "in UTF-8 but for single bytes that are damaged; pass --encoding to read it all the same"
        )
    return "cp1252" if fits["cp1252"] else "latin-1"


def _decodes(decoder: codecs.IncrementalDecoder, chunk: bytes) -> bool:
    try:
        decoder.decode(chunk)
    except UnicodeDecodeError:
        return False
    return True
