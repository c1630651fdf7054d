"""What else features discriminate, such as its view or the patient's sex, and whether an answer's ranking
of findings holds among images that share it.

Shape legend: N images, C labels or values, B resamples, S strata.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from cohort.manifest import KEEP, Cohort
from cohort.patients import fewer_patients, fewer_side_patients, patient_folds, positive_patients
from scoring.effective_patients import LabelPatients
from scoring.intervals import average_interval
from scoring.metric_table import METRICS
from scoring.metrics import auroc
from scoring.model_output import ModelOutput, Resampled
from scoring.resampling import weighted_rankings
from scoring.score_intervals import MetricIntervals
from trainables.baselines.base import chosen
from trainables.baselines.logistic import train_logistic
from trainables.trial_data import ProbeData

MOST_VALUES = 8
"""Different values of a column that are values of one attribute; more numbers than that become bands, more
words are free text."""
BANDS = 3
MOST_ATTRIBUTES = 12
DEVELOPMENT_PATIENTS, TEST_PATIENTS = 10, 5
"""That a value needs to be discriminated from others; images with a rarer one take no part."""
FOLDS = 5
LEVEL = 0.95
"""At which the intervals of all attributes hold together, see `level_of_each`."""
AUROC = next(metric for metric in METRICS if metric.name == "auroc")
COLUMNS = ("setting", "metric", "label", "value", "low", "high", "attribute", "stratum", "positive_patients")


@dataclass(frozen=True, kw_only=True, eq=False)
class Attribute:
    """Something that is known of every image and is no finding."""

    name: str
    values: tuple[str, ...]
    value_N: np.ndarray
    """int64, of all present images: which of the values; -1 where none of them."""

    def targets_NC(self, rows_N: np.ndarray) -> np.ndarray:
        """float32, one value per image as multiclass labels; NaN throughout where it has none."""
        value_N = self.value_N[rows_N]
        one_NC = np.eye(len(self.values), dtype=np.float32)[np.maximum(value_N, 0)]
        return np.where(value_N[:, None] >= 0, one_NC, np.nan).astype(np.float32)


def attributes(cohort: Cohort, development_N: np.ndarray, test_N: np.ndarray) -> list[Attribute]:
    """View and kept columns with at least two values that enough patients have on both sides, MOST_ATTRIBUTES
    at most, in the cohort's order. Bands of numbers are terciles of the development images."""
    patients_N, found = cohort.patients_N(), []
    for column in ["view", *(name for name in cohort.present.column_names if name.startswith(KEEP))]:
        if column not in cohort.present.column_names or len(found) == MOST_ATTRIBUTES:
            continue
        words = _words(cohort.column(column), development_N)
        values = []
        for value in sorted({word for word in words if word}, key=_in_order):
            of_N = np.array([word == value for word in words])
            development, test = (
                len(np.unique(patients_N[rows_N[of_N[rows_N]]])) for rows_N in (development_N, test_N)
            )
            if development >= DEVELOPMENT_PATIENTS and test >= TEST_PATIENTS:
                values.append(value)
        if 2 <= len(values) <= MOST_VALUES:
            place = {value: n for n, value in enumerate(values)}
            value_N = np.array([place.get(word, -1) for word in words], dtype=np.int64)
            name = column.removeprefix(KEEP)
            found.append(Attribute(name=name, values=tuple(values), value_N=value_N))
    return found


def _words(cells: Sequence[Any], development_N: np.ndarray) -> list[str]:
    """What a column says of each image, in few different words; empty where it says nothing."""
    numbers = [
        float(cell) if isinstance(cell, int | float) and not isinstance(cell, bool) else np.nan
        for cell in cells
    ]
    known = np.array(numbers)[development_N]
    known = known[np.isfinite(known)]
    if len(np.unique(known)) > MOST_VALUES:
        cuts = np.unique(np.quantile(known, np.arange(1, BANDS) / BANDS))
        names = [f"up to {cuts[0]:g}", *(f"{a:g} to {b:g}" for a, b in pairwise(cuts))]
        names.append(f"over {cuts[-1]:g}")
        return [
            names[int(np.searchsorted(cuts, number))] if np.isfinite(number) else "" for number in numbers
        ]
    words = ["" if cell is None or cell != cell else str(cell).strip() for cell in cells]
    return words if len({word for word in words if word}) <= 4 * MOST_VALUES else [""] * len(words)


