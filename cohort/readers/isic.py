"""ISIC's challenges of 2018 to 2020, and HAM10000: dermoscopic images of which several are of one lesion."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cohort.errors import InputError
from cohort.readers.release import (
    Release,
    ReleaseOptions,
    command_of,
    published,
    read_release,
    table_options,
)

if TYPE_CHECKING:
    from cohort.manifest import Cohort

HELP = "read the tables of ISIC 2018 to 2020 or of HAM10000"
EXAMPLE = "radtune cohort isic --tables isic2019 --images ISIC_2019_Training_Input --out cohorts/isic2019"
RELEASE = Release(
    reader="isic",
    name="ISIC",
    licence="CC BY-NC 4.0",
    citation="Tschandl et al., HAM10000, Scientific Data 2018; Codella et al., arXiv:1902.03368",
)
PATIENT = "patient or lesion"


def read_isic(tables: Path | str, images: Path | str, out: Path | str, options: ReleaseOptions) -> Cohort:
    """Read the diagnoses. Patients are those of 2020, otherwise lesions, and an image without a lesion is one
    of its own. The test labels of the challenges are apart: a split is drawn. Raises InputError like
    `cohort.readers.table.read_table`."""
    import pandas as pd

    from cohort.readers.table_sources import open_tables

    truth = published(tables, "ISIC*Training_GroundTruth.csv")
    lesions = published(tables, "ISIC*Training_Metadata.csv", "ISIC*Training_LesionGroupings.csv")
    columns: dict[str, Any]
    if truth:
        table, columns = truth, {"image_column": "image", "labels": _diagnoses(truth), "min_patients": 1}
        columns |= {"join": [str(lesions)], "on": [["image"]]} if lesions else {}
    elif table := published(tables, "HAM10000_metadata", "HAM10000_metadata.csv", "HAM10000_metadata.tab"):
        columns = {"image_column": "image_id", "label_column": "dx"}
    elif table := published(tables, "train.csv", "ISIC_2020_Training_GroundTruth_v2.csv"):
        columns = {"image_column": "image_name", "labels": ["target"]}
    else:
        raise InputError(
            f"{tables}: no ISIC_..._Training_GroundTruth.csv, train.csv or HAM10000_metadata there"
        )
    keep = ["sex", "age", "age_approx", "anatom_site_general", "localization"]
    read = open_tables([str(table)], table_options(options, keep=keep, modality="dermoscopy", **columns))
    image = read.frame[read.options.image_column]
    who = next((name for name in ("patient_id", "lesion_id") if name in read.frame.columns), None)
    patient = pd.Series(read.frame[who] if who else image, dtype=object)
    read.frame = read.frame.assign(**{PATIENT: patient.where(patient.notna(), image)})
    read.options = replace(read.options, patient_column=PATIENT)
    return read_release(read, images, out, RELEASE, options)


def _diagnoses(truth: Path) -> list[str]:
    from cohort.readers.source_table import read_source

    return [name for name in read_source(truth).columns if name not in ("image", "image_name")]


arguments, read = command_of(
    read_isic, ReleaseOptions, "..._GroundTruth.csv and its metadata, train.csv of 2020, or HAM10000_metadata"
)
