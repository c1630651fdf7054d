"""Any table of image names and labels, with a folder or a zip archive of the images.

Shape legend: N images, C labels.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cohort.errors import InputError
from cohort.labels import (
    CHEXPERT_14,
    MODALITIES,
    LabelPolicy,
    apply_policy,
    likely_modality,
)
from cohort.readers.shared_arguments import comma_separated, shared

if TYPE_CHECKING:
    import pandas as pd

    from cohort.manifest import Cohort

HELP = "read any CSV or Parquet table with its images"
EXAMPLE = (
    "radtune cohort table --table labels.csv --images images --image-column image_id "
    "--patient-column patient_id --labels Cardiomegaly,Effusion --out cohorts/mine"
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `radtune cohort table`; those of all readers come on top."""
    parser.add_argument(
        "--table", required=True, metavar="CSV|PARQUET", help="a row an image, or an image and label"
    )
    parser.add_argument("--images", required=True, metavar="DIR|ZIP", help="the images")
    parser.add_argument(
        "--image-column", required=True, metavar="C", help="file names, with or without ending"
    )
    parser.add_argument(
        "--patient-column", metavar="C", help="groups the split (default: each image its own)"
    )
    parser.add_argument("--study-column", metavar="C")
    parser.add_argument("--view-column", metavar="C")
    parser.add_argument("--views", type=comma_separated, metavar="PA,AP", help="keep these views only")
    labels = parser.add_mutually_exclusive_group(required=True)
    labels.add_argument(
        "--labels", type=comma_separated, metavar="A,B,C", help="label columns holding 1, 0, -1 or blank"
    )
    labels.add_argument(
        "--label-column", metavar="C", help="one label a row, or several in a cell, in this column"
    )
    meaning = parser.add_mutually_exclusive_group()
    meaning.add_argument(
        "--exclusive",
        action="store_true",
        default=None,
        help="the labels are the classes of one question, one a row (default: where they are, in all rows)",
    )
    meaning.add_argument(
        "--multi-label",
        action="store_false",
        dest="exclusive",
        help="they are independent findings, even where each row has one",
    )
    parser.add_argument(
        "--label-separator", metavar="C", help="between several labels in a cell of that column (default: |)"
    )
    parser.add_argument(
        "--split-column",
        metavar="C",
        help="train, val, test; a cohort may lack some (default: a stratified split)",
    )
    parser.add_argument(
        "--keep", type=comma_separated, default=[], metavar="sex,age", help="columns to carry along"
    )
    parser.add_argument(
        "--modality",
        choices=MODALITIES,
        help="what the images are (default: chest radiograph for CheXpert's and ChestX-ray14's labels, "
        "otherwise medical image)",
    )


def read(arguments: argparse.Namespace) -> Cohort:
    """`read_table` with the options of the command line."""
    return read_table(
        arguments.table,
        arguments.images,
        image_column=arguments.image_column,
        patient_column=arguments.patient_column,
        study_column=arguments.study_column,
        view_column=arguments.view_column,
        views=arguments.views,
        labels=arguments.labels,
        label_column=arguments.label_column,
        label_separator=arguments.label_separator,
        exclusive=arguments.exclusive,
        split_column=arguments.split_column,
        keep=arguments.keep,
        modality=arguments.modality,
        **shared(arguments),
    )


