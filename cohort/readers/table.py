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
from cohort.labels import LabelPolicy, apply_policy, likely_modality
from cohort.readers.options import add_options, options_of
from cohort.readers.table_options import TableOptions

if TYPE_CHECKING:
    import pandas as pd

    from cohort.manifest import Cohort
    from cohort.readers.table_labels import LabelledRows
    from cohort.readers.table_sources import SourceRowsRead

HELP = "read any table with its images"
EXAMPLE = (
    "radtune cohort table --table labels.csv --images images --image-column image_id "
    "--patient-column patient_id --labels Cardiomegaly,Effusion --out cohorts/mine"
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `radtune cohort table`."""
    parser.add_argument(
        "--table",
        required=True,
        action="append",
        metavar="FILE",
        help="one row per image, or per image and label: .csv, .tsv, .txt, .xlsx, .jsonl, .parquet; text "
        "also as .gz or .zip; several as SPLIT=FILE",
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


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a cohort says of where it is from."""

    source: str
    reader: str = "table"
    licence: str = ""
    citation: str = ""


def read_table(
    table: Path | str | Sequence[str], images: Path | str, out: Path | str, options: TableOptions
) -> Cohort:
    """Read a table and its images, write the cohort to the folder `out`, and open it.

    `table` is a file, or one `SPLIT=FILE` each; `images` a folder or a zip archive.

    A cell is blank that holds one of `cohort.readers.source_table.MISSING`, but for those in `not_missing`.
    Patients, labels, studies, views and columns whose names look the same (Unicode forms, characters without
    width, blanks) are the same, as the first is written.

    Patients come from a column, or from the images' names; where nothing is said of them, names that seem to
    tell patients are refused, and otherwise every image counts as its own patient, with a warning. The column
    of splits need not name all three sides; without it a patient-grouped stratified split is drawn; see
    `assemble` for what it keeps together.

    Raises InputError for whatever the user can mend: absent columns and files, unknown values, duplicate
    images, several raters or rows of an image without a rule, a patient on two sides, a label without a
    positive image, a row with two `multiclass` labels or none, unreadable images (skipped with a warning
    under `skip_unreadable`), and images of different given splits that are the same or nearly so (a warning
    under `allow_duplicates`).
    """
    from cohort.readers.table_sources import open_tables
    from cohort.writing import check_output_folder

    check_output_folder(out, images)
    tables = [str(table)] if isinstance(table, str | Path) else list(table)
    names = " and ".join(Path(name.rpartition("=")[2]).name for name in [*tables, *options.join])
    read = open_tables(tables, options)
    return read_rows(read, images, out, Origin(source=f"table {names}"))


def read_rows(read: SourceRowsRead, images: Path | str, out: Path | str, origin: Origin) -> Cohort:
    """`read_table` of tables that have been opened."""
    from cohort.multiclass import in_order, settle_multiclass
    from cohort.readers.assemble import SourceRows, assemble
    from cohort.readers.patient_names import settle_patients
    from cohort.readers.rare_labels import LabelCells, without_rare
    from cohort.readers.source_table import typed
    from cohort.splits import given_split, too_rare_for_three_sides, with_val_from_train

    table = read.name
    rows, options, flow, warnings = _labelled_rows(read)
    warnings = [*read.notes, *warnings]
    frame = rows.frame
    image = frame[options.image_column].tolist()
    patient, unknown = settle_patients(frame, options, table)
    labels, raw_NC = rows.labels, rows.raw_NC
    if options.ordinal:
        order = in_order(labels, options.labels)
        raw_NC, labels = raw_NC[:, order], [labels[c] for c in order]
    policy = LabelPolicy(options.uncertain, options.blank, options.no_finding)
    targets_NC, contradictions = apply_policy(raw_NC, labels, policy)
    cells = LabelCells(labels, raw_NC, targets_NC)
    if options.min_patients:
        cells, left_out = without_rare(cells, patient, options.min_patients, options.rare)
        warnings += left_out
    labels, targets_NC = cells.labels, cells.targets_NC
    for c, label in enumerate(labels):
        if not (targets_NC[:, c] == 1).any():
            raise InputError(f"{table}: label {label!r} has no positive image; leave it out of the labels")

    multiclass, doubts = settle_multiclass(options.ordinal or options.multiclass, targets_NC, labels, image)
    warnings += [*doubts, *unknown]
    split = None
    if column := options.split_column:
        split = given_split(frame[column], patient, f"{table}, column {column!r}")
        if options.val_from_train:
            split = with_val_from_train(split, targets_NC, patient, options.val_from_train, options.seed)
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
            raw_NC=cells.raw_NC,
            targets_NC=targets_NC,
            contradictions=contradictions,
            labels=labels,
            policy=policy,
            modality=options.modality or likely_modality(labels),
            multiclass=multiclass,
            ordinal=options.ordinal,
            raters=rows.raters,
            flow=flow,
            warnings=warnings,
            source=origin.source,
            reader=origin.reader,
            licence=origin.licence,
            citation=origin.citation,
        ),
        images,
        out,
        options,
    )


def _labelled_rows(
    read: SourceRowsRead,
) -> tuple[LabelledRows, TableOptions, list[tuple[str, int]], list[str]]:
    """One row per image that is kept; the options as they fit the table; the flow from rows read to images;
    warnings."""
    from cohort.readers.rater_rows import require_agreement, require_raters_named
    from cohort.readers.source_table import MISSING, require_cells, require_columns, without_markers
    from cohort.readers.split_lists import LISTED, with_listed_splits
    from cohort.readers.table_labels import LabelSource, how_to_keep
    from cohort.readers.views import keep_views

    table, options, flow = read.name, read.options, list(read.flow)
    missing = MISSING - {marker.lower() for marker in options.not_missing}
    missing |= {marker.lower() for marker in options.missing}
    frame, markers = without_markers(read.frame, missing)
    options = options.fitted(frame)
    image, column, rater = options.image_column, options.label_column, options.rater_column
    require_columns(frame, [name for name in (image, *options.single, column, rater) if name], table)
    texts = {
        "patients": options.patient_column,
        "studies": options.study_column,
        "views": options.view_column,
        "raters": rater,
    }
    frame, warnings = _in_one_spelling(frame, {what: name for what, name in texts.items() if name})
    if options.views:
        frame, left_out, unknown = keep_views(frame, options.view_column, options.views, table)
        flow.append((f"view among {', '.join(options.views)}{left_out}", len(frame)))
        warnings += unknown
    for name in filter(None, (image, options.patient_column, rater)):
        require_cells(frame, name, how_to_keep(markers[name]))
    if options.split_list:
        frame, absent = with_listed_splits(frame, image, options.split_list)
        options = replace(options, split_column=LISTED, split_list=())
        flow.append(("image in a split list", len(frame)))
        warnings += absent
    if rater is None:
        require_raters_named(frame, image, table)
    if column or rater or options.rows:  # otherwise an image has one row, or is refused for its second
        require_agreement(frame, image, options.single)

    source = LabelSource(
        labels=options.labels,
        column=column,
        separator=options.label_separator,
        no_finding=options.no_finding,
        missing=missing,
        table=table,
        levels=options.label_levels,
        positive_from=options.positive_from,
        rows=options.rows,
        rater_column=rater,
        raters=options.raters,
    )
    rows = source.read(frame, image, markers[column] if column else Counter())
    if column or len(rows.frame) < len(frame):
        flow.append(("images", len(rows.frame)))
    return rows, options, flow, [*warnings, *rows.warnings]


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