def _in_order(word: str) -> tuple[bool, bool, str]:
    """Bands from below, other words by the alphabet."""
    return word.startswith("over "), not word.startswith("up to "), word


def level_of_each(attributes: int) -> float:
    """Bonferroni's level of one interval among those of so many attributes, so that all of them hold together
    at LEVEL: a claim about one of twelve is as rarely false as one about the only one."""
    return 1 - (1 - LEVEL) / attributes


def attribute_score(
    attribute: Attribute,
    data: ProbeData,
    features_ND: np.ndarray,
    test_N: np.ndarray,
    patients_N: np.ndarray,
    weights_PB: np.ndarray,
    level: float,
) -> tuple[float, float, float]:
    """Macro AUROC, one value against the others, of the plain method on test images, with its interval.

    The plain method is the regression that the findings' row `logreg` is, its C chosen over five folds of the
    development patients.

    Args:
        data: the study's development rows.
        features_ND: all present images', in the columns of `data`.
        test_N: places of the test images.
        patients_N: of the test images, from 0.
        weights_PB: see `scoring.resampling.patient_weights`.
        level: of the interval.
    """
    targets_NC = attribute.targets_NC(data.rows_N)
    fold_N = patient_folds(targets_NC, data.patients_N, folds=FOLDS)
    classes = replace(
        data,
        targets_NC=targets_NC,
        labels=attribute.values,
        multiclass=True,
        objective_labels_C=np.ones(len(attribute.values), dtype=bool),
        fold_N=fold_N,
        threshold_fold_N=fold_N,
        text_CD=None,
    )
    head = chosen(train_logistic(classes, objective_name="macro_auroc")).head
    held_NC, scores_NC = attribute.targets_NC(test_N), head.logits(features_ND[test_N])
    found = _auroc_intervals(held_NC, scores_NC, patients_N, weights_PB, level)
    return float(auroc(held_NC, scores_NC).mean()), *found.of_average(np.ones(held_NC.shape[1], dtype=bool))


