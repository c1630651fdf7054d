"""Sheets of small images: a cohort at a glance with its labels, or its pairs that are nearly the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from cohort.duplicates import floored
from cohort.errors import InputError
from cohort.files import replacing_file
from cohort.fonts import Font
from cohort.geometry import Geometry, apply_geometry
from cohort.manifest import Cohort

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
_LINE = 12
_MARGIN = 6
_COLUMNS, _ROWS = 8, 4
_MOST_PAIRS = 32


def contact_sheet(
    cohort: Cohort, path: Path | str, *, columns: int = _COLUMNS, rows: int = _ROWS, size: int = 128
) -> Path:
    """Write `columns` x `rows` images of `size` pixels, spread evenly over the cohort, with their positive
    labels.

    Images are padded to squares, never cropped. At most three labels stand under an image, by their display
    names. InputError where `path` ends in neither .png nor .jpg, and for an image that cannot be read.
    """
    count = len(cohort.present)
    shown = np.unique(np.linspace(0, count - 1, min(columns * rows, count)).round().astype(int))
    targets_NC = cohort.targets_NC()
    cells = []
    for i in shown:
        labels = [
            cohort.label_names.get(label, label)
            for label, target in zip(cohort.labels, targets_NC[i], strict=True)
            if target == 1
        ]
        if len(labels) > 3:
            labels = [*labels[:2], f"and {len(labels) - 2} more"]
        cells.append((int(i), labels))
    return _write(cohort, path, cells, columns, size)


def sheet_of_duplicates(cohort: Cohort, path: Path | str, *, size: int = 128) -> Path:
    """Write the first 32 of `Cohort.duplicates`, those across splits before the others, side by side, each
    image with its id, its patient and its split.

    InputError where there are none, and as `contact_sheet`.
    """
    images = cohort.images()
    place = {image: i for i, image in enumerate(images)}
    split, patient = cohort.column("split"), cohort.column("patient")
    pairs = [(place[first], place[second], alike) for first, second, alike in cohort.duplicates]
    if not pairs:
        raise InputError(
            f"{cohort.folder}: no two images are the same or nearly so; there is no pair to show"
        )
    pairs.sort(key=lambda pair: split[pair[0]] == split[pair[1]])  # stable
    cells = []
    for first, second, alike in pairs[:_MOST_PAIRS]:
        how = "the same pixels" if alike is None else f"correlation {floored(alike)}"
        for i, said in ((first, split[first]), (second, f"{split[second]}, {how}")):
            cells.append((i, [images[i], f"patient {patient[i]}", said]))
    return _write(cohort, path, cells, _COLUMNS, size)


def _write(
    cohort: Cohort, path: Path | str, cells: Sequence[tuple[int, Sequence[str]]], columns: int, size: int
) -> Path:
    """Images at their positions, each with at most three lines of text beneath it."""
    path = Path(path)
    if path.suffix.lower() not in _FORMATS:
        raise InputError(f"{path}: a contact sheet must be a .png or .jpg file; name it so")
    files, font = cohort.files(), Font([text for _, lines in cells for text in lines], size=10)
    cell_width, cell_height = size + _MARGIN, size + 3 * _LINE + _MARGIN
    rows = -(-len(cells) // columns)
    sheet = Image.new("RGB", (columns * cell_width + _MARGIN, rows * cell_height + _MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    for k, (i, lines) in enumerate(cells):
        left, top = _MARGIN + k % columns * cell_width, _MARGIN + k // columns * cell_height
        square = apply_geometry(files.decode(i), Geometry(size, "longest", fill=255, channels=3))
        sheet.paste(Image.fromarray(square), (left, top))
        for line, text in enumerate(lines):
            text = font.as_drawn(text)
            while draw.textlength(text, font.drawn) > size:
                text = text.rstrip("…")[:-1] + "…"
            draw.text((left, top + size + line * _LINE), text, "black", font.drawn)
    with replacing_file(path) as partial:
        sheet.save(partial, _FORMATS[path.suffix.lower()])
    return path
