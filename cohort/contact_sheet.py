"""A sheet of small images with their labels, to look at a cohort at a glance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cohort.errors import InputError
from cohort.files import replacing_file
from cohort.geometry import Geometry, apply_geometry
from cohort.manifest import Cohort

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
_LINE = 12
_MARGIN = 6


def contact_sheet(
    cohort: Cohort, path: Path | str, *, columns: int = 8, rows: int = 4, size: int = 128
) -> Path:
    """Write `columns` x `rows` images of `size` pixels, spread evenly over the cohort, with their positive
    labels.

    Images are padded to squares, never cropped. At most three labels stand under an image, by their display
    names. InputError where `path` ends in neither .png nor .jpg, and for an image that cannot be read.
    """
    path = Path(path)
    if path.suffix.lower() not in _FORMATS:
        raise InputError(f"{path}: a contact sheet must be a .png or .jpg file; name it so")
    count = len(cohort.present)
    shown = np.unique(np.linspace(0, count - 1, min(columns * rows, count)).round().astype(int))
    files, targets_NC = cohort.files(), cohort.targets_NC()
    font = ImageFont.load_default(10)
    cell_width, cell_height = size + _MARGIN, size + 3 * _LINE + _MARGIN
    lines = -(-len(shown) // columns)
    sheet = Image.new("RGB", (columns * cell_width + _MARGIN, lines * cell_height + _MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    for k, i in enumerate(shown):
        left, top = _MARGIN + k % columns * cell_width, _MARGIN + k // columns * cell_height
        square = apply_geometry(files.decode(int(i)), Geometry(size, "longest", fill=255, channels=3))
        sheet.paste(Image.fromarray(square), (left, top))
        labels = [
            cohort.label_names.get(label, label)
            for label, target in zip(cohort.labels, targets_NC[i], strict=True)
            if target == 1
        ]
        if len(labels) > 3:
            labels = [*labels[:2], f"and {len(labels) - 2} more"]
        for line, label in enumerate(labels):
            while draw.textlength(label, font) > size:
                label = label.rstrip("…")[:-1] + "…"
            draw.text((left, top + size + line * _LINE), label, "black", font)
    with replacing_file(path) as partial:
        sheet.save(partial, _FORMATS[path.suffix.lower()])
    return path
