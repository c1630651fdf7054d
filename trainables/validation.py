"""One look at validation: the objective, the metrics and the thresholds of K models at once.

Shape legend: K models, N images of validation, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from trainables.metrics import auroc, average_precision
from trainables.thresholds import STRATEGIES, cross_fitted, fit_thresholds

OBJECTIVES = ("macro_ap", "macro_auroc", "macro_f1")


class ValidationData(Protocol):
    """What the validation split of a trial has, whatever else the trial knows."""

    val_targets_NC: np.ndarray
    """float32: 0, 1 or NaN (masked)."""
    val_patients_N: np.ndarray
    """int64."""
    val_folds_N: np.ndarray
    """int64, from `trainables.thresholds.patient_folds`; fixed for a study."""

    @property
    def scored_C(self) -> np.ndarray:
        """bool: the labels over which every macro average of a trial is taken."""


@dataclass(frozen=True, eq=False)
class Judged:
    """Everything that is reported of one model on validation."""

    metrics: dict[str, float]
    """val.macro_ap, val.macro_auroc, val.macro_f1 (cross-fitted, of the best threshold strategy),
    val.macro_f1_<strategy>, val.labels_averaged."""
    strategy: str
    """The threshold strategy with the best cross-fitted macro-F1."""
    thresholds: dict[str, np.ndarray]
    """strategy -> one probability threshold a label, refitted on all of validation."""
    fell_back_C: np.ndarray
    """bool: labels with too few positive patients, whose own threshold is the global one."""


def objective(
    name: str, logits_KNC: np.ndarray, data: ValidationData, shrinkage_K: Sequence[float]
) -> np.ndarray:
    """float64 (K,): macro_ap, macro_auroc or macro_f1 (of the best threshold strategy); higher is better.

    Args:
        logits_KNC: float32.
        shrinkage_K: strength of the threshold strategy `shrunk`.
    """
    if name == "macro_f1":
        return np.max(list(_macro_f1(logits_KNC, data, shrinkage_K).values()), axis=0)
    metric = average_precision if name == "macro_ap" else auroc
    return metric(data.val_targets_NC[:, data.scored_C], logits_KNC[..., data.scored_C]).mean(-1)


def judge(logits_KNC: np.ndarray, data: ValidationData, shrinkage_K: Sequence[float]) -> list[Judged]:
    """What is reported of each model, every macro average over `data.scored_C`; arguments as `objective`."""
    ap_K, auroc_K = (objective(name, logits_KNC, data, shrinkage_K) for name in ("macro_ap", "macro_auroc"))
    f1 = _macro_f1(logits_KNC, data, shrinkage_K)
    fitted = fit_thresholds(
        _probs(logits_KNC), data.val_targets_NC, data.val_patients_N, shrinkage=np.asarray(shrinkage_K)
    )
    judged = []
    for k in range(len(logits_KNC)):
        strategy = max(STRATEGIES, key=lambda name: f1[name][k])
        metrics = {
            "val.macro_ap": float(ap_K[k]),
            "val.macro_auroc": float(auroc_K[k]),
            "val.macro_f1": float(f1[strategy][k]),
            **{f"val.macro_f1_{name}": float(f1[name][k]) for name in STRATEGIES},
            "val.labels_averaged": float(data.scored_C.sum()),
        }
        thresholds = {name: values_KC[k] for name, values_KC in fitted.by_strategy.items()}
        judged.append(Judged(metrics, strategy, thresholds, fitted.fell_back_C))
    return judged


def _macro_f1(
    logits_KNC: np.ndarray, data: ValidationData, shrinkage_K: Sequence[float]
) -> dict[str, np.ndarray]:
    """strategy -> cross-fitted macro-F1 (K,)."""
    fits = cross_fitted(
        _probs(logits_KNC),
        data.val_targets_NC,
        data.val_folds_N,
        data.val_patients_N,
        shrinkage=np.asarray(shrinkage_K),
    )
    return {strategy: fits[strategy].f1[:, data.scored_C].mean(1) for strategy in STRATEGIES}


def _probs(logits: np.ndarray) -> np.ndarray:
    """float64: in float32 every logit above 17 would be the same probability, 1."""
    return torch.from_numpy(logits).double().sigmoid().numpy()
