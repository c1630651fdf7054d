"""CheXpert: train.csv, valid.csv and, where it is there, the test set's table; -small, or in full size."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cohort.labels import CHEXPERT_14
from cohort.readers.release import (
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

HELP = "read CheXpert as it is published"
EXAMPLE = (
    "radtune cohort chexpert --tables CheXpert-v1.0-small --images CheXpert-v1.0-small --views Frontal "
    "--out cohorts/chexpert"
)
RELEASE = Release(
    reader="chexpert",
    name="CheXpert",
    licence="Stanford University Dataset Research Use Agreement",
    citation="Irvin et al., CheXpert, AAAI 2019, arXiv:1901.07031",
)


def read_chexpert(tables: Path | str, images: Path | str, out: Path | str, options: ReleaseOptions) -> Cohort:
    """Read CheXpert's fourteen labels; patients are in the paths, blanks negative as its makers have them, -1
    as `uncertain` says. Raises InputError like `cohort.readers.table.read_table`."""
    from cohort.readers.table_sources import open_tables

    sides = {
        "train": required(tables, "train.csv"),
        "val": published(tables, "valid.csv"),
        "test": published(tables, "test_labels.csv", "groundtruth.csv", "test.csv"),
    }
    read = open_tables(
        [f"{split}={path}" for split, path in sides.items() if path],
        table_options(
            options,
            image_column="Path",
            patient_from="(patient[0-9]+)",
            view_column="Frontal/Lateral",
            labels=CHEXPERT_14,
            blank=options.blank or "negative",
            keep=["Sex", "Age", "AP/PA"],
            modality="chest radiograph",
        ),
    )
    return read_release(read, images, out, RELEASE, options)


arguments, read = command_of(read_chexpert, ReleaseOptions, "train.csv and valid.csv")
