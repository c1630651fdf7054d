"""Boxes and masks on a cohort's images, of labels and of organs, in `annotations.parquet`.

One row per region:

| column | type | |
|---|---|---|
| `image` | string | id of an image of the cohort |
| `label` | string | one of the cohort's labels; "" of an organ |
| `organ` | string | the organ, such as lungs, whatever labels its image has; "" of a label's region |
| `rater` | string | who drew it; "" where nobody said |
| `drawn_by` | string | people, software, or "" where nobody said |
| `x`, `y`, `w`, `h` | float64 | the box, or that around the mask, in pixels of the decoded image |
| `image_width`, `image_height` | int32 | of the decoded image |
| `runs` | list of int32 | the mask, see `cohort.run_lengths`; null for a box |

They have a hash of their own; the cohort's does not change.

Shape legend: H height, W width.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cohort.errors import InputError, shortened
from cohort.files import replacing_file
from cohort.manifest import ANNOTATIONS, Cohort
from cohort.parquet_files import read_parquet
from cohort.run_lengths import mask_of, runs_of

FORMAT = 2
SCHEMA = pa.schema(
    [
        ("image", pa.string()),
        ("label", pa.string()),
        ("organ", pa.string()),
        ("rater", pa.string()),
        ("drawn_by", pa.string()),
        *((name, pa.float64()) for name in ("x", "y", "w", "h")),
        ("image_width", pa.int32()),
        ("image_height", pa.int32()),
        ("runs", pa.list_(pa.int32())),
    ]
)
LARGEST_SIDE = 100_000
"""Pixels of an image's side that are believed."""
PEOPLE, SOFTWARE = DRAWN_BY = ("people", "software")
"""Who or what a region may be by."""
LONGEST_ORGAN = 60
"""Letters of an organ's name."""


@dataclass(frozen=True)
class Region:
    """One box or mask on one image: of one label, or of an organ."""

    image: str
    label: str
    rater: str
    x: float
    y: float
    w: float
    h: float
    image_width: int
    image_height: int
    runs: tuple[int, ...] | None = None
    organ: str = ""
    """Its region is valid for every label of the image; `label` is then empty."""
    drawn_by: str = ""
    """One of DRAWN_BY, or empty where nobody said."""

    def mask(self) -> np.ndarray:
        """bool (H, W) over the decoded image: all pixels whose centre the box holds, one at least."""
        if self.runs is not None:
            return mask_of(self.runs, self.image_height, self.image_width)
        mask_HW = np.zeros((self.image_height, self.image_width), dtype=bool)
        rows, columns = (
            _pixels(start, length, size)
            for start, length, size in (
                (self.y, self.h, self.image_height),
                (self.x, self.w, self.image_width),
            )
        )
        mask_HW[rows, columns] = True
        return mask_HW


def _pixels(start: float, length: float, size: int) -> slice:
    """Those whose centres lie in the stretch, or the one in its middle where it holds no centre."""
    first, stop = int(np.ceil(start - 0.5)), int(np.floor(start + length - 0.5)) + 1
    if stop <= first:
        first = int(start + length / 2)
        stop = first + 1
    first = min(max(first, 0), size - 1)
    return slice(first, max(min(stop, size), first + 1))


def mask_region(
    image: str, label: str, rater: str, mask_HW: np.ndarray, *, organ: str = "", drawn_by: str = ""
) -> Region:
    """The region of a bool mask of the whole image; ValueError where it is empty."""
    rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
    if not len(rows):
        raise ValueError("an empty mask is no region")
    return Region(
        image=image,
        label=label,
        rater=rater,
        x=float(columns[0]),
        y=float(rows[0]),
        w=float(columns[-1] - columns[0] + 1),
        h=float(rows[-1] - rows[0] + 1),
        image_width=mask_HW.shape[1],
        image_height=mask_HW.shape[0],
        runs=tuple(runs_of(mask_HW)),
        organ=organ,
        drawn_by=drawn_by,
    )


def union(regions: Sequence[Region]) -> np.ndarray:
    """bool (H, W): the masks of regions on one image together."""
    return np.logical_or.reduce([region.mask() for region in regions])


