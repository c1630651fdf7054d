"""Damaged JPEGs: libjpeg fills what it cannot read with gray, and Pillow hides its warnings."""

from __future__ import annotations

import simplejpeg

_BEGINNING = b"\xff\xd8"
_DAMAGE = ("Corrupt JPEG data", "Premature end", "Unsupported marker")
"""How messages begin that tell of lost pixels (libjpeg's jerror.h); others, as of unusual parameters of a
scan, do not."""


def jpeg_damage(data: bytes) -> str:
    """What libjpeg says of lost pixels in a file that begins as a JPEG; "" where it says nothing, and for
    every other file.

    All entropy-coded data are read, but at an eighth of the size: about a tenth of the time of decoding.
    """
    if not data.startswith(_BEGINNING):
        return ""
    try:
        simplejpeg.decode_jpeg(data, "GRAY", min_height=1, min_width=1, min_factor=8, strict=True)
    except ValueError as error:
        message = " ".join(str(error).split())
        return message if message.startswith(_DAMAGE) else ""
    return ""
