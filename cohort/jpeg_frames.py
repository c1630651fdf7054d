"""The frame header of a JPEG or JPEG-LS codestream: what it holds, before anything is decoded."""

from __future__ import annotations

import struct
from typing import NamedTuple

_NO_FRAME_HEADER = (0xC4, 0xC8, 0xCC)
"""Among the markers C0 to CF, those that are tables or reserved."""
_JPEG_LS = 0xF7
_DCT = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)


class JpegFrame(NamedTuple):
    """A frame header (ITU-T T.81 B.2.2, T.87 C.2.2)."""

    marker: int
    precision: int
    """Bits per sample."""
    columns: int
    rows: int
    samples: int
    """Per pixel."""

    @property
    def scalable(self) -> bool:
        """Whether libjpeg decodes it at a fraction of its size: only what was transformed by cosines."""
        return self.marker in _DCT


def jpeg_frame(data: bytes) -> JpegFrame | None:
    """The first frame header; None where the segments before it are not in order."""
    place = 2
    while place + 10 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # a fill byte
            place += 1
            continue
        if marker == _JPEG_LS or (0xC0 <= marker <= 0xCF and marker not in _NO_FRAME_HEADER):
            precision, rows, columns, samples = struct.unpack_from(">BHHB", data, place + 4)
            return JpegFrame(marker, precision, columns, rows, samples)
        place += 2 + struct.unpack_from(">H", data, place + 2)[0]
    return None
