"""Any table of image names and labels, with a folder or a zip archive of the images.

Shape legend: N images, C labels.
"""

from __future__ import annotations

import argparse
import shlex
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
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
from cohort.readers.name_lists import comma_separated
from cohort.readers.shared_arguments import shared

if TYPE_CHECKING:
    import numpy as np
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
    parser.add_argument(
        "--labels",
        type=comma_separated,
        metavar="A,B,C",
        help="label columns holding 1, 0, -1 or blank; with --label-column, which of its labels (default: "
        "all); a name with a comma in quotes, as in CSV: '\"Mass, left\",Edema'",
    )
    parser.add_argument(
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
        "--not-missing",
        type=comma_separated,
        default=[],
        metavar="NA,None",
        help="markers that are values in this table, such as the patient NA; otherwise a cell is blank that "
        "holds NA, N/A, #N/A, <NA>, NaN, NaT, null, None, - or ?, in any case",
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
        not_missing=arguments.not_missing,
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
    not_missing: Sequence[str] = (),
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
    with `label_separator` between them (default: `|`). In the second form what is not named is negative, a
    blank cell means what `blank` says for all labels, and `labels` may choose some of those that are named.

    A cell is blank that holds one of `cohort.readers.source_table.MISSING`, but for those in `not_missing`.
    Patients, labels, studies, views and columns whose names look the same (Unicode forms, characters without
    width, blanks) are the same, as the first is written.

    `exclusive` says whether the labels are the classes of one question (`Cohort.exclusive`). By default they
    are where every row has exactly one of them, or is masked whole, in so many rows that independent findings
    hardly would (`cohort.exclusive`).

    `blank` defaults to `negative` where the table has all fourteen CheXpert columns, because CheXpert and
    CheXbert leave out what a report does not mention, and to `missing` elsewhere. `uncertain` and
    `no_finding` are those of `LabelPolicy`.

    Without `patient_column` every image counts as its own patient, with a warning. `split_column` need not
    name all three sides; without it a patient-grouped stratified split is drawn with `fractions` (default:
    `cohort.splits.FRACTIONS`) and `seed`; see `assemble` for what it keeps together. `views` keeps only rows
    whose `view_column` is among them. `keep` names columns to carry along. `modality` is one of `MODALITIES`
    (default: what the labels suggest), `licence` a line about the terms of use; `label_names` and
    `label_prompts` are those of `Cohort`; `intensity` is one of `cohort.intensity.RULES`.

    Raises InputError for whatever the user can mend: absent columns and files, unknown values, duplicate
    images, a patient on two sides, a label without a positive image, a row with two `exclusive` labels or
    none, unreadable images (skipped with a warning under `skip_unreadable`), and images of different given
    splits that are the same or nearly so (a warning under `allow_duplicates`).
    """
    from cohort.exclusive import settle_exclusive
    from cohort.manifest import check_output_folder
    from cohort.readers.assemble import SourceRows, assemble
    from cohort.readers.source_table import (
        MISSING,
        as_written,
        read_source,
        require_cells,
        require_columns,
        typed,
        without_markers,
    )
    from cohort.splits import FRACTIONS, given_split, too_rare_for_three_sides

    check_output_folder(out, images)
    _refuse_label_arguments(labels, label_column, label_separator)
    _refuse_loose_arguments(fractions, split_column, views, view_column)
    missing = MISSING - {marker.lower() for marker in not_missing}
    frame, markers = without_markers(read_source(table, missing=("",)), missing)
    image_column, patient_column, study_column, view_column, label_column, split_column = (
        name and as_written(frame, name)
        for name in (image_column, patient_column, study_column, view_column, label_column, split_column)
    )
    keep = [as_written(frame, name) for name in keep]
    named = [image_column, patient_column, study_column, view_column, label_column, split_column, *keep]
    require_columns(frame, [name for name in named if name], table)
    if blank is None:
        blank = "negative" if set(CHEXPERT_14) <= set(frame.columns) else "missing"

    flow = [("rows read", len(frame))]
    texts = {"patients": patient_column, "studies": study_column, "views": view_column}
    frame, warnings = _in_one_spelling(frame, {what: name for what, name in texts.items() if name})
    if views:
        frame, left_out, unknown = _keep_views(frame, view_column, views, table)
        flow.append((f"view among {', '.join(views)}{left_out}", len(frame)))
        warnings += unknown
    for name in filter(None, (image_column, patient_column)):
        require_cells(frame, name, _how_to_keep(markers[name]))

    form = _Labels(labels, label_column, label_separator, no_finding, missing, table)
    if label_column is None:
        frame, labels, raw_NC = form.in_columns(frame, image_column)
    else:
        single = [patient_column, study_column, view_column, split_column]
        frame, labels, raw_NC, doubts = form.in_one_column(frame, image_column, single, markers[label_column])
        warnings += doubts
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


@dataclass(frozen=True)
class _Labels:
    """Where the labels stand, as the user says."""

    labels: Sequence[str] | None
    column: str | None
    separator: str | None
    no_finding: str
    missing: Container[str]
    table: Path | str

    def in_columns(
        self, frame: pd.DataFrame, image_column: str
    ) -> tuple[pd.DataFrame, list[str], np.ndarray]:
        """The table, labels as it writes them, and their cells, of a table with a column a label."""
        from cohort.readers.source_table import (
            as_written,
            label_cells,
            require_distinct,
            require_label_columns,
        )

        labels = [as_written(frame, label) for label in self.labels]
        frame = require_label_columns(frame, labels, self.no_finding, self.table)
        raw_NC = label_cells(frame, labels)
        require_distinct(
            frame[image_column],
            "image",
            "an image must have one row, unless a label column names one label a row",
        )
        return frame, labels, raw_NC

    def in_one_column(
        self,
        frame: pd.DataFrame,
        image_column: str,
        single: Sequence[str | None],
        markers: Counter[str],
    ) -> tuple[pd.DataFrame, list[str], np.ndarray, list[str]]:
        """A row an image, labels, their cells and warnings, of a table with a column that names labels."""
        from cohort.readers.label_column import SEPARATOR, merge_rows, select_labels

        separator = self.separator or SEPARATOR
        merged = merge_rows(frame, image_column, self.column, separator, single, self.missing)
        warnings = list(merged.warnings)
        if markers:
            said = ", ".join(f"{marker} {count}" for marker, count in markers.most_common())
            warnings.append(
                f"column {self.column!r} is blank where it holds a marker ({said}){_how_to_keep(markers)}"
            )
        if self.labels is None:
            return merged.frame, merged.labels, merged.raw_NC, warnings
        labels, raw_NC, left_out = select_labels(merged, self.labels, self.column, self.table)
        return merged.frame, labels, raw_NC, [*warnings, *left_out]


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


def _how_to_keep(markers: Counter[str]) -> str:
    """The end of a message about cells that are blank for their marker; "" where there are none."""
    if not markers:
        return ""
    marker = markers.most_common(1)[0][0]
    return f"; pass --not-missing {shlex.quote(marker)} where {marker} is a value and marks nothing missing"


def _refuse_label_arguments(labels: Sequence[str] | None, column: str | None, separator: str | None) -> None:
    if labels is None and column is None:
        raise InputError(
            "labels stand in columns of their own (--labels) or in one (--label-column); name them or it"
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


def _refuse_loose_arguments(
    fractions: Sequence[float] | None,
    split_column: str | None,
    views: Sequence[str] | None,
    view_column: str | None,
) -> None:
    if fractions is not None and split_column:
        raise InputError(
            f"fractions are those of a split that is drawn, but column {split_column!r} gives one; name one "
            "of the two"
        )
    if views and not view_column:
        raise InputError(f"views {', '.join(views)} are asked for, but no view column is named")


def _keep_views(
    frame: pd.DataFrame, column: str, views: Sequence[str], table: Path | str
) -> tuple[pd.DataFrame, str, list[str]]:
    """The rows of these views, which others are left out, in words, and warnings of views that no row has."""
    from cohort.labels import did_you_mean
    from cohort.spellings import folded

    wanted = {folded(view): view for view in views}
    of_row = [folded(cell or "") for cell in frame[column]]
    kept = frame[[view in wanted for view in of_row]]
    others = Counter(
        cell or "(blank)" for cell, view in zip(frame[column], of_row, strict=True) if view not in wanted
    )
    said = ", ".join(f"{view} {count}" for view, count in others.most_common())
    if kept.empty:
        raise InputError(f"{table}: no row has a view among {', '.join(views)}; {column!r} holds: {said}")
    unknown = [view for key, view in wanted.items() if key not in set(of_row)]
    warnings = [
        f"no row has the view {view!r}, and {len(frame) - len(kept)} rows of others are left out; "
        f"{did_you_mean(view, others)}"
        for view in unknown
    ]
    return kept, f" (left out: {said})" if others else "", warnings
