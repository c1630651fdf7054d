"""PNGs without their texts and colour profiles: Pillow refuses an image that has more than a megabyte of
them."""

from __future__ import annotations

import struct

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TEXT = (b"tEXt", b"zTXt", b"iTXt")
_ORIENTATION = (b"Raw profile type exif", b"XML:com.adobe.xmp")
"""Keywords of the texts that may say which side is up."""
_LONGEST = 2**20
"""Bytes of a text that is kept."""


def without_texts(data: bytes) -> bytes:
    """A PNG without its colour profile and its texts, but for those of bounded length that may say how the
    image is turned; any other file as it is. The pixels are the same."""
    if not data.startswith(SIGNATURE):
        return data
    kept, start, place = [], 0, len(SIGNATURE)
    while place + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        end = place + 12 + length
        if kind == b"iCCP" or (kind in _TEXT and not _turns(data[place + 8 : place + 40], length)):
            kept.append(data[start:place])
            start = end
        place = end
    return b"".join([*kept, data[start:]]) if kept else data


def _turns(beginning: bytes, length: int) -> bool:
    return length <= _LONGEST and beginning.split(b"\0")[0] in _ORIENTATION
