"""The baseline `metadata`: what the kept columns of a table say of the labels, without a look at an image.

Where sites, devices or views differ in how common a finding is, that alone ranks images; an answer that does
no better has not been shown to read them.

Shape legend: N images, D columns of numbers, C labels.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cohort.manifest import KEEP, Cohort
from trainables.baselines import METADATA
from trainables.baselines.base import Baseline, BaselineInputs, chosen, row_of_record
from trainables.baselines.logistic import train_logistic

MOST_VALUES = 32
"""Different words of a column that is read; one with more is free text or names images."""
FEW_NUMBERS = 8
"""Different numbers up to which a column's numbers are codes, each a value of its own."""
RARE_PATIENTS = 5
"""Development patients that a value needs to stand for itself; rarer ones are pooled."""
_SEPARATORS = re.compile(r"[|,;/]")
"""Between the labels of a cell that lists several."""


@dataclass(frozen=True, kw_only=True, eq=False)
class KeptColumns:
    """View and kept columns of all present images as numbers."""

    features_ND: np.ndarray
    """float32, finite: one column a value, or the number itself with one for where it is missing."""
    read: tuple[str, ...]
    """The columns that they come from."""
    left_out: tuple[str, ...]
    """Other columns, each with the reason in brackets."""

    @property
    def note(self) -> str:
        """What stands in them, for the reader of a table."""
        left_out = [f"left out: {', '.join(self.left_out)}"] if self.left_out else []
        return "; ".join([", ".join(self.read)] * bool(self.read) + left_out)


def kept_columns(cohort: Cohort, development_N: np.ndarray) -> KeptColumns:
    """Encode the columns by what the development images hold: never by a label, nor by a test image.

    Args:
        development_N: places of the development images among the present ones.
    """
    patients_N = cohort.patients_N()
    blocks, read, left_out = [np.zeros((len(patients_N), 0), dtype=np.float32)], [], []
    for column in ["view", *(name for name in cohort.present.column_names if name.startswith(KEEP))]:
        if column not in cohort.present.column_names:
            continue
        name, cells = column.removeprefix(KEEP), cohort.column(column)
        if _tells_labels(name, cells, cohort.labels):
            left_out.append(f"{name} (holds labels)")
            continue
        numbers_N = _numbers(cells)
        known = np.unique(numbers_N[development_N][np.isfinite(numbers_N[development_N])])
        if len(known) > FEW_NUMBERS:
            blocks.append(_of_numbers(numbers_N, development_N))
            read.append(name)
            continue
        words_N = np.array(["" if cell is None or cell != cell else str(cell).strip() for cell in cells])
        different = len(set(words_N[development_N]) - {""})
        if different > MOST_VALUES:
            left_out.append(f"{name} ({different} values)")
            continue
        block_ND = _of_words(words_N, development_N, patients_N)
        if block_ND.shape[1] < 2:
            if column.startswith(KEEP):  # every cohort has views, most only one
                left_out.append(f"{name} (hardly varies)")
            continue
        blocks.append(block_ND)
        read.append(name)
    return KeptColumns(features_ND=np.hstack(blocks), read=tuple(read), left_out=tuple(left_out))


def fit(inputs: BaselineInputs) -> list[Baseline]:
    """Their logistic regression, its C the best on validation; nothing where there is nothing to read."""
    data = inputs.data
    kept = kept_columns(inputs.cohort, data.rows_N)
    if not kept.read:
        return []
    its_data = replace(
        data,
        features_ND=np.ascontiguousarray(kept.features_ND[data.rows_N]),
        precision="fp32",
        kinds=None,
        image_views=1,
        text_CD=None,
    )
    record = chosen(train_logistic(its_data, objective_name=inputs.objective, given_up=inputs.given_up))
    scores_NC = record.head.logits(kept.features_ND).astype(np.float64)
    scores_NC[data.rows_N] = np.nan
    if record.held_out_MC is not None:
        scores_NC[data.rows_N[data.judged_N()]] = record.held_out_MC
    note = f"no image: logistic regression on {kept.note}; C = {record.params['C']:g}, chosen on validation"
    return [Baseline(id=METADATA, note=note, row=row_of_record(METADATA, note, record, scores_NC))]


def absence(cohort: Cohort, development_N: np.ndarray) -> str:
    """Why a cohort that keeps columns has no such row; empty where it has one, or keeps none."""
    kept = kept_columns(cohort, development_N)
    return kept.note if kept.left_out and not kept.read else ""


def _tells_labels(name: str, cells: Sequence[Any], labels: Sequence[str]) -> bool:
    """Whether a column is the labels themselves by another name: called like one, or listing them."""
    known = {label.casefold() for label in labels}
    words = {cell for cell in cells if isinstance(cell, str)}
    listed = {part.strip().casefold() for word in words for part in _SEPARATORS.split(word)}
    return name.casefold() in known or bool(listed & known)


def _numbers(cells: Sequence[Any]) -> np.ndarray:
    """float64: numbers as they are, everything else NaN."""
    return np.array(
        [
            float(cell) if isinstance(cell, int | float) and not isinstance(cell, bool) else np.nan
            for cell in cells
        ]
    )


def _of_numbers(numbers_N: np.ndarray, development_N: np.ndarray) -> np.ndarray:
    """The number in deviations from the development images' median, 0 where missing, and whether it is."""
    known_N = np.isfinite(numbers_N)
    own_N = numbers_N[development_N][known_N[development_N]]
    filled_N = np.where(known_N, numbers_N, np.median(own_N))
    # Single precision would hold no large number's differences, a date's say.
    scaled_N = (filled_N - np.median(own_N)) / (np.std(own_N) or 1.0)
    columns = [np.clip(scaled_N, -10, 10)]
    if not known_N[development_N].all():
        columns.append(~known_N)
    return np.stack(columns, axis=1).astype(np.float32)


def _of_words(words_N: np.ndarray, development_N: np.ndarray, patients_N: np.ndarray) -> np.ndarray:
    """One column a value that enough development patients have, missing being one, and one for all others
    where the development images hold any."""
    own_N = words_N[development_N]
    common = [
        value
        for value in np.unique(own_N)
        if len(np.unique(patients_N[development_N][own_N == value])) >= RARE_PATIENTS
    ]
    columns = [words_N == value for value in common]
    rest_N = ~np.isin(words_N, common)
    if rest_N[development_N].any():
        columns.append(rest_N)
    return (
        np.stack(columns, axis=1).astype(np.float32) if columns else np.zeros((len(words_N), 0), np.float32)
    )
