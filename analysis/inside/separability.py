"""How well one feature space discriminates labels on held-out patients: by the published protocol, and each
label for itself against what chance gives.

Shape legend: N images, D features, C labels, K columns: the labels as they are, P permutations of them, and B
times with the patients weighted anew.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score, silhouette_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from cohort.patients import fewer_patients, fewer_side_patients, patient_folds, positive_patients
from scoring.chance import adjusted_p, chance_p, shuffled_rows
from scoring.held_out_answers import (
    balanced_accuracy,
    first_newton_step,
    neighbours,
    votes,
)
from scoring.intervals import average_interval, label_interval
from scoring.resampling import patient_weights
from scoring.separability import HeldOut, held_out_separability, published_separability

PERMUTATIONS = 200
RESAMPLES = 200
NEIGHBOURS = 5
FOLDS = 5
STRENGTH = 0.01
"""C of the held-out logistic regressions on standardised features: where a probe's choice usually falls at
some hundred images; one for all encoders and labels, so that nothing is chosen."""
TOGETHER = 2
"""Patients of either kind that a label needs to be separable at all: one has nobody to be near to."""
SILHOUETTES = 5000
"""Images at most whose distances to each other the published silhouette takes; a seeded sample of more."""

SEPARABILITY_METRICS: Mapping[str, tuple[str, int, tuple[float, float] | None]] = {
    "inter": ("distance of the centroids", 1, None),
    "intra": ("distance to the own centroid", -1, None),
    "ratio": ("inter / intra", 1, None),
    "fisher": ("Fisher's ratio", 1, None),
    "silhouette": ("silhouette (cosine)", 1, (-1.0, 1.0)),
    "davies_bouldin": ("Davies-Bouldin", -1, None),
    "calinski_harabasz": ("Calinski-Harabasz", 1, None),
    "knn_accuracy": (f"{NEIGHBOURS}-NN, balanced accuracy", 1, (0.0, 1.0)),
    "logistic_accuracy": ("one-step logistic regression, balanced accuracy", 1, (0.0, 1.0)),
}
"""Metric -> its name, 1 where more is better and -1 where less is, and its bounds."""
PUBLISHED_PREFIX = "published."
_NONE = (float("nan"), float("nan"))
"""No interval."""
COLUMNS = (
    "setting",
    "metric",
    "label",
    "value",
    "low",
    "high",
    "chance",
    "chance_low",
    "chance_high",
    "p",
    "p_adjusted",
    "positives",
    "positive_patients",
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Points:
    """Images in one feature space."""

    features_ND: np.ndarray
    """float32, as the encoder gives them."""
    targets_NC: np.ndarray
    """0, 1 or NaN where masked."""
    patients_N: np.ndarray
    """int64 from 0, without gaps."""
    labels: tuple[str, ...]
    seed: int

    @cached_property
    def patients_C(self) -> np.ndarray:
        """int64: patients with a positive image of each label."""
        return positive_patients(self.targets_NC, self.patients_N)

    @cached_property
    def fewer_C(self) -> np.ndarray:
        """int64: patients on the smaller side of each label."""
        return fewer_patients(self.targets_NC, self.patients_N)

    @cached_property
    def separable_C(self) -> np.ndarray:
        """bool: labels with `TOGETHER` patients on either side."""
        return self.fewer_C >= TOGETHER

    @property
    def too_rare(self) -> list[str]:
        """Labels that no statement can be made about."""
        return [label for label, enough in zip(self.labels, self.separable_C, strict=True) if not enough]

    @cached_property
    def folds_N(self) -> np.ndarray:
        """int64: patients' folds, each label's positives spread over them; as a study splits them."""
        folds = min(FOLDS, int(self.patients_N.max()) + 1)
        return patient_folds(self.targets_NC, self.patients_N, folds=max(folds, 2), seed=self.seed)


def separability(points: Points, setting: str) -> pd.DataFrame:
    """The rows of `separability.csv` of one feature space, COLUMNS.

    Metrics that begin with `published.` follow arXiv 2506.14136: an image belongs to the first of its
    positive labels, and everything is scored on the points that it was fitted on. All others take each
    label's positive against its negative images, measured on patients that were not fitted on; an empty label
    is the mean over labels. `chance` is the mean and the middle 95 % of the patients' labels permuted
    PERMUTATIONS times, p one-sided, and adjusted over the labels of one metric, which share permutations; the
    interval is over patients, and missing with fewer than ten on a label's smaller side. `logistic_accuracy`
    is that of a regression's first Newton step, of the labels as they are and of every permutation: a
    converged regression against a null of first steps would find one rare label of noise in four.
    """
    rows = [*_published(points), *_each_label(points)]
    return pd.DataFrame([(setting, *row) for row in rows], columns=COLUMNS)


def published_classes(targets_NC: np.ndarray) -> np.ndarray:
    """int64 (N,): the first positive label of each image in the order of the labels, -1 without one."""
    positive_NC = targets_NC == 1
    return np.where(positive_NC.any(axis=1), positive_NC.argmax(axis=1), -1)


def _published(points: Points) -> Iterator[tuple]:
    class_N = published_classes(points.targets_NC)
    used = np.flatnonzero(class_N >= 0)
    patients_N = np.unique(points.patients_N[used], return_inverse=True)[1]
    if len(np.unique(class_N[used])) < 2:
        return
    x_ND, y_N = points.features_ND[used], class_N[used]
    found = published_separability(x_ND, y_N)._asdict()
    shuffled_NP = shuffled_rows(patients_N, PERMUTATIONS, points.seed)
    null = [published_separability(x_ND, y_N[rows_N])._asdict() for rows_N in shuffled_NP.T]
    for metric, value in found.items():
        yield _row(PUBLISHED_PREFIX + metric, "", value, null_B=np.array([one[metric] for one in null]))
    for metric, value in _fitted_on_themselves(x_ND, y_N, points.seed).items():
        yield _row(PUBLISHED_PREFIX + metric, "", value)


def _fitted_on_themselves(x_ND: np.ndarray, y_N: np.ndarray, seed: int) -> dict[str, float]:
    """What scikit-learn has of the published measures; NaN where all images are classes of their own."""
    scaled_ND = StandardScaler().fit_transform(x_ND)
    knn = KNeighborsClassifier(min(NEIGHBOURS, len(y_N)), metric="cosine", n_jobs=-1).fit(x_ND, y_N)
    regression = LogisticRegression(class_weight="balanced", max_iter=200)
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        regression.fit(scaled_ND, y_N)
    several = len(np.unique(y_N)) < len(y_N)
    sample = min(len(y_N), SILHOUETTES) if len(y_N) > SILHOUETTES else None
    return {
        "silhouette": silhouette_score(x_ND, y_N, metric="cosine", sample_size=sample, random_state=seed)
        if several
        else float("nan"),
        "davies_bouldin": davies_bouldin_score(x_ND, y_N) if several else float("nan"),
        "calinski_harabasz": calinski_harabasz_score(x_ND, y_N) if several else float("nan"),
        "knn_accuracy": knn.score(x_ND, y_N),
        "logistic_accuracy": regression.score(scaled_ND, y_N),
    }


def _each_label(points: Points) -> Iterator[tuple]:
    """Every label's rows, then the means over those that are separable."""
    separable = np.flatnonzero(points.separable_C)
    if not len(separable):
        return
    rows_NP = shuffled_rows(points.patients_N, PERMUTATIONS, points.seed)
    weights_PB = patient_weights(int(points.patients_N.max()) + 1, RESAMPLES, points.seed)
    weights_NB = weights_PB[points.patients_N]
    near_Nk = neighbours(points.features_ND, points.patients_N, NEIGHBOURS)
    # The labels as they are, then every permutation of them.
    given_NP = np.column_stack([np.arange(len(rows_NP)), rows_NP])
    labels_NK = points.targets_NC[:, separable].astype(np.float32)[given_NP].reshape(len(rows_NP), -1)
    steps_NK = first_newton_step(points.features_ND, labels_NK, points.folds_N, STRENGTH)
    above_NKC = (steps_NK > 0).reshape(len(rows_NP), 1 + PERMUTATIONS, len(separable))
    values: dict[str, list[np.ndarray]] = {metric: [] for metric in SEPARABILITY_METRICS}
    for place, c in enumerate(separable):
        own_N1 = points.targets_NC[:, [c]].astype(np.float32)
        labels_NK = own_N1[:, 0][given_NP]
        positive_NK, negative_NK = (
            np.concatenate([labels_NK == kind, (own_N1 == kind) * weights_NB], axis=1).astype(np.float32)
            for kind in (1, 0)
        )
        apart = held_out_separability(points.features_ND, positive_NK, negative_NK, points.folds_N)
        for metric, value_K in _geometry(apart, int(np.isfinite(own_N1).sum())).items():
            values[metric].append(value_K)
        share = float(np.nanmean(own_N1))
        decisions = {
            "knn_accuracy": votes(near_Nk, labels_NK) > share,
            "logistic_accuracy": above_NKC[..., place],
        }
        for metric, decided_NK in decisions.items():
            decided_NK = np.concatenate([decided_NK, np.repeat(decided_NK[:, :1], RESAMPLES, axis=1)], axis=1)
            values[metric].append(balanced_accuracy(decided_NK, positive_NK, negative_NK))
    yield from _label_rows(points, separable, values)
    # The same permutations and weights for all labels, so that their means have a chance and an interval
    # of their own.
    known_C = np.isfinite([value_K[0] for value_K in values["ratio"]])
    for metric, each in values.items():
        value_C, null_CP, resampled_CB = _parts(np.stack(each))
        if known_C.any() and np.isfinite(value_C[known_C]).all():
            ends = _NONE
            if np.isfinite(resampled_CB[known_C]).all():
                ends = average_interval(
                    value_C[known_C],
                    resampled_CB[known_C],
                    points.fewer_C[separable][known_C],
                    fewer_side_patients(points.targets_NC[:, separable[known_C]], points.patients_N),
                    SEPARABILITY_METRICS[metric][2],
                )
            yield _row(metric, "", value_C[known_C].mean(), ends, _mean(null_CP[known_C]))


