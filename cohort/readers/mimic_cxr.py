"""MIMIC-CXR-JPG: the tables of images, of the studies' labels, and of splits, joined."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cohort.labels import CHEXPERT_14
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

HELP = "read MIMIC-CXR-JPG as it is published"
EXAMPLE = "radtune cohort mimic-cxr --tables mimic --images mimic/files --views PA,AP --out cohorts/mimic"
RELEASE = Release(
    reader="mimic_cxr",
    name="MIMIC-CXR-JPG",
    licence="PhysioNet Credentialed Health Data License 1.5.0",
    citation="Johnson et al., MIMIC-CXR-JPG, arXiv:1901.07042; MIMIC-CXR, Scientific Data 2019",
)


@dataclass(frozen=True, kw_only=True)
class MimicOptions(ReleaseOptions):
    """Whose labels are taken."""

    labeler: str = option(
        "chexpert", choices=("chexpert", "negbio"), help="whose labels (default: %(default)s)"
    )


def read_mimic_cxr(tables: Path | str, images: Path | str, out: Path | str, options: MimicOptions) -> Cohort:
    """Read the fourteen labels of each study for all its images, blanks negative as for CheXpert, in the
    official split. Images whose study has no labels are left out, and counted. Raises InputError like
    `cohort.readers.table.read_table`."""
    from cohort.readers.table_sources import open_tables

    labels = required(tables, f"mimic-cxr-*-{options.labeler}.csv")
    split = required(tables, "mimic-cxr-*-split.csv")
    read = open_tables(
        [str(required(tables, "mimic-cxr-*-metadata.csv"))],
        table_options(
            options,
            join=[str(split), str(labels)],
            on=[["dicom_id", "subject_id", "study_id"], ["subject_id", "study_id"]],
            image_column="dicom_id",
            patient_column="subject_id",
            study_column="study_id",
            view_column="ViewPosition",
            split_column="split",
            labels=CHEXPERT_14,
            blank=options.blank or "negative",
            modality="chest radiograph",
        ),
    )
    return read_release(read, images, out, RELEASE, options)


arguments, read = command_of(
    read_mimic_cxr, MimicOptions, "mimic-cxr-2.0.0-metadata, -split and -chexpert.csv.gz"
)