def _auroc_intervals(
    targets_NC: np.ndarray,
    scores_NC: np.ndarray,
    patients_N: np.ndarray,
    weights_PB: np.ndarray,
    level: float,
) -> MetricIntervals:
    """Those of a score table, which hold also where a view is discriminated almost without a mistake."""
    said = ModelOutput(targets_NC=targets_NC, scores_NC=scores_NC, decisions_NC=scores_NC > 0)
    return MetricIntervals(
        metric=AUROC,
        resampled=Resampled(predictions=said, rows_N=patients_N, weights_RB=weights_PB),
        patients=LabelPatients(targets_NC=targets_NC, rows_N=patients_N),
        level=level,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Stratified:
    """AUROC of one label among images that share a value of an attribute."""

    value: float
    """Over all strata: the share of pairs of a positive and a negative image of one stratum that are in
    order; NaN where none has both."""
    replicates_B: np.ndarray
    strata: tuple[tuple[int, float, float, float, int], ...]
    """Of each stratum that has both kinds: which value, AUROC, low, high, positive patients."""


def stratified_auroc(
    targets_N: np.ndarray,
    scores_N: np.ndarray,
    stratum_N: np.ndarray,
    patients_N: np.ndarray,
    weights_PB: np.ndarray,
) -> Stratified:
    """`Stratified` of one label; images of stratum -1 take no part.

    Args:
        targets_N: 0, 1 or NaN where masked.
        scores_N: any scores; only their order counts.
    """
    pairs, values, replicates, strata = [], [], [], []
    for stratum in np.unique(stratum_N[stratum_N >= 0]):
        of_N = stratum_N == stratum
        own_N, own_scores_N, rows_N = targets_N[of_N], scores_N[of_N], patients_N[of_N]
        if not ((own_N == 1).any() and (own_N == 0).any()):
            continue
        value = float(auroc(own_N[:, None], own_scores_N[:, None])[0])
        patients = int(positive_patients(own_N[:, None], rows_N)[0])
        found = _auroc_intervals(own_N[:, None], own_scores_N[:, None], rows_N, weights_PB, LEVEL)
        strata.append((int(stratum), value, *found.of_label(0), patients))
        # As many pairs as the images themselves make, and then as each resample's weights make.
        weights_NB = np.column_stack([np.ones(len(own_N)), weights_PB[rows_N]])
        pairs.append(weights_NB[own_N == 1].sum(axis=0) * weights_NB[own_N == 0].sum(axis=0))
        values.append(value)
        replicates.append(found.resampled.ranking.auroc[0])
    if not pairs:
        return Stratified(value=np.nan, replicates_B=np.full(weights_PB.shape[1], np.nan), strata=())
    share_SB = np.stack(pairs) / sum(pairs)
    return Stratified(
        value=float(share_SB[:, 0] @ values),
        replicates_B=(share_SB[:, 1:] * np.stack(replicates)).sum(axis=0),
        strata=tuple(strata),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Within:
    """AUROC of the labels among images that share a value of an attribute, and over all images that have
    one."""

    each: tuple[Stratified, ...]
    overall_C: np.ndarray
    overall_CB: np.ndarray
    known_NC: np.ndarray
    """0, 1 or NaN, also of images without a value."""
    patients_N: np.ndarray
    """int64 from 0."""

    @property
    def fewer_C(self) -> np.ndarray:
        """int64: patients on the smaller side of each label among these images."""
        return fewer_patients(self.known_NC, self.patients_N)

    @property
    def values_C(self) -> np.ndarray:
        return np.array([one.value for one in self.each])

    def known_C(self, averaged_C: np.ndarray) -> np.ndarray:
        """int64: places of those of the averaged labels that have a value both ways."""
        return np.flatnonzero(averaged_C & np.isfinite(self.values_C) & np.isfinite(self.overall_C))

    def change(self, labels: np.ndarray, level: float) -> tuple[float, float, float]:
        """Mean over the labels of within - overall, with its interval."""
        inside_CB = np.stack([self.each[c].replicates_B for c in labels])
        difference_C = self.values_C[labels] - self.overall_C[labels]
        ends = average_interval(
            difference_C,
            inside_CB - self.overall_CB[labels],
            self.fewer_C[labels],
            fewer_side_patients(self.known_NC[:, labels], self.patients_N),
            bounds=None,
            level=level,
        )
        return float(difference_C.mean()), *ends


def within(
    attribute: Attribute,
    targets_NC: np.ndarray,
    scores_NC: np.ndarray,
    test_N: np.ndarray,
    patients_N: np.ndarray,
    weights_PB: np.ndarray,
) -> Within:
    """`Within` of a row's scores; arguments as above."""
    stratum_N = attribute.value_N[test_N]
    known_NC = np.where((stratum_N >= 0)[:, None], targets_NC, np.nan)
    return Within(
        each=tuple(
            stratified_auroc(known_NC[:, c], scores_NC[:, c], stratum_N, patients_N, weights_PB)
            for c in range(targets_NC.shape[1])
        ),
        overall_C=auroc(known_NC, scores_NC),
        overall_CB=weighted_rankings(known_NC, scores_NC, patients_N, weights_PB).auroc,
        known_NC=known_NC,
        patients_N=patients_N,
    )


def frame(rows: Sequence[tuple]) -> pd.DataFrame:
    """`shortcuts.csv`."""
    return pd.DataFrame(rows, columns=COLUMNS)
