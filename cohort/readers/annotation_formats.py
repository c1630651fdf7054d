"""Files of boxes and masks as they are published, each turned into what `Drawn` says.

csv           one row per box: an image, a label, and x, y, w, h or x_min, y_min, x_max, y_max
nih           ChestX-ray14's BBox_List_2017.csv, drawn on 1024 x 1024 pixels
vindr         VinDr-CXR's boxes, several raters (rad_id)
coco          COCO JSON: bbox, polygons, run lengths
chexlocalize  CheXlocalize's JSON of masks: image -> label -> run lengths
siim          SIIM-ACR's pneumothorax masks of 1024 x 1024 pixels in relative run lengths
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pycocotools import mask as coco_mask

from cohort.annotations import LARGEST_SIDE
from cohort.errors import InputError, shortened
from cohort.files import read_bounded
from cohort.labels import did_you_mean
from cohort.limits import LARGEST_JSON, MOST_PIXELS
from cohort.readers.source_table import read_source
from cohort.readers.table_files import WRONG_FILE, text_rows
from cohort.run_lengths import mask_of, runs_of_coco, runs_of_siim

NIH_SIDE = SIIM_SIDE = 1024
NOTHING = ("no finding", "normal")
"""Labels of rows without a region, in lower case."""
OTHER_NAMES = {"nih": {"Infiltrate": "Infiltration"}}
"""Format -> a label as its boxes spell it -> as the same release's image labels do."""
BY_PEOPLE = ("nih", "vindr", "chexlocalize", "siim")
"""Formats of releases whose regions radiologists drew."""
SIIM_LABEL = "Pneumothorax"
LONGEST_OUTLINE = 2_000_000
"""Pixels of a mask's outline that are believed, and no more than its image has; pycocotools takes some thirty
bytes for each."""

