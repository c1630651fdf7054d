"""`radtune cohort annotate`: regions of labels or organs, from files of boxes or masks into a cohort.

Shape legend: H height, W width.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image
from tqdm import tqdm

from cohort.annotations import (
    DRAWN_BY,
    Annotations,
    Region,
    check_organ,
    mask_region,
    write_annotations,
)
from cohort.decoding import decode_raw
from cohort.errors import InputError, shortened
from cohort.image_files import ImageFiles, list_files
from cohort.labels import NO_FINDING, did_you_mean
from cohort.look_alikes import normal_form
from cohort.manifest import ANNOTATIONS, Cohort
from cohort.readers.annotation_formats import FORMATS, OTHER_NAMES, Drawn
from cohort.readers.named_files import FileIndex, front_of, names_of_root, without_ending

MASK_ENDINGS = (".png", ".jpg", ".jpeg")
SEPARATORS = "_-. "
"""Between an image's name and what a mask's name has more."""


@dataclass
class Annotated:
    """What came of annotating, for the user."""

    regions: int = 0
    images: int = 0
    left_out: dict[str, Counter[str]] = field(default_factory=dict)
    """Why -> what was left out, with how many regions each."""
    clipped: int = 0
    """Boxes of which a part lay outside their image."""
    affixed: dict[tuple[str, str], list[tuple[str, str]]] = field(default_factory=dict)
    """What stands before and after an image's name -> names of images that are not in the cohort and would be
    without it, each with that image."""

    @property
    def lines(self) -> list[str]:
        said = [f"{self.regions} regions on {self.images} images"]
        if self.clipped:
            said.append(f"{self.clipped} boxes reached beyond their image and were cut off there")
        for why, what in self.left_out.items():
            first = next(iter(what))
            many = f" and {len(what) - 1} more" if len(what) > 1 else ""
            said.append(f"left out {sum(what.values())} regions of {why}: {first!r}{many}")
        for (before, after), names in self.affixed.items():
            name, image = names[0]
            what = " and ".join(filter(None, [before and f"{before!r} before", after and f"{after!r} after"]))
            said.append(
                f"{len(names)} of these are named as an image with {what} its name ({name!r} of {image!r}): "
                "name them as their images"
            )
        return said


def annotate(
    cohort: Cohort,
    drawn: Iterator[Drawn],
    *,
    label: str = "",
    positive_labels: bool = False,
    organ: str = "",
    rater: str = "",
    drawn_by: str = "",
    drawn_on: tuple[int, int] | None = None,
    other_names: Mapping[str, str] | None = None,
) -> Annotated:
    """Write regions beside the manifest. Those of the same raters that were there before are replaced, of an
    organ by that organ's and of labels by those of labels; others stay.

    Args:
        drawn: as a format has them.
        label: for all regions, whatever their file says.
        positive_labels: give each region to every finding that its image is positive for.
        organ: what all regions are of, whatever labels their images have.
        rater: for regions whose file names none.
        drawn_by: `people`, `software`, or empty where it is not known.
        drawn_on: width and height of the images that boxes were drawn on, where these were larger or smaller
            than the cohort's and the file does not say so.
        other_names: labels as the file spells them -> as the cohort does.

    Raises:
        InputError: nothing belongs to the cohort, a box lies outside its image, a mask has another size, or a
            label is none of the cohort's.
    """
    if organ:
        check_organ(organ)
        if label or positive_labels:
            raise InputError(
                "--organ: an organ's masks are of every label; leave out --label, --positive-labels"
            )
    if drawn_by not in ("", *DRAWN_BY):
        raise InputError(f"--drawn-by must be {' or '.join(DRAWN_BY)}, got {shortened(drawn_by)!r}")
    if label and label not in cohort.labels:
        raise InputError(f"--label: no label {label!r}; {did_you_mean(label, cohort.labels)}")
    index = _Images(cohort)
    found = Annotated()
    regions: list[Region] = []
    for one in tqdm(drawn, desc="annotating", unit="region", delay=2.0, disable=None):
        row = index.row(one.image, one.where)
        if row is None:
            why = "images that are not in the cohort"
            if index.elsewhere(one.image):
                why += ", though others of their name are in other folders"
            left_out = found.left_out.setdefault(why, Counter())
            if one.image not in left_out and (affix := index.affix(one.image)):
                found.affixed.setdefault(affix[:2], []).append((one.image, affix[2]))
            left_out[one.image] += 1
            continue
        # An organ's region has no label.
        names = [""] if organ else _labels(one, row, index, label, positive_labels, other_names or {})
        if not names:
            why = "images without a positive label" if positive_labels else "labels that the cohort lacks"
            found.left_out.setdefault(why, Counter())[one.image if positive_labels else one.label] += 1
        for name in names:
            region = _region(one, index.images[row], name, rater, index.size(row), drawn_on, found)
            regions.append(replace(region, organ=organ, drawn_by=drawn_by))
    if not regions:
        reasons = "; ".join(found.lines[1:]) or "the file has no region"
        raise InputError(f"{cohort.folder}: nothing was annotated: {reasons}")
    before = Annotations.open(cohort)
    replaced = {(region.organ, region.rater) for region in regions}
    kept = [one for one in before.regions if (one.organ, one.rater) not in replaced] if before else []
    write_annotations(cohort.folder, [*kept, *regions])
    found.regions, found.images = len(regions), len({region.image for region in regions})
    return found


def remove(cohort: Cohort, rater: str, organ: str = "") -> int:
    """Take a rater's regions away, all of them or those of an organ alone, and return how many.

    Raises:
        InputError: there are none, with the raters that there are.
    """
    found = Annotations.open(cohort)
    regions = found.regions if found else ()
    kept = [one for one in regions if one.rater != rater or (organ and one.organ != organ)]
    if len(kept) == len(regions):
        raters = ", ".join(repr(name) for name in found.raters) if found else "nobody"
        raise InputError(
            f"--remove: {cohort.folder} has no regions {f'of {organ!r} ' if organ else ''}by {rater!r}; "
            f"annotated by {raters}"
        )
    if kept:
        write_annotations(cohort.folder, kept)
    else:
        (cohort.folder / ANNOTATIONS).unlink()
    return len(regions) - len(kept)


def read_boxes(path: Path, form: str) -> tuple[Iterator[Drawn], Mapping[str, str]]:
    """The regions of a file, and its other names of labels; InputError for an unknown format or no file."""
    if form not in FORMATS:
        raise InputError(f"--format must be one of {', '.join(FORMATS)}, got {form!r}")
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    return FORMATS[form](path), OTHER_NAMES.get(form, {})


def read_masks(root: Path) -> Iterator[Drawn]:
    """Images whose pixels other than 0 are the region; the file's name says of which image, and the folder
    that it lies in of which label, where it lies in one."""
    names = [name for name in list_files(root) if name.lower().endswith(MASK_ENDINGS)]
    if not names:
        raise InputError(f"{root}: no mask there; masks end in {', '.join(MASK_ENDINGS)}")
    files = ImageFiles(root, names, None)
    for i, name in enumerate(names):
        pixels = _mask_pixels(files.read(i), f"{root / name}")
        if pixels.any():
            folder = PurePosixPath(name).parent.name
            yield Drawn(where=str(root / name), image=PurePosixPath(name).name, label=folder, mask_HW=pixels)


def masks_of_images(root: Path | str, masks: Sequence[tuple[str, str]]) -> Iterator[Drawn]:
    """The regions of masks that lie among images, without those that are empty.

    Args:
        masks: the file of each, and the name of its image.
    """
    files = ImageFiles(root, [mask for mask, _ in masks], None)
    for i, (mask, image) in enumerate(masks):
        pixels = _mask_pixels(files.read(i), f"{root}/{mask}")
        if pixels.any():
            yield Drawn(where=f"{root}/{mask}", image=image, label="", mask_HW=pixels)


def _mask_pixels(data: bytes, name: str) -> np.ndarray:
    pixels = decode_raw(data, name).pixels
    return pixels.any(axis=2) if pixels.ndim == 3 else pixels > 0


class _Images:
    """The present images by every name that a file may have for them."""

    def __init__(self, cohort: Cohort) -> None:
        self.cohort = cohort
        self.images = cohort.images()
        self.positive_NC = cohort.targets_NC() == 1
        self._files, self._sizes = cohort.files(), {}
        self._rows: dict[str, list[int]] = defaultdict(list)
        self._fronts = {""}
        for row, (image, file) in enumerate(zip(self.images, cohort.column("file"), strict=True)):
            for name in {image, file}:
                self._rows[name].append(row)
            self._fronts.add(front_of(image, file))
        self._index = FileIndex(list(self._rows))
        self._root_names = names_of_root(cohort.images_root)

    def size(self, row: int) -> tuple[int, int]:
        """Width and height of an image as it is decoded."""
        if row not in self._sizes:
            height, width = self._files.decode(row).shape[:2]
            self._sizes[row] = (width, height)
        return self._sizes[row]

    def row(self, name: str, where: str) -> int | None:
        """The image that a name stands for: that of which one name is the other's tail. Folders in front of
        it must be those of the cohort's root, or those that its own table has there.

        Raises:
            InputError: it may stand for several; begins with `where`.
        """
        fits = [
            fit
            for fit in self._index.fits(name, where, any_ending=True)
            if (front := front_of(name, fit)) in self._fronts
            or normal_form(PurePosixPath(front).name) in self._root_names
        ]
        rows = sorted({row for fit in fits for row in self._rows[fit]})
        if len(rows) > 1:
            first, second = (self.images[row] for row in rows[:2])
            raise InputError(
                f"{where}: the image {name!r} may be {first!r} or {second!r}; name it with its folders"
            )
        return rows[0] if rows else None

    def elsewhere(self, name: str) -> bool:
        """Whether an image of that name is there, in other folders than the name says."""
        return bool(self._index.fits(name, name, any_ending=True))

    def affix(self, name: str) -> tuple[str, str, str] | None:
        """What stands before and what after an image's name in the name of none, set off by one of
        SEPARATORS, and that image; None where there is no such image."""
        stem = without_ending(PurePosixPath(name).name)
        for place, letter in enumerate(stem):
            if letter in SEPARATORS:
                for own, affix in (
                    (stem[:place], ("", stem[place:])),
                    (stem[place + 1 :], (stem[: place + 1], "")),
                ):
                    if own and (fits := self._index.fits(own, name)):
                        return *affix, self.images[self._rows[fits[0]][0]]
        return None


def _labels(
    one: Drawn, row: int, index: _Images, label: str, positive: bool, other: Mapping[str, str]
) -> list[str]:
    """Those of the cohort's labels that a region is of."""
    labels = index.cohort.labels
    if label:
        return [label]
    if positive:
        return [name for c, name in enumerate(labels) if index.positive_NC[row, c] and name != NO_FINDING]
    if not one.label:
        raise InputError(
            f"{one.where}: says no label; give --label, or --positive-labels for those that its image has"
        )
    spelled = other.get(one.label, one.label)
    folded = {_folded(name): name for name in labels}
    found = folded.get(_folded(spelled))
    return [found] if found else []


