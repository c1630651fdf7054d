"""Image formats that are not readable yet, known so that their files are not called missing or damaged."""

from __future__ import annotations

from pathlib import PurePosixPath

ENDINGS = {
    ".bmp": "BMP",
    ".dcm": "DICOM",
    ".dicom": "DICOM",
    ".gif": "GIF",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WebP",
}

HEAD = 132
"""How many bytes of a file `other_format` looks at: DICOM's magic ends there."""


def other_format(head: bytes, name: str) -> str:
    """The format of a file by its first `HEAD` bytes, or else by its ending; "" where it is none of these."""
    if head[128:132] == b"DICM":
        return "DICOM"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    if head[:4] == b"GIF8":
        return "GIF"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head[:2] == b"BM":
        return "BMP"
    return ENDINGS.get(PurePosixPath(name).suffix.lower(), "")