@dataclass(frozen=True, eq=False)
class Annotations:
    """All regions of a cohort."""

    regions: tuple[Region, ...]
    content_hash: str
    """sha256 over them."""

    @classmethod
    def open(cls, cohort: Cohort) -> Annotations | None:
        """Those of a cohort; None where nobody annotated it.

        Raises:
            InputError: the file is damaged or is not one of these, or names an image or a label that the
                cohort lacks.
        """
        path = cohort.folder / ANNOTATIONS
        if not path.is_file():
            return None
        try:
            table = read_parquet(path, nested=True)
            noted = json.loads((table.schema.metadata or {}).get(b"radtune", b"{}"))
            if noted.get("format") != FORMAT or not table.schema.remove_metadata().equals(SCHEMA):
                raise InputError(f"not annotations of format {FORMAT}")
            regions = tuple(
                Region(**row | {"runs": None if row["runs"] is None else tuple(row["runs"])})
                for row in table.to_pylist()
            )
            check_regions(regions, cohort)
            if _hash(regions) != noted.get("content_hash"):
                raise InputError("its rows are no longer those that it was written with")
        except InputError as error:
            raise InputError(f"{path}: {error}; remove it and annotate the cohort again") from error
        except (OSError, pa.ArrowException, TypeError, ValueError, AttributeError) as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"{path}: damaged ({reason}); remove it and annotate the cohort again"
            ) from error
        return cls(regions, noted["content_hash"])

    @property
    def raters(self) -> list[str]:
        """Who drew them, sorted; a rater without a name is ""."""
        return sorted({region.rater for region in self.regions})

    @cached_property
    def by_image(self) -> dict[tuple[str, str], list[Region]]:
        """(image, label) -> its regions, of all raters; those of organs are not among them."""
        found: dict[tuple[str, str], list[Region]] = {}
        for region in self.regions:
            if not region.organ:
                found.setdefault((region.image, region.label), []).append(region)
        return found

    @cached_property
    def organs(self) -> dict[str, dict[str, list[Region]]]:
        """Organ -> image -> its regions, of all raters."""
        found: dict[str, dict[str, list[Region]]] = {}
        for region in self.regions:
            if region.organ:
                found.setdefault(region.organ, {}).setdefault(region.image, []).append(region)
        return found

    def mask(self, image: str, label: str, rater: str | None = None) -> np.ndarray | None:
        """bool (H, W): the union of the regions of a label on an image, of one rater or of all; None where
        there is none."""
        regions = [
            region
            for region in self.by_image.get((image, label), [])
            if rater is None or region.rater == rater
        ]
        return union(regions) if regions else None


def check_organ(name: str) -> None:
    """InputError for what is no name of an organ."""
    if not (0 < len(name) <= LONGEST_ORGAN and name.isprintable() and name == name.strip()):
        raise InputError(
            f"an organ's name must have 1 to {LONGEST_ORGAN} printable letters and no blank at its ends, "
            f"got {shortened(repr(name))}"
        )


def check_regions(regions: Iterable[Region], cohort: Cohort) -> None:
    """InputError, in one line, for the first region that no cohort has room for: of an image or a label that
    it lacks, outside its image, or a mask of another size."""
    images, labels = set(cohort.table["image"].to_pylist()), set(cohort.labels)
    for region in regions:
        what = f"{region.organ or region.label} on {region.image}"
        if region.image not in images:
            raise InputError(f"no image {region.image!r} in the cohort")
        if region.organ:
            check_organ(region.organ)
        if region.drawn_by not in ("", *DRAWN_BY):
            raise InputError(
                f"{what}: drawn by {shortened(region.drawn_by)!r}, not by {' or '.join(DRAWN_BY)}"
            )
        if region.organ and region.label:
            raise InputError(f"{what}: a region is of a label or of an organ, not of both")
        if not region.organ and region.label not in labels:
            raise InputError(f"no label {region.label!r} in the cohort, only {', '.join(cohort.labels)}")
        width, height = region.image_width, region.image_height
        if not (0 < width <= LARGEST_SIDE and 0 < height <= LARGEST_SIDE):
            raise InputError(f"{what}: an image of {width} x {height} pixels is not believed")
        numbers = (region.x, region.y, region.w, region.h)
        inside = (
            region.x >= 0 and region.y >= 0 and region.x + region.w <= width and region.y + region.h <= height
        )
        if not np.isfinite(numbers).all() or region.w <= 0 or region.h <= 0 or not inside:
            box = ", ".join(f"{number:g}" for number in numbers)
            raise InputError(
                f"{what}: the box (x, y, w, h) = ({box}) does not lie in {width} x {height} pixels"
            )
        if region.runs is not None:
            runs = np.asarray(region.runs, dtype=np.int64)
            if (runs < 0).any() or runs.sum() != width * height:
                raise InputError(f"{what}: the mask is not of {width} x {height} pixels")


def write_annotations(folder: Path, regions: Sequence[Region]) -> None:
    """Write all regions of the cohort in this folder, atomically; they must pass `check_regions`."""
    ordered = sorted(
        regions,
        key=lambda region: (region.image, region.label, region.organ, region.rater, region.x, region.y),
    )
    rows = [
        {name: getattr(region, name) for name in SCHEMA.names}
        | {"runs": None if region.runs is None else list(region.runs)}
        for region in ordered
    ]
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    noted = {"format": FORMAT, "content_hash": _hash(ordered)}
    table = table.replace_schema_metadata({b"radtune": json.dumps(noted)})
    with replacing_file(folder / ANNOTATIONS) as partial:
        pq.write_table(table, partial, compression="zstd")


def _hash(regions: Iterable[Region]) -> str:
    digest = hashlib.sha256()
    for region in regions:
        digest.update(json.dumps([getattr(region, name) for name in SCHEMA.names]).encode())
    return digest.hexdigest()
