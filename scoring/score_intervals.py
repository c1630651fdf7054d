"""Intervals of the metrics of a score table: of a label's value, of an average, of a mean over images.

A share of entries (sensitivity, precision, accuracy and what rises with one, such as F1) has the exact
interval of its effective number of entries, and needs no resamples. An AUROC has Newcombe's, widened to what
the bootstrap sees; MCC one of its sensitivity, its specificity and the prevalence; the rest the bootstrap's,
the Brier skill on the logarithm of its distance from 1.

Shape legend: N images, P patients, C labels, B resamples.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import stdtrit

from scoring import metrics
from scoring.auroc_interval import auroc_limits, newcombe_variance
from scoring.effective_patients import LabelPatients, by_patient, effective_number
from scoring.intervals import (
    MIN_PATIENTS,
    correlations,
    interval,
    joint_error,
    mean_limits,
    satterthwaite,
    spread,
)
from scoring.metric_table import Metric
from scoring.metrics import Confusion
from scoring.model_output import ModelOutput, Resampled
from scoring.shares import Shares

NONE = (float("nan"), float("nan"))


@dataclass(frozen=True, kw_only=True, eq=False)
class MetricIntervals:
    """Of one metric of one model's predictions; low and high each, NaN where there is no interval.

    >>> from scoring.metric_table import METRICS
    >>> targets_NC = np.repeat([[1], [0]], 10, axis=0)
    >>> output = ModelOutput(targets_NC=targets_NC, scores_NC=targets_NC, decisions_NC=targets_NC == 1)
    >>> recall = next(metric for metric in METRICS if metric.name == "recall")
    >>> intervals = MetricIntervals(
    ...     metric=recall,
    ...     resampled=Resampled(predictions=output, rows_N=np.arange(20), weights_RB=np.ones((20, 1))),
    ...     patients=LabelPatients(targets_NC=targets_NC, rows_N=np.arange(20)),
    ... )
    >>> low, high = intervals.of_label(0)
    >>> round(low, 2), high
    (0.69, 1.0)
    """

    metric: Metric
    resampled: Resampled
    patients: LabelPatients
    constant: bool = False
    """Whether the model says the same of every image, so that some values are certain."""
    level: float = 0.95
    """Nominal coverage."""

    def of_label(self, c: int) -> tuple[float, float]:
        """None below MIN_PATIENTS patients on the label's smaller side."""
        value = float(self._values[c])
        if self.patients.fewer_C[c] < MIN_PATIENTS or not np.isfinite(value):
            return NONE
        if self._certain_C[c]:
            return value, value
        if self.metric.share:
            low_C, high_C = map(self._of_share, self._shares.exact(self.level))
            return float(low_C[c]), float(high_C[c])
        number = self.patients.effective_C[c]
        if self.metric.interval == "auroc":
            return self._auroc(c, number - 1)
        if self.metric.interval == "mcc":
            low_C, high_C = self._mcc_limits
            return float(low_C[c]), float(high_C[c])
        return interval(value, self._error(c), number - 1, number, self._bounds, self.level)

    def of_average(self, labels_C: np.ndarray) -> tuple[float, float]:
        """Of the mean over these labels, bool (C,), each of which has a value.

        None below MIN_PATIENTS patients on the smaller sides of all of them together, each counted once. A
        label with fewer than two there, which only the paper's rules average, has no error to estimate and
        counts as certain.
        """
        chosen = np.flatnonzero(labels_C)
        known_C = self.patients.fewer_C >= 2
        if self.patients.together(chosen) < MIN_PATIENTS or not known_C[chosen].any():
            return NONE
        free = chosen[(known_C & ~self._certain_C)[chosen]]
        certain = np.setdiff1d(chosen, free)
        low, high = self._of_mean(free) if len(free) else (0.0, 0.0)
        fixed, weight = float(self._values[certain].sum()) / len(chosen), len(free) / len(chosen)
        return fixed + weight * low, fixed + weight * high

    def of_all(self) -> tuple[float, float]:
        """Of one value of all labels, or of the mean over images. None below MIN_PATIENTS patients."""
        values = self._values
        if self.constant and self.metric.constant:
            return float(values), float(values)
        if self.metric.share:
            if (self._shares.entries_PC > 0).sum() < MIN_PATIENTS:
                return NONE
            low, high = (float(self._of_share(end)[0]) for end in self._shares.exact(self.level))
            return low, high
        images_P = by_patient(np.isfinite(values)[:, None], self.resampled.rows_N)[:, 0]
        if (images_P > 0).sum() < MIN_PATIENTS:
            return NONE
        number = effective_number(images_P)
        error = spread(self._replicates, number)
        return interval(float(np.nanmean(values)), error, number - 1, number, self._bounds, self.level)

    @property
    def _predictions(self) -> ModelOutput:
        return self.resampled.predictions

    @cached_property
    def _values(self) -> np.ndarray:
        return self.metric.values(self._predictions)

    @cached_property
    def _replicates(self) -> np.ndarray:
        return self.metric.replicates(self.resampled, self._values)

    @property
    def _bounds(self) -> tuple[float, float]:
        return self.metric.bounds_among(self._predictions.targets_NC.shape[1])

    @cached_property
    def _shares(self) -> Shares:
        hits_NC, entries_NC = self.metric.share(self._predictions)
        whole = not np.issubdtype(hits_NC.dtype, np.floating)
        return Shares.of_images(hits_NC, entries_NC, self.resampled.rows_N, whole)

    def _of_share(self, share_C: np.ndarray) -> np.ndarray:
        return self.metric.of_share(share_C, self._predictions)

    def _error(self, c: int) -> float:
        return spread(self._replicates[c], self.patients.effective_C[c])

    @cached_property
    def _certain_C(self) -> np.ndarray:
        """bool: labels whose value would be the same among other patients: of a constant model where the
        metric does not depend on the prevalence, or where the model never decides for the label."""
        never_C = ~self._predictions.decisions_NC.any(axis=0) & (self.metric.takes == "decisions")
        return (never_C | self.metric.constant) & self.constant

    def _of_mean(self, free: np.ndarray) -> tuple[float, float]:
        """Of the mean over `free`, places of labels."""
        if self.metric.share:
            ends = [self._of_share(end_C)[free] for end_C in self._shares.exact(self.level)]
            return mean_limits(self._values[free], *ends, correlations(self._shares.residual_PC.T[free]))
        effective_C, together = self.patients.effective_C[free], self.patients.together(free)
        if self.metric.interval == "spread":
            error, freedom = joint_error(self._replicates[free], effective_C, together)
            number = min(together, float(effective_C.sum()))
            return interval(
                float(self._values[free].mean()), error, freedom, number, self._bounds, self.level
            )
        if self.metric.interval == "auroc":
            error_C = [
                max(self._error(c), newcombe_variance(self._values[c], *self.patients.sides_2C[:, c]) ** 0.5)
                for c in free
            ]
            freedom = satterthwaite(np.square(error_C), effective_C, together)
            ends = np.array([self._auroc(c, freedom) for c in free]).T
        else:
            ends = [end_C[free] for end_C in self._mcc_limits]
        return mean_limits(self._values[free], *ends, correlations(self._replicates[free]))

    def _auroc(self, c: int, freedom: float) -> tuple[float, float]:
        student = float(stdtrit(freedom, (1 + self.level) / 2))
        sides = self.patients.sides_2C[:, c]
        return auroc_limits(float(self._values[c]), self._error(c), *sides, student, self.level)

    @cached_property
    def _mcc_limits(self) -> tuple[np.ndarray, np.ndarray]:
        """float64 (C,) each: how far MCC moves where its sensitivity, its specificity or the prevalence lies
        at its own limit, added by squares (Zou and Donner, Statistics in Medicine 27, 2008)."""
        p, rows_N = self._predictions, self.resampled.rows_N
        positive_NC, negative_NC = p.targets_NC == 1, p.targets_NC == 0
        parts = [
            Shares.of_images(p.decisions_NC & positive_NC, positive_NC, rows_N),
            Shares.of_images(~p.decisions_NC & negative_NC, negative_NC, rows_N),
            Shares.of_images(positive_NC, positive_NC | negative_NC, rows_N),
        ]
        found = [part.value_C for part in parts]
        value_C = _mcc_of(*found)
        below_C, above_C = np.zeros_like(value_C), np.zeros_like(value_C)
        for place, part in enumerate(parts):
            ends_2C = [
                _mcc_of(*found[:place], end_C, *found[place + 1 :]) for end_C in part.jeffreys(self.level)
            ]
            moved_2C = np.array(ends_2C) - value_C
            below_C += np.minimum(moved_2C.min(axis=0), 0) ** 2
            above_C += np.maximum(moved_2C.max(axis=0), 0) ** 2
        return np.maximum(value_C - np.sqrt(below_C), -1), np.minimum(value_C + np.sqrt(above_C), 1)


def _mcc_of(sensitivity_C: np.ndarray, specificity_C: np.ndarray, prevalence_C: np.ndarray) -> np.ndarray:
    return metrics.mcc(
        Confusion(
            tp=prevalence_C * sensitivity_C,
            fp=(1 - prevalence_C) * (1 - specificity_C),
            fn=prevalence_C * (1 - sensitivity_C),
            tn=(1 - prevalence_C) * specificity_C,
        )
    )
