"""Rows of one image: by several raters, or several by one, brought to one row per image.

Shape legend: R rows, N images, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cohort.errors import InputError, shortened
from cohort.labels import ANSWER_RULES, did_you_mean
from cohort.raters import Raters, agreement, combine
from cohort.readers.source_table import require_distinct

_LIKELY = frozenset(
    f"{who}{end}"
    for who in ("rad", "rater", "reader", "annotator", "radiologist", "grader", "expert")
    for end in ("", "id", "name")
)


def require_raters_named(frame: pd.DataFrame, image_column: str, table: Path | str) -> None:
    """InputError where a column that nobody named says that several raters saw one image."""
    for name in frame.columns:
        if name.lower().replace("_", "").replace(" ", "") not in _LIKELY:
            continue
        pairs = frame[[image_column, name]].dropna().drop_duplicates()
        several = pairs[image_column].duplicated()
        if several.any():
            image = pairs[image_column][several].iloc[0]
            raise InputError(
                f"{table}: image {image!r} has several raters in column {name!r}; pass --rater-column "
                f"{name!r} and --raters any, majority, all or one of their names"
            )


def require_agreement(frame: pd.DataFrame, image_column: str, single: Sequence[str]) -> None:
    """InputError for the first row that differs from an earlier one of its image in one of these columns."""
    if not frame[image_column].duplicated().any():
        return
    first = frame.drop_duplicates(image_column).set_index(image_column)
    for name in single:
        cells, expected = frame[name], frame[image_column].map(first[name])
        differ = (cells != expected) & ~(cells.isna() & expected.isna())
        if differ.any():
            n = int(np.flatnonzero(differ)[0])
            raise InputError(
                f"{frame.index[n]}: image {frame[image_column].iloc[n]!r} has {cells.iloc[n]!r} in column "
                f"{name!r}, but {expected.iloc[n]!r} in an earlier row; rows of one image must agree, and a "
                "column that need not be kept may be left out"
            )


def one_row_a_key(
    frame: pd.DataFrame, keys: Sequence[str], raw_RC: np.ndarray, rule: str | None
) -> tuple[pd.DataFrame, np.ndarray]:
    """The first row of each image (or image and rater), with one answer per label by `rule`; InputError for a
    second row where there is none."""
    key = frame[keys[0]]
    for rater in keys[1:]:
        key = key + " by " + frame[rater]
    if not key.duplicated().any():
        return frame, raw_RC
    if rule is None:
        hint = "an image must have one row, unless a label column names one label per row; pass --rows any "
        require_distinct(key, "image", hint + "or --rows majority to have one answer made of several")
    return frame[~key.duplicated()], combine(raw_RC, pd.factorize(key)[0], rule)


def one_answer(
    frame: pd.DataFrame,
    columns: tuple[str, str],
    raw_RC: np.ndarray,
    labels: Sequence[str],
    rule: str,
) -> tuple[pd.DataFrame, np.ndarray, Raters]:
    """One row per image out of one per image and rater, and how far the raters agree.

    Args:
        columns: of images and of raters.
        rule: one of `cohort.labels.ANSWER_RULES`, or a rater's name.

    Raises:
        InputError: no rater bears that name.
    """
    image_column, rater_column = columns
    raters, images_R = frame[rater_column].tolist(), pd.factorize(frame[image_column])[0]
    found = agreement(raw_RC, images_R, raters, labels, rule)
    if rule in ANSWER_RULES:
        return frame[~frame[image_column].duplicated()], combine(raw_RC, images_R, rule), found
    theirs = np.array([rater == rule for rater in raters])
    if not theirs.any():
        raise InputError(
            f"--raters must be {', '.join(ANSWER_RULES)} or the name of a rater, got {shortened(rule)!r}; "
            f"{did_you_mean(rule, dict.fromkeys(raters))}"
        )
    return frame[theirs], raw_RC[theirs], found
