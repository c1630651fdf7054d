"""Any table of image names and labels, with a folder or a zip archive of the images.

Shape legend: N images, C labels.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cohort.errors import InputError
from cohort.labels import CHEXPERT_14, MODALITIES, LabelPolicy, apply_policy, likely_modality
from cohort.readers.name_lists import comma_separated
from cohort.readers.options import SharedOptions, add_options, option, options_of

if TYPE_CHECKING:
    import pandas as pd

    from cohort.manifest import Cohort
    from cohort.readers.table_labels import LabelledRows

HELP = "read any CSV or Parquet table with its images"
EXAMPLE = (
    "radtune cohort table --table labels.csv --images images --image-column image_id "
    "--patient-column patient_id --labels Cardiomegaly,Effusion --out cohorts/mine"
)


@dataclass(frozen=True, kw_only=True)
class TableOptions(SharedOptions):
    """Which columns of a table hold what. InputError for options that contradict each other.

    Labels stand either in one column a label (`labels`; cells 1, 0, -1 for uncertain, blank) or in one column
    for all (`label_column`): one label a row, several rows of one image merged, or several labels in a cell
    with `label_separator` between them (default: `|`). In the second form what is not named is negative, a
    blank cell means what `blank` says for all labels, and `labels` may choose some of those that are named.

    `blank` defaults to `negative` where the table has all fourteen CheXpert columns, because CheXpert and
    CheXbert leave out what a report does not mention, and to `missing` elsewhere; `no_finding` to `as-given`.
    """

    image_column: str = option(None, required=True, metavar="C", help="file names, with or without ending")
    """With or without folder too (`cohort.readers.named_files`); becomes the image id."""
    patient_column: str | None = option(
        None, metavar="C", help="groups the split (default: each image its own)"
    )
    study_column: str | None = option(None, metavar="C")
    view_column: str | None = option(None, metavar="C")
    views: Sequence[str] | None = option(
        None, type=comma_separated, metavar="PA,AP", help="keep these views only"
    )
    labels: Sequence[str] | None = option(
        None,
        type=comma_separated,
        metavar="A,B,C",
        help="label columns holding 1, 0, -1 or blank; with --label-column, which of its labels (default: "
        "all); a name with a comma in quotes, as in CSV: '\"Mass, left\",Edema'",
    )
    label_column: str | None = option(
        None, metavar="C", help="one label a row, or several in a cell, in this column"
    )
    label_separator: str | None = option(
        None, metavar="C", help="between several labels in a cell of that column (default: |)"
    )
    split_column: str | None = option(
        None,
        metavar="C",
        help="train, val, test; a cohort may lack some (default: a stratified split)",
    )
    keep: Sequence[str] = option((), type=comma_separated, metavar="sex,age", help="columns to carry along")
    not_missing: Sequence[str] = option(
        (),
        type=comma_separated,
        metavar="NA,None",
        help="markers that are values in this table, such as the patient NA; otherwise a cell is blank that "
        "holds NA, N/A, #N/A, <NA>, NaN, NaT, null, None, - or ?, in any case",
    )
    modality: str | None = option(
        None,
        choices=MODALITIES,
        help="what the images are (default: chest radiograph for CheXpert's and ChestX-ray14's labels, "
        "otherwise medical image)",
    )
    multiclass: bool | None = None
    """Whether the labels are the classes of one question (`Cohort.multiclass`). None: where every row has
    exactly one of them, or is masked whole, in so many rows that independent findings hardly would
    (`cohort.multiclass`)."""

    def __post_init__(self) -> None:
        labels, separator = self.labels, self.label_separator
        if labels is None and self.label_column is None:
            raise InputError(
                "labels stand in columns of their own (--labels) or in one (--label-column); name them or it"
            )
        if separator is not None and (self.label_column is None or not separator):
            raise InputError(
                f"label separator {separator!r} must be a text between the labels of a label column, and one "
                "must be named; leave it out"
            )
        if labels is not None and not labels:
            raise InputError("labels: no label is named; name at least one")
        for label, count in Counter(labels or ()).items():
            if count > 1:
                raise InputError(f"labels: label {label!r} is named {count} times; name it once")
        if self.fractions is not None and self.split_column:
            raise InputError(
                f"fractions are those of a split that is drawn, but column {self.split_column!r} gives one; "
                "name one of the two"
            )
        if self.views and not self.view_column:
            raise InputError(f"views {', '.join(self.views)} are asked for, but no view column is named")

    @property
    def single(self) -> tuple[str | None, ...]:
        """Columns of which an image has one value, but for the image itself."""
        return self.patient_column, self.study_column, self.view_column, self.split_column

    def fitted(self, frame: pd.DataFrame) -> TableOptions:
        """With the columns' names as the table writes them (a name that it does not have stays), and with the
        rules for labels that go with its columns, where none are given."""
        from cohort.readers.source_table import as_written

        blank = "negative" if set(CHEXPERT_14) <= set(frame.columns) else "missing"
        names = ("image", "patient", "study", "view", "label", "split")
        given = {f"{name}_column": getattr(self, f"{name}_column") for name in names}
        written = {name: column and as_written(frame, column) for name, column in given.items()}
        return replace(
            self,
            keep=[as_written(frame, name) for name in self.keep],
            blank=blank if self.blank is None else self.blank,
            no_finding=self.no_finding or "as-given",
            **written,
        )


def arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `radtune cohort table`."""
    parser.add_argument(
        "--table", required=True, metavar="CSV|PARQUET", help="a row an image, or an image and label"
    )
    parser.add_argument("--images", required=True, metavar="DIR|ZIP", help="the images")
    meaning = parser.add_mutually_exclusive_group()
    meaning.add_argument(
        "--multiclass",
        action="store_true",
        default=None,
        help="the labels are the classes of one question, one a row (default: where they are, in all rows)",
    )
    meaning.add_argument(
        "--multi-label",
        action="store_false",
        dest="multiclass",
        help="they are independent findings, even where each row has one",
    )
    add_options(parser, TableOptions)


