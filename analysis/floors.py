"""Floors: what knows nothing about the image, or needs no study, scores under the same rules.

Shape legend: N images, D features, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from cohort.patients import patient_folds
from trainables.metrics import auroc, average_precision
from trainables.thresholds import STRATEGIES, cross_fitted, fit_thresholds
from vlm.linear_head import LinearHead

SHRINKAGE = 10.0
"""Strength of the `shrunk` strategy wherever it is not searched: the middle of the searched range."""

STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Inverse regularisation strengths C of the logistic regressions; 1e-5 leaves little but the prevalence."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LogisticFloor:
    """A logistic regression on frozen features, its strength chosen on validation."""

    head: LinearHead
    strength: float
    """scikit-learn's C with the best objective on validation; the smaller of equals."""
    objective: float
    """The study's objective on validation at that strength."""
    tried: tuple[tuple[float, float], ...]
    """(C, objective) of every strength."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ChosenThresholds:
    """Thresholds of the strategy that predicts best on patients it was not fitted on."""

    strategy: str
    thresholds_C: np.ndarray
    """float64 (C,), refitted on all of validation; a decision is prob >= threshold."""
    fell_back_C: np.ndarray
    """bool (C,): labels with too few positive patients, which hold the global threshold."""
    macro_f1: float
    """Cross-fitted macro-F1 of the strategy over the objective's labels."""


def logreg_floor(
    train_features_ND: np.ndarray,
    train_targets_NC: np.ndarray,
    val_features_ND: np.ndarray,
    val_targets_NC: np.ndarray,
    val_patients_N: np.ndarray,
    *,
    objective: str,
    objective_labels_C: np.ndarray,
    strengths: Sequence[float] = STRENGTHS,
    common_scale: bool = False,
) -> LogisticFloor:
    """One L2-regularised logistic regression a label on standardised features, C by the study's objective.

    The plain method that a search has to beat. A masked entry drops out of its label's fit; a label whose
    known entries are all alike gets its constant prevalence.

    Args:
        train_features_ND, val_features_ND: float32, as the encoder gives them.
        train_targets_NC, val_targets_NC: 0, 1 or NaN where masked.
        val_patients_N: integer codes; only macro_f1 uses them.
        objective: macro_ap, macro_auroc or macro_f1.
        objective_labels_C: bool (C,), the labels it averages.
        strengths: values of C, ascending.
        common_scale: divide all features by one scale instead of each by its own, which is right where all
            are measured in one unit, as pixels are: a border that hardly varies is not blown up.
    """
    mean_D = train_features_ND.mean(axis=0, dtype=np.float64)
    scale_D = train_features_ND.std(axis=0, dtype=np.float64)
    if common_scale:
        scale_D = np.full_like(scale_D, np.sqrt(np.mean(scale_D**2)))
    # A feature that is constant up to rounding says nothing, and its rounding must not be blown up.
    scale_D = np.where(scale_D <= 1e-6 * np.abs(mean_D), 1.0, scale_D)
    scale_D[scale_D == 0] = 1.0
    x_ND = (train_features_ND - mean_D) / scale_D

    best, tried = None, []
    for strength in strengths:
        weight_DC, bias_C = _fit(x_ND, train_targets_NC, strength)
        head = LinearHead(
            weight_DC=weight_DC.astype(np.float32),
            bias_C=bias_C.astype(np.float32),
            mean_D=mean_D.astype(np.float32),
            scale_D=scale_D.astype(np.float32),
        )
        value = objective_value(
            objective, val_targets_NC, head.logits(val_features_ND), val_patients_N, objective_labels_C
        )
        tried.append((float(strength), value))
        if best is None or value > best[1]:
            best = (head, value, float(strength))
    return LogisticFloor(head=best[0], strength=best[2], objective=best[1], tried=tuple(tried))


def _fit(x_ND: np.ndarray, targets_NC: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray]:
    weight_DC = np.zeros((x_ND.shape[1], targets_NC.shape[1]))
    bias_C = np.zeros(targets_NC.shape[1])
    for c, prevalence in enumerate(prevalences(targets_NC)):
        known_N = ~np.isnan(targets_NC[:, c])
        positives = np.sum(targets_NC[:, c] == 1)
        if positives in (0, known_N.sum()):
            bias_C[c] = np.log(prevalence / (1 - prevalence))
            continue
        x_known_ND = x_ND if known_N.all() else x_ND[known_N]
        with threadpool_limits(1):  # products so small that BLAS threads would only wait for each other
            model = LogisticRegression(C=strength, max_iter=500).fit(x_known_ND, targets_NC[known_N, c] == 1)
        weight_DC[:, c], bias_C[c] = model.coef_[0], model.intercept_[0]
    return weight_DC, bias_C


def prevalences(targets_NC: np.ndarray) -> np.ndarray:
    """float64 (C,): (positives + 1/2) / (known + 1), Jeffreys' estimate, so that its logit is finite."""
    known_C = (~np.isnan(targets_NC)).sum(axis=0)
    return ((targets_NC == 1).sum(axis=0) + 0.5) / (known_C + 1)


def objective_value(
    objective: str,
    targets_NC: np.ndarray,
    logits_NC: np.ndarray,
    patients_N: np.ndarray,
    objective_labels_C: np.ndarray,
) -> float:
    """The study's objective of some logits, over the objective's labels.

    Raises:
        ValueError: another objective than macro_ap, macro_auroc and macro_f1.
    """
    targets_NC, logits_NC = targets_NC[:, objective_labels_C], logits_NC[:, objective_labels_C]
    if objective == "macro_ap":
        return float(np.mean(average_precision(targets_NC, logits_NC)))
    if objective == "macro_auroc":
        return float(np.mean(auroc(targets_NC, logits_NC)))
    if objective == "macro_f1":
        every_label_C = np.ones(targets_NC.shape[1], dtype=bool)
        return choose_thresholds(sigmoid(logits_NC), targets_NC, patients_N, every_label_C).macro_f1
    raise ValueError(f"objective must be macro_ap, macro_auroc or macro_f1, not {objective!r}")


def choose_thresholds(
    probs_NC: np.ndarray,
    targets_NC: np.ndarray,
    patients_N: np.ndarray,
    objective_labels_C: np.ndarray,
    seed: int = 0,
) -> ChosenThresholds:
    """The strategy with the best cross-fitted macro-F1 on validation, as the study chooses it for a trial.

    Args:
        probs_NC: in [0, 1].
        targets_NC: 0, 1 or NaN where masked.
        patients_N: integer codes.
        objective_labels_C: bool (C,), the labels whose F1 is averaged for the choice.
        seed: of the five patient folds.
    """
    folds_N = patient_folds(targets_NC, patients_N, seed=seed)
    crossed = cross_fitted(probs_NC, targets_NC, folds_N, patients_N, shrinkage=SHRINKAGE)
    macro_f1 = {name: float(np.mean(crossed[name].f1[objective_labels_C])) for name in STRATEGIES}
    strategy = max(STRATEGIES, key=macro_f1.get)
    fitted = fit_thresholds(probs_NC, targets_NC, patients_N, shrinkage=SHRINKAGE)
    own = strategy in ("per_label", "shrunk")
    return ChosenThresholds(
        strategy=strategy,
        thresholds_C=fitted.by_strategy[strategy],
        fell_back_C=fitted.fell_back_C & own,
        macro_f1=macro_f1[strategy],
    )


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Probabilities of logits, in float64, without overflow."""
    logits = np.asarray(logits, dtype=np.float64)
    return np.exp(-np.logaddexp(0, -logits))
