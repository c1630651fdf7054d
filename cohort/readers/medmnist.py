"""MedMNIST: images and labels in one .npz of arrays; a cohort is of files, so that its images become PNGs."""

from __future__ import annotations

import argparse
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from cohort.errors import InputError
from cohort.labels import MODALITIES
from cohort.limits import LARGEST_TABLE, MOST_FILES, MOST_PIXELS
from cohort.readers.name_lists import comma_separated
from cohort.readers.options import SharedOptions, add_options, option, options_of

if TYPE_CHECKING:
    import numpy as np

    from cohort.manifest import Cohort

HELP = "read a MedMNIST .npz, of any size"
EXAMPLE = (
    "radtune cohort medmnist --npz breastmnist_64.npz --classes malignant,benign --unpack png/breast "
    "--out cohorts/breastmnist"
)
LICENCE = "CC BY 4.0 (DermaMNIST: CC BY-NC 4.0)"
CITATION = "Yang et al., MedMNIST v2, Scientific Data 2023, arXiv:2110.14795"
SPLITS = ("train", "val", "test")
_WRONG = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile)


@dataclass(frozen=True, kw_only=True)
class MedmnistOptions(SharedOptions):
    """What the arrays do not say."""

    classes: Sequence[str] | None = option(
        None,
        type=comma_separated,
        metavar="A,B",
        help="names of the labels, in order (default: 0, 1, ...)",
    )
    modality: str | None = option(None, choices=MODALITIES, help="what the images are")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `radtune cohort medmnist`."""
    parser.add_argument("--npz", required=True, metavar="FILE", help="chestmnist.npz, pathmnist_224.npz, ...")
    parser.add_argument("--unpack", required=True, metavar="DIR", help="a new folder for its images as PNGs")
    add_options(parser, MedmnistOptions)


def read(arguments: argparse.Namespace) -> Cohort:
    """`read_medmnist` with the arguments of the command line."""
    options = options_of(arguments, MedmnistOptions)
    return read_medmnist(arguments.npz, arguments.unpack, arguments.out, options)


def read_medmnist(npz: Path | str, unpack: Path | str, out: Path | str, options: MedmnistOptions) -> Cohort:
    """Write the images to the new folder `unpack` and the cohort to `out`, in the official split.

    Labels of several columns are independent findings, those of one are classes. No patients are published:
    each image is one. Nothing is unpickled. Raises InputError for a file of another kind, a class without a
    name, a folder that is there already, and like `cohort.readers.table.read_table`.
    """
    import pandas as pd

    from cohort.readers.table import Origin, read_rows
    from cohort.readers.table_files import listed_members
    from cohort.readers.table_options import TableOptions
    from cohort.readers.table_sources import SourceRowsRead
    from cohort.writing import check_output_folder

    check_output_folder(out, unpack)
    npz, unpack = Path(npz), Path(unpack)
    if unpack.exists():
        raise InputError(f"{unpack}: is there already; name a new folder for the images")
    images, splits, labels_NC = [], [], []
    try:
        listed_members(npz)
        with zipfile.ZipFile(npz) as archive:
            for split in SPLITS:
                cells_NC = _labels(archive, split)
                count = _write_images(archive, split, unpack)
                if count != len(cells_NC):
                    raise ValueError(f"{split} has {count} images and {len(cells_NC)} labels")
                images += [f"{split}/{n}.png" for n in range(count)]
                splits += [split] * count
                labels_NC += cells_NC.tolist()
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{npz}: no such file") from error
    except _WRONG as error:
        raise InputError(f"{npz}: not MedMNIST's arrays ({type(error).__name__}: {error})") from error
    if not images:
        raise InputError(f"{npz}: holds no image")
    columns, kind = _columns(labels_NC, options.classes, npz)
    frame = pd.DataFrame(
        {"image": images, "split": splits, **columns},
        index=[f"{npz}, {image}" for image in images],
        dtype=object,
    )
    shared = {one.name: getattr(options, one.name) for one in fields(SharedOptions)}
    table_options = TableOptions(
        **shared,
        **kind,
        image_column="image",
        split_column="split",
        patient_is_image=True,
        min_patients=1,
        modality=options.modality,
    )
    read = SourceRowsRead(frame, table_options, str(npz), flow=[("images in the arrays", len(frame))])
    origin = Origin(source=f"MedMNIST {npz.stem}", reader="medmnist", licence=LICENCE, citation=CITATION)
    return read_rows(read, unpack, out, origin)


def _columns(
    labels_NC: Sequence[Sequence[int]], classes: Sequence[str] | None, npz: Path
) -> tuple[dict[str, list[str]], dict]:
    """The table's columns of labels, and the options that say which they are."""
    several = len(labels_NC[0]) > 1
    count = len(labels_NC[0]) if several else max(row[0] for row in labels_NC) + 1
    names = list(classes or map(str, range(count)))
    if len(names) != count:
        raise InputError(f"{npz}: has {count} labels, and --classes names {len(names)}")
    columns = {
        name: [str(row[c] if several else int(row[0] == c)) for row in labels_NC]
        for c, name in enumerate(names)
    }
    return columns, {"labels": names, "multiclass": not several}


def _labels(archive: zipfile.ZipFile, split: str) -> np.ndarray:
    """int64 (N, C)."""
    import numpy as np

    with _array(archive, f"{split}_labels.npy") as (file, shape, dtype):
        size = int(np.prod(shape, dtype=object))
        if dtype.kind not in "iub" or len(shape) not in (1, 2) or size * dtype.itemsize > LARGEST_TABLE:
            raise ValueError(f"{split}_labels must be whole numbers, got {shape} of {dtype}")
        labels_NC = np.frombuffer(file.read(size * dtype.itemsize), dtype, size).reshape(shape)
    if labels_NC.size and not 0 <= labels_NC.min() <= labels_NC.max() < 1000:
        raise ValueError(f"{split}_labels must lie in 0..999")
    return labels_NC.reshape(len(labels_NC), -1).astype(np.int64)


def _write_images(archive: zipfile.ZipFile, split: str, folder: Path) -> int:
    """One PNG per image, one after another, for the array may be larger than the memory; returns how many."""
    import numpy as np
    from PIL import Image

    with _array(archive, f"{split}_images.npy") as (file, shape, dtype):
        if dtype != np.uint8 or len(shape) not in (3, 4) or shape[3:] not in ((), (3,)):
            raise ValueError(f"{split}_images must be uint8 (N, H, W[, 3]), got {shape} of {dtype}")
        size = int(np.prod(shape[1:], dtype=object))
        if shape[0] > MOST_FILES or not 0 < size <= MOST_PIXELS:
            raise ValueError(f"{split}_images of shape {shape} are too many or too large")
        (folder / split).mkdir(parents=True)
        for n in range(shape[0]):
            pixels = np.frombuffer(file.read(size), np.uint8, size).reshape(shape[1:])
            Image.fromarray(pixels).save(folder / split / f"{n}.png", compress_level=1)
    return shape[0]


@contextmanager
def _array(archive: zipfile.ZipFile, name: str) -> Iterator[tuple[BinaryIO, tuple[int, ...], np.dtype]]:
    """The bytes behind an array's header, its shape and its type; ValueError where they hold objects."""
    from numpy.lib import format as npy

    with archive.open(name) as file:
        version = npy.read_magic(file)
        header = npy.read_array_header_1_0(file) if version == (1, 0) else npy.read_array_header_2_0(file)
        shape, fortran, dtype = header
        if fortran or dtype.hasobject or any(side < 0 for side in shape):
            raise ValueError(f"{name} must hold plain numbers in C order")
        yield file, shape, dtype
