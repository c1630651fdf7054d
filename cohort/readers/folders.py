"""Images in folders that are called as their classes, perhaps in those of splits, with masks among them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING

from cohort.errors import InputError
from cohort.labels import MODALITIES
from cohort.readers.options import SharedOptions, add_options, option, options_of

if TYPE_CHECKING:
    from cohort.manifest import Cohort

HELP = "read images from one folder per class"
EXAMPLE = "radtune cohort folders Dataset_BUSI_with_GT --patient-is-image --masks labels --out cohorts/busi"

_PLAIN = ("images", "image", "imgs", "img")
_MASKS = ("masks", "mask")
_MASK_NAME = re.compile(r"(.+?)[ _-]mask([ _-]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class FoldersOptions(SharedOptions):
    """What folders do not say themselves."""

    patient_from: str | None = option(
        None, metavar="REGEX", help="patients from the images' names: the first group, as in '(person[0-9]+)'"
    )
    patient_is_image: bool = option(
        False, action="store_true", help="each image is a patient of its own, whatever names look like"
    )
    class_level: int | None = option(
        None,
        type=int,
        metavar="N",
        help="which of the folders within each other are classes: 1 the uppermost, -1 the lowest",
    )
    class_from: str | None = option(
        None,
        metavar="REGEX",
        help="classes from the images' paths instead of folders: the first group, as in '_([01])[.]png'",
    )
    split_folder: Sequence[str] = option(
        (),
        action="append",
        metavar="SPLIT=FOLDER",
        help="a folder that holds a split (default: those called train, val, test)",
    )
    val_from_train: float | None = option(
        None, type=float, metavar="SHARE", help="take this share of the training patients for validation"
    )
    masks: str | None = option(
        None,
        metavar="labels|ORGAN",
        help="put the masks found among the images beside the cohort: as regions of their image's class, or "
        "of this organ",
    )
    modality: str | None = option(
        None, choices=MODALITIES, help="what the images are (default: medical image)"
    )


@dataclass
class Found:
    """What lies in the folders."""

    images: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    """"" where no folder says so."""
    masks: list[tuple[str, str]] = field(default_factory=list)
    """File of a mask, and of its image."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `radtune cohort folders`."""
    parser.add_argument("images", metavar="DIR|ZIP", help="the folder of the folders")
    add_options(parser, FoldersOptions)


def read(arguments: argparse.Namespace) -> Cohort:
    """`read_folders` with the arguments of the command line."""
    return read_folders(arguments.images, arguments.out, options_of(arguments, FoldersOptions))


def read_folders(root: Path | str, out: Path | str, options: FoldersOptions) -> Cohort:
    """Read the images below `root`, write the cohort to the folder `out`, and open it.

    The class of an image is its folder that is neither a split's (`train`, `val`, `test` and their like, or
    `split_folder`), nor called `images`, nor one that all images lie in; where several lie within each other,
    `class_level` says which. Files called as an image with `_mask` behind it, and those in folders called
    `masks`, are masks.

    Raises InputError where images lie in no class's folder, or folders do not tell classes from splits, and
    like `cohort.readers.table.read_table`.
    """
    import pandas as pd

    from cohort.image_files import list_files
    from cohort.readers.table import Origin, read_rows
    from cohort.readers.table_options import TableOptions
    from cohort.readers.table_sources import SourceRowsRead
    from cohort.writing import check_output_folder

    check_output_folder(out, root)
    found = find_images(list_files(root), root, options)
    frame = pd.DataFrame(
        {"image": found.images, "class": found.classes, "split": found.splits},
        index=[f"{root}, {image}" for image in found.images],
        dtype=object,
    )
    classes = sorted(set(found.classes))
    shared = {one.name: getattr(options, one.name) for one in fields(SharedOptions)}
    table_options = TableOptions(
        **shared,
        image_column="image",
        label_column="class",
        label_separator="/",
        labels=classes,
        not_missing=classes,
        multiclass=True,
        patient_from=options.patient_from,
        patient_is_image=options.patient_is_image,
        split_column="split" if any(found.splits) else None,
        val_from_train=options.val_from_train,
        modality=options.modality,
    )
    notes = []
    if found.masks and options.masks is None:
        notes.append(
            f"{len(found.masks)} masks lie among the images ({found.masks[0][0]}): --masks labels puts them "
            "beside the cohort as regions of their images' classes, --masks lungs as those of an organ"
        )
    read = SourceRowsRead(
        frame, table_options, str(root), flow=[("images in folders", len(frame))], notes=notes
    )
    cohort = read_rows(read, root, out, Origin(source=f"folders of {Path(root).name}", reader="folders"))
    if options.masks is not None:
        _annotate(cohort, root, found.masks, options.masks)
    return cohort


