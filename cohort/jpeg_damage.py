"""Damaged JPEGs: libjpeg fills what it cannot read with gray, and Pillow hides its warnings."""

from __future__ import annotations

import simplejpeg

from cohort.jpeg_frames import jpeg_frame

_BEGINNING = b"\xff\xd8"
_DAMAGE = ("Corrupt JPEG data", "Premature end", "Unsupported marker")
"""How messages begin that tell of lost pixels (libjpeg's jerror.h); others, as of unusual parameters of a
scan, do not."""


def jpeg_damage(data: bytes) -> str:
    """What libjpeg says of lost pixels in a file that begins as a JPEG; "" where it says nothing, and for
    every other file.

    All entropy-coded data are read, but at an eighth of the size: about a tenth of the time of decoding. A
    lossless JPEG is decoded whole: libjpeg writes all of it whatever size is asked for, past the end of an
    array that was made for an eighth.
    """
    if not data.startswith(_BEGINNING):
        return ""
    frame = jpeg_frame(data)
    scaled = {"min_height": 1, "min_width": 1, "min_factor": 8} if frame and frame.scalable else {}
    try:
        simplejpeg.decode_jpeg(data, "GRAY", strict=True, **scaled)
    except ValueError as error:
        message = " ".join(str(error).split())
        return message if message.startswith(_DAMAGE) else ""
    return ""
