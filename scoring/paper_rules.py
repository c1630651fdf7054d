"""The rules by which published tables were made (arXiv 2506.14136), kept apart from the project's own.

Scores are relative to the image's other labels or have no meaning as probabilities, and what is undefined
through the data counts as scikit-learn with `zero_division=0` counts it: a label without positives has F1,
precision, recall, MCC and average precision 0 and takes part in the macro average.

Shape legend: N images, C labels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit

from scoring.metric_table import METRICS, Metric
from scoring.model_output import ModelOutput

MODES = ("minmax", "cosine", "temperature")


@dataclass(frozen=True, kw_only=True)
class Preset:
    """How a published table turns logits into scores and decisions.

    >>> preset = PRESETS["paper"]
    >>> scores_NC = preset.scores(np.array([[1.0, 3.0, 2.0]]))
    >>> scores_NC.tolist(), preset.decisions(scores_NC).tolist()
    ([[0.0, 1.0, 0.5]], [[False, True, True]])
    """

    mode: str
    """One of `MODES`, see `scores`."""
    tau: float = 1.0
    """Of the mode temperature."""
    threshold: float = 0.5
    """A decision is score >= threshold."""

    def scores(self, logits_NC: np.ndarray) -> np.ndarray:
        return scores(logits_NC, self.mode, self.tau)

    def decisions(self, scores_NC: np.ndarray) -> np.ndarray:
        return scores_NC >= self.threshold


# The paper's headline rows, its per-label tables, and the two temperatures of its other rows.
PRESETS = {
    "paper": Preset(mode="minmax"),
    "cosine": Preset(mode="cosine"),
    "temperature_50": Preset(mode="temperature", tau=50.0),
    "temperature_80": Preset(mode="temperature", tau=80.0),
}


def scores(logits_NC: np.ndarray, mode: str, tau: float = 1.0) -> np.ndarray:
    """Scores of a head's logits, or of image-text products, in one of the paper's ways.

    minmax       each image's C values scaled to [0, 1]: relative within the image; 0 where all are equal.
    cosine       each image's C values divided by their norm, (x + 1) / 2; 1/2 where all are 0.
    temperature  sigmoid(x / tau).

    Args:
        logits_NC: float (..., N, C).
        mode: one of `MODES`.
        tau: > 0, of the mode temperature.

    Returns:
        float64 (..., N, C) in [0, 1].

    >>> scores(np.array([[3.0, 4.0]]), "cosine").round(2).tolist()
    [[0.8, 0.9]]
    """
    logits_NC = np.asarray(logits_NC, dtype=np.float64)
    if mode == "temperature":
        if not tau > 0:
            raise ValueError(f"Expected `tau` > 0, but got {tau}.")
        return expit(logits_NC / tau)
    if mode == "minmax":
        low_N1 = logits_NC.min(-1, keepdims=True)
        width_N1 = logits_NC.max(-1, keepdims=True) - low_N1
        return (logits_NC - low_N1) / np.where(width_N1 > 0, width_N1, 1)
    if mode == "cosine":
        norm_N1 = np.linalg.norm(logits_NC, axis=-1, keepdims=True)
        return (logits_NC / np.where(norm_N1 > 0, norm_N1, 1) + 1) / 2
    raise ValueError(f"Expected `mode` to be one of {MODES}, but got {mode!r}.")


ZERO_DIVISION = {
    **dict.fromkeys(("f1", "precision", "recall", "mcc"), 0.0),
    **dict.fromkeys(("micro_f1", "micro_precision", "micro_recall"), 0.0),
    "lrap": 1.0,
    "coverage_error": 0.0,
    "ranking_loss": 0.0,
}
"""What scikit-learn with zero_division=0 counts where a metric is undefined; AUROC is undefined there too."""


def with_zero_division(metric: Metric) -> Metric:
    """The metric with a value, from `ZERO_DIVISION`, for the labels and images that ours leave out.

    Average precision becomes 1 for a label without negatives and 0 for one without positives. An image of
    which nothing is known stays out.

    >>> ours = next(metric for metric in METRICS if metric.name == "f1")
    >>> none_NC = np.zeros((2, 1))
    >>> nothing = ModelOutput(targets_NC=none_NC, scores_NC=none_NC, decisions_NC=none_NC > 0)
    >>> ours.values(nothing).tolist(), with_zero_division(ours).values(nothing).tolist()
    ([nan], [0.0])
    """

    def values(predictions: ModelOutput) -> np.ndarray:
        values = metric.values(predictions)
        known_NC, positive_NC = ~np.isnan(predictions.targets_NC), predictions.targets_NC == 1
        if metric.name == "average_precision":
            fill = np.where(positive_NC.any(0) & (positive_NC == known_NC).all(0), 1.0, 0.0)
        else:
            fill = ZERO_DIVISION.get(metric.name, np.nan)
        counted = known_NC.any(-1) if metric.scope == "image" else True
        return np.where(np.isnan(values) & counted, fill, values)

    return replace(metric, values=values)


HEADLINE = tuple(
    with_zero_division(metric)
    for metric in METRICS
    if metric.name in ("f1", "exact_match", "lrap", "coverage_error", "ranking_loss")
)
"""The metrics of the paper's tables, averaged over all labels or images."""
