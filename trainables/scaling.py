"""Logits of one candidate brought onto the scale of probabilities, so that those of several can be averaged.

Heads of different losses and penalties differ in scale by orders of magnitude. What a fit here gives does not
depend on that: logits times a constant get the slope divided by it.

Shape legend: M judged images, C labels.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax

_STEPS = 50
_CONVERGED = 1e-8
_FAINT = 0.01
_LEAST_SLOPE = 1e-3
_ROUNDING = 1e-6


def affine(logits_MC: np.ndarray, targets_MC: np.ndarray) -> tuple[float, np.ndarray]:
    """One slope and an intercept a label, with the least binary cross-entropy (Platt, 1999), by Newton's
    method; masked entries do not count.

    Weighted losses shift each label by its own amount, which an average must not mix up. Faint priors keep
    both finite where the logits separate the classes: of the slope one of 1 on logits of deviation 1, of the
    intercepts there one of 0. The slope is positive: a candidate that ranks worse than chance is not turned
    round but muted.

    Args:
        logits_MC: float64, any scale.
        targets_MC: 0, 1 or NaN (masked).

    Returns:
        slope, intercept_C (float64): slope x logits + intercept_C.
    """
    known_MC = ~np.isnan(targets_MC)
    truth_MC = np.where(known_MC, targets_MC, 0)
    count_C = np.maximum(known_MC.sum(axis=0), 1)
    centre_C = (logits_MC * known_MC).sum(axis=0) / count_C
    spread = _spread(np.where(known_MC, logits_MC - centre_C, 0), known_MC.sum(), logits_MC)
    z_MC = (logits_MC - centre_C) / spread
    slope, intercept_C = 1.0, np.zeros(logits_MC.shape[1])
    for _ in range(_STEPS):
        probs_MC = expit(slope * z_MC + intercept_C)
        wrong_MC = (probs_MC - truth_MC) * known_MC
        curved_MC = probs_MC * (1 - probs_MC) * known_MC
        by_slope = (wrong_MC * z_MC).sum() + (slope - 1)
        by_intercept_C = wrong_MC.sum(axis=0) + _FAINT * intercept_C
        # The Hessian is an arrow: intercepts of different labels do not meet.
        shaft_C = curved_MC.sum(axis=0) + _FAINT
        across_C = (curved_MC * z_MC).sum(axis=0)
        tip = (curved_MC * z_MC**2).sum() + 1
        slope_step = (by_slope - across_C @ (by_intercept_C / shaft_C)) / (
            tip - across_C @ (across_C / shaft_C)
        )
        step_C = np.clip((by_intercept_C - across_C * slope_step) / shaft_C, -2, 2)
        before, intercept_C = slope, intercept_C - step_C
        slope = max(slope - float(np.clip(slope_step, -0.5, 0.5)), _LEAST_SLOPE)
        if max(abs(slope - before), np.abs(step_C).max()) < _CONVERGED:
            break
    return slope / spread, intercept_C - slope * centre_C / spread


def temperature(logits_MC: np.ndarray, targets_MC: np.ndarray) -> tuple[float, np.ndarray]:
    """The slope with the least cross-entropy of the softmax (Guo et al., ICML 2017), and no intercepts, which
    would decide for one class against another; arguments and result as `affine`."""
    known_M = ~np.isnan(targets_MC).any(axis=1)
    truth_M = targets_MC[known_M].argmax(axis=1)
    known_MC = logits_MC[known_M] - logits_MC[known_M].mean(axis=1, keepdims=True)
    spread = _spread(known_MC, known_MC.size, logits_MC)

    def loss(log_slope: float) -> float:
        log_probs_MC = log_softmax(np.exp(log_slope) / spread * known_MC, axis=1)
        return -float(log_probs_MC[np.arange(len(truth_M)), truth_M].mean())

    found = minimize_scalar(loss, bounds=(-7, 7), method="bounded")
    return float(np.exp(found.x)) / spread, np.zeros(logits_MC.shape[1])


def _spread(apart: np.ndarray, count: int, logits: np.ndarray) -> float:
    """Root mean square of what stands apart from its centre; 1 where that is rounding alone."""
    spread = float(np.sqrt((apart**2).sum() / max(count, 1)))
    return spread if spread > _ROUNDING * float(np.abs(logits).max(initial=0)) else 1.0
