"""ChestX-ray14 of the NIH Clinical Center: Data_Entry_2017.csv and the two official lists of names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cohort.labels import NIH_14, NO_FINDING
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

HELP = "read NIH ChestX-ray14 as it is published"
EXAMPLE = "radtune cohort nih --tables nih --images nih --out cohorts/nih"
RELEASE = Release(
    reader="nih",
    name="NIH ChestX-ray14",
    licence="no restriction on use, with attribution to the NIH Clinical Center",
    citation="Wang et al., ChestX-ray8, CVPR 2017, arXiv:1705.02315",
)


def read_nih(tables: Path | str, images: Path | str, out: Path | str, options: ReleaseOptions) -> Cohort:
    """Read the fourteen findings and No Finding. The official test list is the test split; a tenth of the
    other patients validate, for the release has no list of those. Without the lists a split is drawn. Raises
    InputError like `cohort.readers.table.read_table`."""
    from cohort.readers.table_sources import open_tables

    lists = {
        "train": published(tables, "train_val_list.txt"),
        "test": published(tables, "test_list.txt"),
    }
    official = all(lists.values())
    read = open_tables(
        [str(required(tables, "Data_Entry_2017*.csv"))],
        table_options(
            options,
            image_column="Image Index",
            patient_column="Patient ID",
            view_column="View Position",
            label_column="Finding Labels",
            split_list=[f"{split}={path}" for split, path in lists.items()] if official else None,
            val_from_train=VAL_SHARE if official else None,
            keep=["Patient Age", "Patient Gender", "Patient Sex"],
            modality="chest radiograph",
        ),
    )
    known = {*NIH_14, NO_FINDING}
    cells = {part for cell in read.frame["Finding Labels"].dropna().unique() for part in cell.split("|")}
    if unknown := sorted(cells - known):
        read.notes.append(f"labels that ChestX-ray14 does not have: {', '.join(unknown[:3])}")
    return read_release(read, images, out, RELEASE, options)


arguments, read = command_of(
    read_nih, ReleaseOptions, "Data_Entry_2017.csv, train_val_list.txt and test_list.txt"
)