def _label_rows(
    points: Points, separable: np.ndarray, values: Mapping[str, list[np.ndarray]]
) -> Iterator[tuple]:
    adjusted = {
        metric: adjusted_p(*_parts(SEPARABILITY_METRICS[metric][1] * np.stack(each))[:2])
        for metric, each in values.items()
    }
    for place, c in enumerate(separable):
        counts = int((points.targets_NC[:, c] == 1).sum()), int(points.patients_C[c])
        fewer = int(points.fewer_C[c])
        for metric, each in values.items():
            value, null_P, resampled_B = _parts(each[place])
            # Davies-Bouldin is infinite where a resample separates nothing.
            known = np.isfinite(resampled_B).all()
            ends = (
                label_interval(float(value), resampled_B, fewer, SEPARABILITY_METRICS[metric][2])
                if known
                else _NONE
            )
            p = adjusted[metric][place]
            yield _row(metric, points.labels[c], value, ends, null_P, p, counts)


def _geometry(apart: HeldOut, images: int) -> dict[str, np.ndarray]:
    """Of two classes the indices of Davies and Bouldin and of Calinski and Harabasz follow from the
    others."""
    with np.errstate(divide="ignore"):
        further = {
            "davies_bouldin": apart.davies_bouldin,
            "calinski_harabasz": apart.fisher * max(images - 2, 0),
        }
    return apart._asdict() | further


