"""Bytes of an image file to pixels, one file per family of formats; content, not ending, chooses which.

To add a format, recognise it in `formats.py`, give its module `decode(data, name, voi)` and `size(data)`, and
name that below.
"""

DECODERS = {
    "PNG": "by_pillow",
    "JPEG": "by_pillow",
    "BMP": "by_pillow",
    "GIF": "by_pillow",
    "WebP": "by_pillow",
    "TIFF": "by_pillow",
    "DICOM": "dicom",
}
"""Format, as `formats.format_of` names it -> module of this package; imports nothing."""