def find_images(files: Sequence[str], root: Path | str, options: FoldersOptions) -> Found:
    """The images among these files with their classes, splits and masks; see `read_folders`."""
    from cohort.readers.named_files import ending
    from cohort.readers.patient_names import first_groups
    from cohort.readers.split_lists import split_and_rest
    from cohort.splits import split_called

    sides = [split_and_rest(text, "--split-folder") for text in options.split_folder]
    named = {folder: split for split, folder in sides}
    files = [file for file in files if ending(file)]
    masks = _masks(files)
    images = [file for file in files if file not in masks]
    if not images:
        raise InputError(f"{root}: no image there")
    found = Found(images=images, masks=sorted((mask, image) for mask, image in masks.items() if image))
    levels = []
    for image in images:
        folders = [part for part in image.split("/")[:-1] if part.lower() not in _PLAIN]
        splits = [part for part in folders if part in named or (not named and split_called(part))]
        found.splits.append(named.get(splits[0], splits[0]) if splits else "")
        levels.append([part for part in folders if part not in splits[:1]])
    if any(found.splits) and "" in found.splits:
        image = images[found.splits.index("")]
        raise InputError(
            f"{root}: {image!r} lies in no split's folder, and others do; name all with --split-folder"
        )
    if options.class_from:
        found.classes = first_groups(images, options.class_from, "--class-from")
    else:
        found.classes = _classes(images, levels, options.class_level, root)
    if len(set(found.classes)) < 2:
        raise InputError(f"{root}: all images are of {found.classes[0]!r}, and classes must be two at least")
    return found


def _classes(
    images: Sequence[str], levels: Sequence[Sequence[str]], level: int | None, root: Path | str
) -> list[str]:
    """The folder of each image that is its class, out of those within each other."""
    while all(len(parts) > 1 for parts in levels) and len({parts[0] for parts in levels}) == 1:
        levels = [parts[1:] for parts in levels]
    place = (level or 1) - (1 if (level or 1) > 0 else 0)
    for image, parts in zip(images, levels, strict=True):
        if level is None and len(parts) > 1:
            raise InputError(
                f"{root}: folders lie within folders ({'/'.join(parts)!r}); say which is the class, as in "
                f"--class-level 1 for {parts[0]!r}, or which are splits: --split-folder train={parts[0]}"
            )
        if not -len(parts) <= place < len(parts):
            raise InputError(f"{root}: {image!r} lies in no folder of a class; give a table of the images")
    return [parts[place] for parts in levels]


def _masks(files: Sequence[str]) -> Mapping[str, str]:
    """File of a mask -> file of its image, or "" where there is none."""
    from cohort.readers.named_files import without_ending

    stems = {without_ending(file): file for file in files}
    masks = {}
    for file in files:
        folder, _, name = without_ending(file).rpartition("/")
        above, _, own = folder.rpartition("/")
        if own.lower() in _MASKS:
            places = [f"{above}/{plain}/{name}" for plain in (*_PLAIN, *map(str.capitalize, _PLAIN))]
            places = [place.removeprefix("/") for place in (*places, f"{above}/{name}")]
            masks[file] = next((stems[place] for place in places if place in stems), "")
        elif named := _MASK_NAME.fullmatch(name):
            image = f"{folder}/{named[1]}".removeprefix("/")
            if image in stems:
                masks[file] = stems[image]
    return masks


def _annotate(cohort: Cohort, root: Path | str, masks: Sequence[tuple[str, str]], of: str) -> None:
    from cohort.readers.annotations import annotate, masks_of_images

    if not masks:
        raise InputError(f"{root}: --masks: no masks lie among the images; leave it out")
    drawn = masks_of_images(root, masks)
    if of == "labels":
        annotate(cohort, drawn, positive_labels=True)
    else:
        annotate(cohort, drawn, organ=of)