def _parts(value_K: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The value itself, its permutations and its resamples, of the last axis."""
    return value_K[..., 0], value_K[..., 1 : 1 + PERMUTATIONS], value_K[..., 1 + PERMUTATIONS :]


def _mean(null_CP: np.ndarray) -> np.ndarray:
    """Of the labels for which a permutation gave a value."""
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):
        return np.nanmean(null_CP, axis=0)


def _row(
    metric: str,
    label: str,
    value: float,
    ends: tuple[float, float] = _NONE,
    null_B: np.ndarray | None = None,
    adjusted: float = np.nan,
    counts: tuple[int, int] | None = None,
) -> tuple:
    """A row but for its setting."""
    chance = (np.nan,) * 4
    if null_B is not None and len(null_B := null_B[~np.isnan(null_B)]):
        sign = SEPARABILITY_METRICS[metric.removeprefix(PUBLISHED_PREFIX)][1]
        # Where a permutation separates nothing, Davies-Bouldin is infinite: a p and no range of chance.
        middle = (
            (null_B.mean(), *np.quantile(null_B, [0.025, 0.975])) if np.isfinite(null_B).all() else chance[1:]
        )
        chance = (*middle, chance_p(sign * value, sign * null_B))
    return (metric, label, float(value), *ends, *map(float, chance), adjusted, *(counts or (np.nan, np.nan)))