_COLUMNS = {
    "image": ("image", "image_id", "imageid", "image index", "filename", "file_name", "file"),
    "label": ("label", "class_name", "finding label", "finding", "category"),
    "rater": ("reader", "rad_id", "annotator", "radiologist"),
}
_CORNER = {"x": ("x", "x_min", "xmin", "x1"), "y": ("y", "y_min", "ymin", "y1")}
_SIZE = {"w": ("w", "width"), "h": ("h", "height")}
_FAR_CORNER = {"w": ("x_max", "xmax", "x2"), "h": ("y_max", "ymax", "y2")}


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A region as a file has it."""

    where: str
    """For messages: file and row, or key."""
    image: str
    label: str
    """"" where the file names none."""
    rater: str = ""
    box: tuple[float, float, float, float] | None = None
    """x, y, width, height."""
    mask_HW: np.ndarray | None = None
    """bool."""
    size: tuple[int, int] | None = None
    """Width and height of the image that it was drawn on; None: the image itself."""


def read_csv(path: Path) -> Iterator[Drawn]:
    """Rows without a box, as of images without a finding, are left out."""
    yield from _boxes(read_source(path), path)


def read_vindr(path: Path) -> Iterator[Drawn]:
    yield from _boxes(read_source(path), path)


def read_nih(path: Path) -> Iterator[Drawn]:
    """Its header has more cells than its rows."""
    try:
        rows = list(text_rows(path))
    except InputError:
        raise
    except (*WRONG_FILE, ValueError, csv.Error) as error:
        raise InputError(f"{path}: not a readable CSV table ({error})") from error
    if not rows or rows[0][:2] != ["Image Index", "Finding Label"]:
        raise InputError(f"{path}: not NIH's BBox_List_2017.csv, which begins with Image Index,Finding Label")
    for number, row in enumerate(rows[1:], start=2):
        where = f"{path}, row {number}"
        if len(row) < 6:
            raise InputError(f"{where}: has {len(row)} cells, and a box needs six")
        box = tuple(_number(cell, where) for cell in row[2:6])
        yield Drawn(where=where, image=row[0], label=row[1], box=box, size=(NIH_SIDE, NIH_SIDE))


def read_siim(path: Path) -> Iterator[Drawn]:
    frame = read_source(path)
    names = {name.lower(): name for name in frame.columns}
    if not {"imageid", "encodedpixels"} <= names.keys():
        raise InputError(f"{path}: not SIIM-ACR's table, which has the columns ImageId and EncodedPixels")
    pixels = SIIM_SIDE * SIIM_SIDE
    for where, row in zip(frame.index, frame.to_dict("records"), strict=True):
        text = row[names["encodedpixels"]]
        if row[names["imageid"]] is None or text in (None, "-1"):
            continue
        try:
            mask_HW = mask_of(runs_of_siim(text, pixels), SIIM_SIDE, SIIM_SIDE)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        yield Drawn(where=str(where), image=row[names["imageid"]], label=SIIM_LABEL, mask_HW=mask_HW)


def read_coco(path: Path) -> Iterator[Drawn]:
    """A mask without a pixel is no region."""
    content = _json(path)
    try:
        images = {one["id"]: one for one in content["images"]}
        categories = {one["id"]: str(one["name"]) for one in content["categories"]}
        for one in content["annotations"]:
            image = images[one["image_id"]]
            size = (int(image["width"]), int(image["height"]))
            where = f"{path}, annotation {shortened(str(one.get('id', '')))}"
            _check_pixels(*size, where)
            label = categories[one["category_id"]]
            drawn = {"where": where, "image": str(image["file_name"]), "label": label, "size": size}
            if one.get("segmentation"):
                mask_HW = _segmentation(one["segmentation"], size, where)
                if mask_HW.any():
                    yield Drawn(**drawn, mask_HW=mask_HW)
            else:
                x, y, w, h = (_number(value, where) for value in one["bbox"])
                yield Drawn(**drawn, box=(x, y, w, h))
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(
            f"{path}: not COCO's JSON of images, categories and annotations "
            f"({type(error).__name__}: {shortened(str(error))})"
        ) from error


def read_chexlocalize(path: Path) -> Iterator[Drawn]:
    content = _json(path)
    for image, labels in content.items() if isinstance(content, dict) else ():
        for label, mask in labels.items() if isinstance(labels, dict) else ():
            where = f"{path}, {image}, {label}"
            if not (isinstance(mask, dict) and {"size", "counts"} <= mask.keys()):
                raise InputError(f"{where}: a mask must have size and counts")
            mask_HW = _run_lengths(mask, where)
            if mask_HW.any():
                yield Drawn(where=where, image=image, label=label, mask_HW=mask_HW)


FORMATS = {
    "csv": read_csv,
    "nih": read_nih,
    "vindr": read_vindr,
    "coco": read_coco,
    "chexlocalize": read_chexlocalize,
    "siim": read_siim,
}


def _boxes(frame: pd.DataFrame, path: Path) -> Iterator[Drawn]:
    columns = {name.lower(): name for name in frame.columns}

    def column(names: Sequence[str], what: str, needed: bool = True) -> str | None:
        found = [columns[name] for name in names if name in columns]
        if not found and needed:
            raise InputError(
                f"{path}: no column for {what}, {names[0]!r} say; {did_you_mean(names[0], columns)}"
            )
        return found[0] if found else None

    image = column(_COLUMNS["image"], "the image")
    label = column(_COLUMNS["label"], "the label", needed=False)
    rater = column(_COLUMNS["rater"], "the rater", needed=False)
    x, y = (column(names, f"the box's {axis}") for axis, names in _CORNER.items())
    far = any(name in columns for names in _FAR_CORNER.values() for name in names)
    w, h = (column(names, f"the box's {side}") for side, names in (_FAR_CORNER if far else _SIZE).items())
    for where, row in zip(frame.index, frame.to_dict("records"), strict=True):
        cells = [row[name] for name in (x, y, w, h)]
        named = (row[label] or "") if label else ""
        if all(cell is None for cell in cells) or named.lower() in NOTHING:
            continue
        if row[image] is None:
            raise InputError(f"{where}: column {image!r} is blank; every box needs an image")
        left, top, right, bottom = (_number(cell, str(where)) for cell in cells)
        box = (left, top, right - left, bottom - top) if far else (left, top, right, bottom)
        yield Drawn(
            where=str(where),
            image=row[image],
            label=named,
            rater=(row[rater] or "") if rater else "",
            box=box,
        )


def _number(cell: Any, where: str) -> float:
    try:
        number = float(cell)
    except (TypeError, ValueError, OverflowError):
        number = np.nan
    # Beyond any image; Pillow ends the process over a polygon of 1e300.
    if not abs(number) <= LARGEST_SIDE:
        raise InputError(
            f"{where}: a box or polygon needs numbers up to {LARGEST_SIDE:,}, got {shortened(repr(cell))}"
        )
    return number


def _json(path: Path) -> Any:
    try:
        return json.loads(read_bounded(path, LARGEST_JSON, "split it"))
    except InputError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a readable JSON file ({error})") from error


def _segmentation(of: Any, size: tuple[int, int], where: str) -> np.ndarray:
    """bool (H, W), of polygons by COCO's own rule for their edges."""
    if isinstance(of, Mapping):
        return _run_lengths(of, where)
    width, height = size
    # Checked here, for pycocotools takes what it is given.
    left, polygons = min(LONGEST_OUTLINE, (width + 4) * (height + 4)), []
    for polygon in of:
        if len(polygon) < 6 or len(polygon) % 2:
            raise InputError(f"{where}: a polygon needs three points, got {len(polygon)} numbers")
        polygons.append([_number(value, where) for value in polygon])
        corners = np.reshape([*polygons[-1], *polygons[-1][:2]], (-1, 2))
        left -= np.abs(np.diff(corners, axis=0)).sum()
        if left < 0:
            raise InputError(
                f"{where}: its polygons' outline is longer than the image of {width} x {height} has pixels; "
                "give the size of the image that they were drawn on"
            )
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))).astype(bool)


def _run_lengths(of: Mapping[str, Any], where: str) -> np.ndarray:
    """A mask of COCO: its runs as numbers, or compressed."""
    try:
        height, width = (int(side) for side in of["size"])
        _check_pixels(width, height, where)
        counts = of["counts"]
        runs = runs_of_coco(counts) if isinstance(counts, str) else [int(count) for count in counts]
        return mask_of(runs, height, width)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        reason = f"{type(error).__name__}: {shortened(str(error))}"
        raise InputError(f"{where}: not a mask of COCO ({reason})") from error


def _check_pixels(width: int, height: int, where: str) -> None:
    if not (width > 0 and height > 0 and width * height <= MOST_PIXELS):
        shape = shortened(f"{width} x {height}")
        raise InputError(f"{where}: an image or mask of {shape} pixels is not believed")
