"""VinDr-CXR: three radiologists' labels of each training image, one consensus of each test image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cohort.readers.options import option
from cohort.readers.release import (
    VAL_SHARE,
    Release,
    ReleaseOptions,
    command_of,
    published,
    read_release,
    required,
    table_options,
)

if TYPE_CHECKING:
    from cohort.manifest import Cohort

HELP = "read VinDr-CXR as PhysioNet or Kaggle has it"
EXAMPLE = "radtune cohort vindr-cxr --tables annotations --images png --raters majority --out cohorts/vindr"
RELEASE = Release(
    reader="vindr_cxr",
    name="VinDr-CXR",
    licence="PhysioNet Credentialed Health Data License 1.5.0",
    citation="Nguyen et al., VinDr-CXR, Scientific Data 2022, arXiv:2012.15029",
)
CONSENSUS = "consensus"
"""The rater of the test images, who are five in agreement."""


@dataclass(frozen=True, kw_only=True)
class VindrOptions(ReleaseOptions):
    """What three radiologists' answers come to."""

    raters: str = option(
        "majority", metavar="RULE", help="any, majority, all, or a rad_id (default: %(default)s)"
    )


def read_vindr_cxr(tables: Path | str, images: Path | str, out: Path | str, options: VindrOptions) -> Cohort:
    """Read the image labels, of which those without a positive image by the raters' answer are left out; a
    tenth of the training images validate. No patients are published: each image is one. Raises InputError
    like `cohort.readers.table.read_table`."""
    from cohort.readers.source_table import read_source
    from cohort.readers.table_sources import open_tables

    shared = {
        "image_column": "image_id",
        "patient_is_image": True,
        "rater_column": "rad_id",
        "raters": options.raters,
        "modality": "chest radiograph",
    }
    train, test = published(tables, "image_labels_train.csv"), published(tables, "image_labels_test.csv")
    if train is None:  # Kaggle's: one row per box, and no labels of test images
        names = table_options(options, label_column="class_name", **shared)
        read = open_tables([str(required(tables, "train.csv"))], names)
        return read_release(read, images, out, RELEASE, options)
    sides = {"train": train} | ({"test": test} if test else {})
    labels = [name for name in read_source(train).columns if name not in ("image_id", "rad_id")]
    columns = table_options(options, labels=labels, min_patients=1, val_from_train=VAL_SHARE, **shared)
    read = open_tables([f"{split}={path}" for split, path in sides.items()], columns)
    read.notes.clear()  # the test table has no raters, as is known
    read.frame["rad_id"] = read.frame["rad_id"].fillna(CONSENSUS).astype(object)
    return read_release(read, images, out, RELEASE, options)


arguments, read = command_of(
    read_vindr_cxr, VindrOptions, "image_labels_train.csv and image_labels_test.csv, or Kaggle's train.csv"
)
