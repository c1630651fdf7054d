"""The plain method that a search has to beat: a logistic regression a label, on frozen features or pixels.

Shape legend: N images, D features, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from scoring import judging
from scoring.judging import SHRINKAGE, JudgedRows
from vlm.linear_head import LinearHead

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


def logreg_floor(
    train_features_ND: np.ndarray,
    train_targets_NC: np.ndarray,
    val_features_ND: np.ndarray,
    rows: JudgedRows,
    *,
    objective: str,
    strengths: Sequence[float] = STRENGTHS,
    common_scale: bool = False,
) -> LogisticFloor:
    """One L2-regularised logistic regression a label on standardised features, C by the study's objective.

    A masked entry drops out of its label's fit; a label whose
    known entries are all alike gets its constant prevalence.

    Args:
        train_features_ND, val_features_ND: float32, as the encoder gives them.
        train_targets_NC: 0, 1 or NaN where masked.
        rows: validation, row by row as `val_features_ND`.
        objective: the study's objective: macro_ap, macro_auroc or macro_f1.
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
        logits_NC = head.logits(val_features_ND)
        value = float(judging.objective(objective, logits_NC[None], rows, [SHRINKAGE])[0])
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