def _folded(name: str) -> str:
    return name.lower().replace("_", " ").replace("-", " ").strip()


def _region(
    one: Drawn,
    image: str,
    label: str,
    rater: str,
    size: tuple[int, int],
    drawn_on: tuple[int, int] | None,
    found: Annotated,
) -> Region:
    width, height = size
    who = one.rater or rater
    if one.mask_HW is not None:
        mask_HW = one.mask_HW
        on = mask_HW.shape[1], mask_HW.shape[0]
        if on != size:
            if (drawn_on or one.size) != on and on[0] * height != on[1] * width:
                raise InputError(
                    f"{one.where}: the mask has {on[0]} x {on[1]} pixels and its image {width} x {height}; "
                    "give a mask of the image's own size or shape"
                )
            resized = Image.fromarray(mask_HW.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)
            mask_HW = np.asarray(resized) >= 128
            if not mask_HW.any():  # smaller than a pixel of the image
                mask_HW = np.asarray(resized) == np.asarray(resized).max()
        return mask_region(image, label, who, mask_HW)
    on = one.size or drawn_on or size
    x, y, w, h = (
        value * now / then for value, now, then in zip(one.box, (width, height) * 2, (*on, *on), strict=True)
    )
    left, top, right, bottom = max(x, 0.0), max(y, 0.0), min(x + w, float(width)), min(y + h, float(height))
    if w <= 0 or h <= 0 or right <= left or bottom <= top:
        box = ", ".join(f"{value:g}" for value in one.box)
        raise InputError(
            f"{one.where}: the box (x, y, w, h) = ({box}) does not lie in its image of {on[0]} x {on[1]} "
            "pixels; give --drawn-on WIDTH,HEIGHT where it was drawn on a larger one"
        )
    found.clipped += (left, top, right, bottom) != (x, y, x + w, y + h)
    return Region(
        image=image,
        label=label,
        rater=who,
        x=left,
        y=top,
        w=right - left,
        h=bottom - top,
        image_width=width,
        image_height=height,
    )