def read(arguments: argparse.Namespace) -> Cohort:
    """`read_table` with the arguments of the command line."""
    options = options_of(arguments, TableOptions)
    return read_table(arguments.table, arguments.images, arguments.out, options)


def read_table(table: Path | str, images: Path | str, out: Path | str, options: TableOptions) -> Cohort:
    """Read a CSV or Parquet table and its images, write the cohort to the folder `out`, and open it.

    `images` is a folder or a zip archive.

    A cell is blank that holds one of `cohort.readers.source_table.MISSING`, but for those in `not_missing`.
    Patients, labels, studies, views and columns whose names look the same (Unicode forms, characters without
    width, blanks) are the same, as the first is written.

    Without a column of patients every image counts as its own patient, with a warning. The column of splits
    need not name all three sides; without it a patient-grouped stratified split is drawn; see `assemble` for
    what it keeps together.

    Raises InputError for whatever the user can mend: absent columns and files, unknown values, duplicate
    images, a patient on two sides, a label without a positive image, a row with two `multiclass` labels or
    none, unreadable images (skipped with a warning under `skip_unreadable`), and images of different given
    splits that are the same or nearly so (a warning under `allow_duplicates`).
    """
    from cohort.multiclass import settle_multiclass
    from cohort.readers.assemble import SourceRows, assemble
    from cohort.readers.source_table import typed
    from cohort.splits import given_split, too_rare_for_three_sides
    from cohort.writing import check_output_folder

    check_output_folder(out, images)
    rows, options, flow, warnings = _labelled_rows(table, options)
    frame, labels = rows.frame, rows.labels
    policy = LabelPolicy(options.uncertain, options.blank, options.no_finding)
    targets_NC, contradictions = apply_policy(rows.raw_NC, labels, policy)
    for c, label in enumerate(labels):
        if not (targets_NC[:, c] == 1).any():
            raise InputError(f"{table}: label {label!r} has no positive image; leave it out of the labels")

    image = frame[options.image_column].tolist()
    patient = frame[options.patient_column].tolist() if options.patient_column else image
    multiclass, doubts = settle_multiclass(options.multiclass, targets_NC, labels, image)
    warnings += doubts
    if not options.patient_column:
        warnings.append("no patient column: every image counts as its own patient")
    split = None
    if column := options.split_column:
        split = given_split(frame[column], patient, f"{table}, column {column!r}")
    else:
        warnings += too_rare_for_three_sides(targets_NC, patient, labels)
    study, view = (
        [cell or "" for cell in frame[column]] if column else None
        for column in (options.study_column, options.view_column)
    )
    return assemble(
        SourceRows(
            image=image,
            names=[[name] for name in image],
            patient=patient,
            study=study or image,
            view=view or [""] * len(frame),
            split=split,
            keep={name: typed(frame[name].tolist()) for name in options.keep},
            raw_NC=rows.raw_NC,
            targets_NC=targets_NC,
            contradictions=contradictions,
            labels=labels,
            policy=policy,
            source=f"table {Path(table).name}",
            reader="table",
            modality=options.modality or likely_modality(labels),
            multiclass=multiclass,
            flow=flow,
            warnings=warnings,
        ),
        images,
        out,
        options,
    )


def _labelled_rows(
    table: Path | str, options: TableOptions
) -> tuple[LabelledRows, TableOptions, list[tuple[str, int]], list[str]]:
    """A row an image that is kept; the options as they fit the table; the flow from rows read to images; and
    warnings."""
    from cohort.readers.source_table import (
        MISSING,
        read_source,
        require_cells,
        require_columns,
        without_markers,
    )
    from cohort.readers.table_labels import LabelSource, how_to_keep
    from cohort.readers.views import keep_views

    missing = MISSING - {marker.lower() for marker in options.not_missing}
    frame, markers = without_markers(read_source(table, missing=("",)), missing)
    options = options.fitted(frame)
    image, column = options.image_column, options.label_column
    named = [image, *options.single[:3], column, options.split_column, *options.keep]
    require_columns(frame, [name for name in named if name], table)
    flow = [("rows read", len(frame))]
    texts = {
        "patients": options.patient_column,
        "studies": options.study_column,
        "views": options.view_column,
    }
    frame, warnings = _in_one_spelling(frame, {what: name for what, name in texts.items() if name})
    if options.views:
        frame, left_out, unknown = keep_views(frame, options.view_column, options.views, table)
        flow.append((f"view among {', '.join(options.views)}{left_out}", len(frame)))
        warnings += unknown
    for name in filter(None, (image, options.patient_column)):
        require_cells(frame, name, how_to_keep(markers[name]))

    source = LabelSource(options.labels, column, options.label_separator, options.no_finding, missing, table)
    if column is None:
        return source.in_columns(frame, image), options, flow, warnings
    rows = source.in_one_column(frame, image, options.single, markers[column])
    return rows, options, [*flow, ("images", len(rows.frame))], [*warnings, *rows.warnings]


def _in_one_spelling(frame: pd.DataFrame, columns: Mapping[str, str]) -> tuple[pd.DataFrame, list[str]]:
    """The table with one spelling for names that look the same in some columns, by what they name."""
    from cohort.spellings import one_spelling, taken_for_one

    warnings = []
    for what, name in columns.items():
        cells, replaced = one_spelling(frame[name])
        if replaced:
            frame = frame.assign(**{name: cells})
            warnings += taken_for_one(what, replaced)
    return frame, warnings
