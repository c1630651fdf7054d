"""PadChest: one table of 160,861 images, their findings as lists."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cohort.readers.options import option
from cohort.readers.release import (
    Release,
    ReleaseOptions,
    command_of,
    read_release,
    required,
    table_options,
)

if TYPE_CHECKING:
    from cohort.manifest import Cohort

HELP = "read PadChest as it is published"
EXAMPLE = (
    "radtune cohort padchest --tables padchest --images padchest --views PA,AP --min-patients 50 "
    "--out cohorts/padchest"
)
RELEASE = Release(
    reader="padchest",
    name="PadChest",
    licence="PadChest Dataset Research Use Agreement (BIMCV)",
    citation="Bustos et al., PadChest, Medical Image Analysis 2020, arXiv:1901.07441",
)


@dataclass(frozen=True, kw_only=True)
class PadchestOptions(ReleaseOptions):
    """Whose labels are taken, and how rare they may be."""

    physicians_only: bool = option(
        False, action="store_true", help="leave out images whose report a network labelled"
    )
    min_patients: int | None = option(
        None, type=int, metavar="N", help="leave out labels of fewer positive patients"
    )


def read_padchest(
    tables: Path | str, images: Path | str, out: Path | str, options: PadchestOptions
) -> Cohort:
    """Read the findings of the reports; there is no official split, so that one is drawn. `unchanged` and
    `exclude` are remarks of PadChest's annotators, and stay labels. Raises InputError like
    `cohort.readers.table.read_table`."""
    from cohort.readers.source_table import require_columns
    from cohort.readers.table_sources import open_tables

    table = str(required(tables, "PADCHEST_chest_x_ray_images_labels*.csv"))
    read = open_tables(
        [table],
        table_options(
            options,
            image_column="ImageID",
            patient_column="PatientID",
            study_column="StudyID",
            view_column="Projection",
            label_column="Labels",
            min_patients=options.min_patients,
            keep=["PatientSex_DICOM", "PatientBirth", "MethodLabel"],
            modality="chest radiograph",
        ),
    )
    if options.physicians_only:
        require_columns(read.frame, ["MethodLabel"], table)
        read.frame = read.frame[read.frame["MethodLabel"] == "Physician"]
        read.flow.append(("labelled by physicians", len(read.frame)))
    return read_release(read, images, out, RELEASE, options)


arguments, read = command_of(
    read_padchest, PadchestOptions, "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
)
