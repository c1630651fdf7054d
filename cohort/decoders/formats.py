"""Which format a file has, by what it begins with."""

from __future__ import annotations

from pathlib import PurePosixPath

HEAD = 132
"""How many bytes of a file `format_of` looks at: the magic of DICOM ends there."""

IMAGE_ENDINGS = (
    *(".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"),
    *(".dcm", ".dicom", ".dic", ".ima"),
)
"""Endings by which images are looked for in a folder; what a file is, its content says."""

_SLIDES = {
    ".svs": "Aperio",
    ".ndpi": "Hamamatsu",
    ".vms": "Hamamatsu",
    ".vmu": "Hamamatsu",
    ".scn": "Leica",
    ".mrxs": "MIRAX",
    ".bif": "Ventana",
    ".svslide": "Sakura",
    ".czi": "Zeiss",
}
SLIDE_ENDINGS = tuple(_SLIDES)
SLIDE_REMEDY = "cut it into tiles of PNG or JPEG, with OpenSlide's `deepzoom` say, and give those"

_DICOM_GROUPS = (b"\x02\0", b"\x08\0")
# Of the elements with which a file without preamble begins: value representations, or a short length.
_DICOM_VRS = (b"UL", b"UI", b"CS", b"OB", b"DA", b"SH", b"LO", b"IS")
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)
_TIFF_BEGINNINGS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def format_of(head: bytes) -> str:
    """The format of a file by its first `HEAD` bytes, a key of `DECODERS`; "" where it is none of these."""
    if head[128:132] == b"DICM" or _is_headerless_dicom(head):
        return "DICOM"
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        return "PNG"
    if head[:3] == b"\xff\xd8\xff":
        return "JPEG"
    if head[:4] in _TIFF_BEGINNINGS:
        return "TIFF"
    if head[:4] == b"GIF8":
        return "GIF"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    return ""


def slide_maker(name: str) -> str:
    """Whose whole-slide format an ending is; "" of any other name."""
    return _SLIDES.get(PurePosixPath(name).suffix.lower(), "")


def _is_headerless_dicom(head: bytes) -> bool:
    """Whether a file begins with an element of group 2 or 8 that a DICOM file without preamble may have
    first: explicit, with its value representation, or implicit, with a length below 256."""
    if head[:2] not in _DICOM_GROUPS or head[3:4] != b"\0" or len(head) < 16:
        return False
    return head[4:6] in _DICOM_VRS or (head[4] > 0 and head[5:8] == b"\0\0\0")