def read_table(
    table: Path | str,
    images: Path | str,
    out: Path | str,
    *,
    image_column: str,
    patient_column: str | None = None,
    study_column: str | None = None,
    view_column: str | None = None,
    views: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    label_column: str | None = None,
    label_separator: str | None = None,
    exclusive: bool | None = None,
    split_column: str | None = None,
    keep: Sequence[str] = (),
    uncertain: str | Mapping[str, str] = "ignore",
    blank: str | None = None,
    no_finding: str = "as-given",
    fractions: Sequence[float] | None = None,
    seed: int = 0,
    modality: str | None = None,
    licence: str = "",
    label_names: Mapping[str, str] | None = None,
    label_prompts: Mapping[str, Sequence[str]] | None = None,
    intensity: str = "full",
    skip_unreadable: bool = False,
    allow_duplicates: bool = False,
) -> Cohort:
    """Read a CSV or Parquet table and its images, write the cohort to the folder `out`, and open it.

    `images` is a folder or a zip archive. `image_column` names the files, with or without folder and ending
    (`cohort.readers.named_files`), and becomes the image id.

    Labels stand either in one column a label (`labels`; cells 1, 0, -1 for uncertain, blank) or in one column
    for all (`label_column`): one label a row, several rows of one image merged, or several labels in a cell
    with `label_separator` between them (default: `|`). In the second form what is not named is negative, and
    a blank cell means what `blank` says for all labels.

    `exclusive` says whether the labels are the classes of one question (`Cohort.exclusive`). By default they
    are where every row has exactly one of them, or is masked whole, in so many rows that independent findings
    hardly would (`cohort.exclusive`).

    `blank` defaults to `negative` where the table has all fourteen CheXpert columns, because CheXpert and
    CheXbert leave out what a report does not mention, and to `missing` elsewhere. `uncertain` and
    `no_finding` are those of `LabelPolicy`.

    Without `patient_column` every image counts as its own patient, with a warning. `split_column` need not
    name all three sides; without it a patient-grouped stratified split is drawn with `fractions` (default:
    `cohort.splits.FRACTIONS`) and `seed`. `views` keeps only rows whose `view_column` is among them. `keep`
    names columns to carry along. `modality` is one of `MODALITIES` (default: what the labels suggest),
    `licence` a line about the terms of use; `label_names` and `label_prompts` are those of `Cohort`;
    `intensity` is one of `cohort.intensity.RULES`.

    Raises InputError for whatever the user can mend: absent columns and files, unknown values, duplicate
    images, a patient on two sides, a label without a positive image, a row with two `exclusive` labels or
    none, unreadable images (skipped with a warning under `skip_unreadable`), and the same image file under
    several names in different splits (a warning under `allow_duplicates`).
    """
    from cohort.exclusive import settle_exclusive
    from cohort.manifest import check_output_folder
    from cohort.readers.assemble import SourceRows, assemble
    from cohort.readers.label_column import SEPARATOR, merge_rows, missed_separator
    from cohort.readers.source_table import (
        label_cells,
        read_source,
        require_cells,
        require_columns,
        require_distinct,
        require_label_columns,
        typed,
    )
    from cohort.splits import FRACTIONS, given_split, too_rare_for_three_sides

    check_output_folder(out, images)
    _refuse_label_arguments(labels, label_column, label_separator)
    if fractions is not None and split_column:
        raise InputError(
            f"fractions are those of a split that is drawn, but column {split_column!r} gives one; name one "
            "of the two"
        )
    if views and not view_column:
        raise InputError(f"views {', '.join(views)} are asked for, but no view column is named")

    frame = read_source(table)
    named = [image_column, patient_column, study_column, view_column, label_column, split_column, *keep]
    require_columns(frame, [name for name in named if name], table)
    if blank is None:
        blank = "negative" if set(CHEXPERT_14) <= set(frame.columns) else "missing"
    if labels is not None:
        frame = require_label_columns(frame, labels, no_finding, table)

    flow = [("rows read", len(frame))]
    warnings = []
    if views:
        frame = _keep_views(frame, view_column, views, table)
        flow.append((f"view among {', '.join(views)}", len(frame)))
    for name in filter(None, (image_column, patient_column)):
        require_cells(frame, name)

    if labels is not None:
        raw_NC = label_cells(frame, labels)
        require_distinct(
            frame[image_column],
            "image",
            "an image must have one row, unless a label column names one label a row",
        )
    else:
        separator = label_separator or SEPARATOR
        single = [patient_column, study_column, view_column, split_column]
        frame, labels, raw_NC = merge_rows(frame, image_column, label_column, separator, single)
        if missed := missed_separator(labels, separator):
            warnings.append(missed)
        flow.append(("images", len(frame)))

    policy = LabelPolicy(uncertain, blank, no_finding)
    targets_NC, contradictions = apply_policy(raw_NC, labels, policy)
    for c, label in enumerate(labels):
        if not (targets_NC[:, c] == 1).any():
            raise InputError(f"{table}: label {label!r} has no positive image; leave it out of the labels")

    image = frame[image_column].tolist()
    patient = frame[patient_column].tolist() if patient_column else image
    one_a_row, doubts = settle_exclusive(exclusive, targets_NC, labels, image)
    warnings += doubts
    if not patient_column:
        warnings.append("no patient column: every image counts as its own patient")
    split = None
    if split_column:
        split = given_split(frame[split_column], patient, f"{table}, column {split_column!r}")
    else:
        warnings += too_rare_for_three_sides(targets_NC, patient, labels)

    rows = SourceRows(
        image=image,
        names=[[name] for name in image],
        patient=patient,
        study=[cell or "" for cell in frame[study_column]] if study_column else image,
        view=[cell or "" for cell in frame[view_column]] if view_column else [""] * len(frame),
        split=split,
        fractions=fractions or FRACTIONS,
        seed=seed,
        keep={name: typed(frame[name].tolist()) for name in keep},
        raw_NC=raw_NC,
        targets_NC=targets_NC,
        contradictions=contradictions,
        labels=labels,
        policy=policy,
        source=f"table {Path(table).name}",
        reader="table",
        modality=modality or likely_modality(labels),
        licence=licence,
        exclusive=one_a_row,
        label_names=label_names or {},
        label_prompts=label_prompts or {},
        flow=flow,
        warnings=warnings,
    )
    return assemble(
        rows,
        images,
        out,
        intensity=intensity,
        skip_unreadable=skip_unreadable,
        allow_duplicates=allow_duplicates,
    )


def _refuse_label_arguments(labels: Sequence[str] | None, column: str | None, separator: str | None) -> None:
    if (labels is None) == (column is None):
        raise InputError(
            "labels stand in columns of their own (labels) or in one (label_column); name one of the two"
        )
    if separator is not None and (column is None or not separator):
        raise InputError(
            f"label separator {separator!r} must be a text between the labels of a label column, and one "
            "must be named; leave it out"
        )
    if labels is not None:
        if not labels:
            raise InputError("labels: no label is named; name at least one")
        label, count = Counter(labels).most_common(1)[0]
        if count > 1:
            raise InputError(f"labels: label {label!r} is named {count} times; name it once")


def _keep_views(frame: pd.DataFrame, column: str, views: Sequence[str], table: Path | str) -> pd.DataFrame:
    wanted = {view.lower() for view in views}
    kept = frame[[(cell or "").lower() in wanted for cell in frame[column]]]
    if kept.empty:
        there = ", ".join(sorted({cell or "(blank)" for cell in frame[column]}))
        raise InputError(f"{table}: no row has a view among {', '.join(views)}; {column!r} holds: {there}")
    return kept
