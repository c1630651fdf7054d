"""What may be said of a table: which columns hold what, and what becomes of several rows of one image."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cohort.errors import InputError
from cohort.labels import ANSWER_RULES, CHEXPERT_14, MODALITIES
from cohort.readers.name_lists import comma_separated
from cohort.readers.options import SharedOptions, option

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class TableOptions(SharedOptions):
    """Which columns of a table hold what. InputError for options that contradict each other.

    Labels stand either in one column per label (`labels`; cells 1, 0, -1 for uncertain, blank) or in one
    column for all (`label_column`): one label per row, several rows of one image merged, or several labels in
    a cell with `label_separator` between them (default: `|`). In the second form what is not named is
    negative, a blank cell means what `blank` says for all labels, and `labels` may choose some of those that
    are named.

    `blank` defaults to `negative` where the table has all fourteen CheXpert columns, because CheXpert and
    CheXbert leave out what a report does not mention, and to `missing` elsewhere; `no_finding` to `as-given`.
    """

    encoding: str | None = option(
        None, metavar="NAME", help="of a table in text, such as cp1252 (default: as its bytes say)"
    )
    columns: Sequence[str] | None = option(
        None, type=comma_separated, metavar="A,B", help="names of the columns of a table without a header"
    )
    join: Sequence[str] = option(
        (), action="append", metavar="FILE", help="a table with more columns of the same rows; needs --on"
    )
    on: Sequence[Sequence[str]] = option(
        (),
        action="append",
        type=comma_separated,
        metavar="A,B",
        help="columns (or A=B: B there) in which rows of the --join before it are the same; other rows are "
        "left out and counted",
    )
    image_column: str | None = option(None, metavar="C", help="file names, with or without ending")
    """With or without folder too (`cohort.readers.named_files`); becomes the image id."""
    image_columns: Sequence[str] | None = option(
        None,
        type=comma_separated,
        metavar="A,B",
        help="several images in a row, as of a left and a right eye: the row's labels are of each, and the "
        "row is a patient where nothing else is said",
    )
    images_in: Sequence[str] = option(
        (),
        action="append",
        metavar="SPLIT=FOLDER",
        help="where the images of a split lie, for names that stand in several splits",
    )
    patient_column: str | None = option(
        None, metavar="C", help="groups the split (default: each image its own)"
    )
    patient_from: str | None = option(
        None,
        metavar="REGEX",
        help="where only the images' names tell patients: its first group does, as in '(patient[0-9]+)'",
    )
    patient_is_image: bool = option(
        False, action="store_true", help="each image is a patient of its own, whatever names look like"
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
        None, metavar="C", help="one label per row, or several in a cell, in this column"
    )
    label_separator: str | None = option(
        None, metavar="C", help="between several labels in a cell of that column (default: |)"
    )
    rows: str | None = option(
        None,
        choices=ANSWER_RULES,
        help="what several rows of an image come to in label columns (default: they are refused)",
    )
    rater_column: str | None = option(None, metavar="C", help="who labelled the row")
    raters: str | None = option(
        None,
        metavar="RULE",
        help="what several raters of an image come to: any (positive if one says so), majority (more than "
        "half), all, or the name of the one who is believed; needs --rater-column",
    )
    split_column: str | None = option(
        None,
        metavar="C",
        help="train, val, test; a cohort may lack some (default: a stratified split)",
    )
    split_list: Sequence[str] = option(
        (),
        action="append",
        metavar="SPLIT=FILE",
        help="names of the images of a split, one per line; images in no list are left out",
    )
    val_from_train: float | None = option(
        None,
        type=float,
        metavar="SHARE",
        help="take this share of a given training split's patients for validation",
    )
    keep: Sequence[str] = option((), type=comma_separated, metavar="sex,age", help="columns to carry along")
    label_levels: str | None = option(
        None,
        metavar="all|N",
        help="of labels such as Pneumonia/Viral in a label column: a label of each level, or of the first N",
    )
    positive_from: float | None = option(
        None,
        type=float,
        metavar="GRADE",
        help="label columns hold grades, and from this one on they are positive",
    )
    min_patients: int | None = option(
        None, type=int, metavar="N", help="labels of fewer positive patients are rare"
    )
    rare: str = option(
        "leave-out",
        choices=("leave-out", "other"),
        help="what becomes of rare labels: left out, or one label together (default: %(default)s)",
    )
    missing: Sequence[str] = option(
        (), type=comma_separated, metavar="todo,unknown", help="more markers of a blank cell"
    )
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
    ordinal: bool = option(
        False,
        action="store_true",
        help="these classes are grades: numbers in their order, other names in the order of --labels",
    )

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
        if self.fractions is not None and (given := self.split_column or self.split_list):
            where = f"column {given!r} gives" if given == self.split_column else "lists give"
            raise InputError(
                f"fractions are those of a split that is drawn, but {where} one; name one of the two"
            )
        if (self.image_column is None) == (self.image_columns is None):
            raise InputError("name the column of images (--image-column), or several (--image-columns)")
        if len(self.join) != len(self.on):
            raise InputError("each --join needs an --on behind it: the columns in which rows are the same")
        if self.split_column and self.split_list:
            raise InputError("--split-column and --split-list both give a split; name one of the two")
        if self.val_from_train is not None and not 0 < self.val_from_train < 1:
            raise InputError(f"--val-from-train must lie between 0 and 1, got {self.val_from_train:g}")
        patients = self.patient_column, self.patient_from, self.patient_is_image or None
        if sum(one is not None for one in patients) > 1:
            raise InputError("--patient-column, --patient-from and --patient-is-image: name one of them")
        if not re.fullmatch("all|[1-9]", self.label_levels or "all"):
            raise InputError(f"--label-levels must be all or a number from 1 to 9, got {self.label_levels!r}")
        if (self.rater_column is None) != (self.raters is None):
            raise InputError(
                "--rater-column and --raters go together: the column that names raters, and any, majority, "
                "all or one of them"
            )
        if self.views and not self.view_column:
            raise InputError(f"views {', '.join(self.views)} are asked for, but no view column is named")

    @property
    def single(self) -> list[str]:
        """Columns of which an image has one value, but for the image itself."""
        columns = self.patient_column, self.study_column, self.view_column, self.split_column
        return [*filter(None, columns), *self.keep]

    def fitted(self, frame: pd.DataFrame) -> TableOptions:
        """With the columns' names as the table writes them (a name that it does not have stays), and with the
        rules for labels that go with its columns, where none are given."""
        from cohort.readers.source_table import as_written

        blank = "negative" if set(CHEXPERT_14) <= set(frame.columns) else "missing"
        names = ("image", "patient", "study", "view", "label", "split", "rater")
        given = {f"{name}_column": getattr(self, f"{name}_column") for name in names}
        written = {name: column and as_written(frame, column) for name, column in given.items()}
        return replace(
            self,
            keep=[as_written(frame, name) for name in self.keep],
            blank=blank if self.blank is None else self.blank,
            no_finding=self.no_finding or "as-given",
            **written,
        )
