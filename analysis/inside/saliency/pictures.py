"""Maps of where a predictor looks, laid over the images that they are of: a picture and an array a label.

Shape legend: C labels, H height, W width, h and w cells of a map.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from PIL import Image
from tqdm import tqdm

from cohort.decoding import decode
from cohort.file_names import file_names
from cohort.files import write_atomically
from cohort.geometry import apply_geometry, map_to_image
from cohort.image_files import read_image
from cohort.intensity import Intensity
from vlm.predictor import Predictor
from vlm.saliency import saliency_maps
from vlm.saliency.target import ZeroGradient

STRENGTH = 0.55
"""Of the colour over the image where a map is largest."""
SHADES = "inferno"
SMALLEST_SIDE = 384
"""Pixels that the longer side of a picture has at least, so that a small image can be seen."""


@dataclass(frozen=True)
class Drawn:
    """What was drawn of one image."""

    image: str
    folder: Path
    labels: tuple[str, ...]
    refused: tuple[str, ...]
    """Why other labels have no map, in words."""


def draw_saliency(
    predictor: Predictor,
    intensity: Intensity | None,
    images: Sequence[str],
    folder: Path,
    labels: Sequence[str],
    *,
    method: str,
    layer: str,
    shifts: int = 1,
) -> Iterator[Drawn]:
    """Write `FOLDER/IMAGE/LABEL.png` and `LABEL.npy` (float32, H x W of the image, NaN where the encoder did
    not see it; as computed, not scaled), by the names that `file_names` makes of images and labels.

    One colour scale holds for all labels of an image: a faint map is a weak one. A label whose gradient is
    zero throughout has no picture.

    Raises:
        InputError: as `vlm.saliency.saliency_maps`, and an image that cannot be read.
    """
    folders = [folder / name for name in file_names([Path(image).stem for image in images])]
    file_of = dict(zip(labels, file_names(labels), strict=True))
    geometry = predictor.encoder.geometry
    for image, place in tqdm(
        zip(images, folders, strict=True),
        total=len(images),
        desc="looking",
        unit="image",
        delay=2.0,
        disable=None,
    ):
        pixels = decode(read_image(Path(image)), str(image), intensity)
        seen = apply_geometry(pixels, geometry)
        seen_1HWC = (seen[:, :, None] if seen.ndim == 2 else seen)[None]
        cells, refused = _cells(predictor, seen_1HWC, labels, method, layer, shifts)
        maps = {label: map_to_image(one, *pixels.shape[:2], geometry) for label, one in cells.items()}
        top = max((np.nanmax(one) for one in maps.values()), default=0.0)
        for label, map_HW in maps.items():
            array = io.BytesIO()
            np.save(array, map_HW)
            write_atomically(place / f"{file_of[label]}.npy", array.getvalue())
            write_atomically(place / f"{file_of[label]}.png", _png(overlay(pixels, map_HW, float(top))))
        yield Drawn(image, place, tuple(maps), tuple(refused))


def _cells(
    predictor: Predictor, seen_1HWC: np.ndarray, labels: Sequence[str], method: str, layer: str, shifts: int
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Label -> map (h, w) over the square, and why others have none."""

    def looked(some: Sequence[str]) -> np.ndarray:
        return saliency_maps(predictor, seen_1HWC, some, method=method, layer=layer, shifts=shifts)[0]

    try:
        return dict(zip(labels, looked(labels), strict=True)), []
    except ZeroGradient:  # of one label at least: the others have their maps
        cells, refused = {}, []
        for label in labels:
            try:
                (cells[label],) = looked([label])
            except ZeroGradient as error:
                refused.append(str(error))
        return cells, refused


def overlay(pixels: np.ndarray, map_HW: np.ndarray, top: float) -> np.ndarray:
    """uint8 (H, W, 3): the image with a map over it, whose colour is full at `top`; what the encoder did not
    see is darker.

    Args:
        pixels: uint8, (H, W) or (H, W, 3).
        map_HW: not negative; NaN where the encoder did not see the image.
    """
    gray = pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)
    share_HW = np.nan_to_num(map_HW / top if top > 0 else np.zeros_like(map_HW)).clip(0, 1)
    colour_HWC = mpl.colormaps[SHADES](share_HW)[..., :3] * 255
    alpha_HW1 = (STRENGTH * share_HW)[..., None]
    blended = gray * (1 - alpha_HW1) + colour_HWC * alpha_HW1
    blended[np.isnan(map_HW)] *= 0.5
    return np.rint(blended).astype(np.uint8)


def _png(pixels_HWC: np.ndarray) -> bytes:
    image = Image.fromarray(pixels_HWC)
    if (larger := SMALLEST_SIDE / max(image.size)) > 1:
        size = tuple(max(1, round(side * larger)) for side in image.size)
        image = image.resize(size, Image.Resampling.NEAREST)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
