"""How a model is judged on rows that it was not trained on: the objective, and what is reported beside it.

One judgement for trials, baselines and tables: the thresholds of every label are fitted, on the study's own
patient folds, and only then are the labels that count averaged.

Shape legend: K models, N images, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import ModuleType

import numpy as np
from scipy.special import expit, softmax

from scoring import multiclass_thresholds, thresholds
from scoring.metrics import f1
from scoring.objectives import OBJECTIVES, RANKINGS

SHRINKAGE = 10.0
"""Strength of the threshold strategy `shrunk` where it is not searched: the middle of the searched range."""


@dataclass(frozen=True, kw_only=True, eq=False)
class JudgedRows:
    """The rows on which models are judged, and the labels that count.

    >>> rows = JudgedRows(targets_NC=np.array([[1, 0], [0, 1], [0, 0]]), patients_N=np.arange(3),
    ...                   folds_N=np.array([0, 1, 1]), averaged_C=np.array([True, True]))
    >>> rows.some(np.array([False, True, True])).averaged_C.tolist()
    [False, True]
    """

    targets_NC: np.ndarray
    """0, 1 or NaN (masked)."""
    patients_N: np.ndarray
    """int64 codes, equal for images of one patient."""
    folds_N: np.ndarray
    """int64, the fold in which a row's decisions are judged, from `cohort.patients.patient_folds`; fixed for
    a study."""
    averaged_C: np.ndarray
    """bool: the labels of every macro average; each has positives and negatives here."""
    multiclass: bool = False
    """Whether a row has exactly one of the labels, or is masked whole; decisions are then one label each."""

    def some(self, some_N: np.ndarray) -> JudgedRows:
        """The rows of `some_N` (bool), and of the labels that count those with both classes there."""
        targets_NC = self.targets_NC[some_N]
        both_C = (targets_NC == 1).any(axis=0) & (targets_NC == 0).any(axis=0)
        return replace(
            self,
            targets_NC=targets_NC,
            patients_N=self.patients_N[some_N],
            folds_N=self.folds_N[some_N],
            averaged_C=self.averaged_C & both_C,
        )


@dataclass(frozen=True)
class Scale:
    """How scores come onto [0, 1], where thresholds lie, with their order kept: that of a label's images, or
    of an image's labels where they are multiclass.

    Scores that only rank, such as image-text products, would saturate on the scale of logits; they need one
    of their own, see `standardising`.

    >>> LOGITS.unit(np.array([0.0, 2.0])).round(2).tolist()
    [0.5, 0.88]
    >>> Scale.standardising(np.array([[10.0, 30.0]]))
    Scale(centre=20.0, width=10.0)
    """

    centre: float = 0.0
    width: float = 1.0

    @classmethod
    def standardising(cls, scores_NC: np.ndarray) -> Scale:
        """The scale on which these scores have mean 0 and deviation 1 before the sigmoid."""
        return cls(float(scores_NC.mean()), float(scores_NC.std()) or 1.0)

    def unit(self, scores: np.ndarray, *, multiclass: bool = False) -> np.ndarray:
        """sigmoid(z) with z = (score - centre) / width, or of multiclass labels softmax(z) along the last
        axis: float64, since float32 has only one value, 1, from 17 on."""
        z = (np.asarray(scores, dtype=np.float64) - self.centre) / self.width
        return softmax(z, axis=-1) if multiclass else expit(z)


LOGITS = Scale()
"""That of logits, on which `unit` gives probabilities."""


@dataclass(frozen=True, eq=False)
class Judged:
    """Everything that is reported of one model.

    >>> rows = JudgedRows(targets_NC=np.array([[1], [0], [1], [0]]), patients_N=np.arange(4),
    ...                   folds_N=np.array([0, 0, 1, 1]), averaged_C=np.array([True]))
    >>> (judged,) = judge(np.array([[[2.0], [-2.0], [1.0], [-1.0]]]), rows, [SHRINKAGE])
    >>> judged.strategy, judged.thresholds["fixed"].tolist(), judged.few_C.tolist()
    ('fixed', [0.5], [False])
    """

    metrics: dict[str, float]
    """val.macro_ap, val.macro_auroc, val.macro_f1 (cross-fitted, of the best threshold strategy),
    val.macro_f1_<strategy>, val.labels_averaged."""
    strategy: str
    """The threshold strategy with the best cross-fitted macro-F1."""
    thresholds: dict[str, np.ndarray]
    """strategy -> one threshold per label on [0, 1], refitted on all rows."""
    few_C: np.ndarray
    """bool: labels with too few positive patients for a threshold of their own, under any strategy; which of
    them share the global one says `scoring.thresholds.shares_global`."""
    multiclass: bool = False
    """Whether the thresholds decide for one label a row: those of `scoring.multiclass_thresholds`."""


def objective(
    name: str,
    scores_KNC: np.ndarray,
    rows: JudgedRows,
    shrinkage_K: Sequence[float],
    scale: Scale = LOGITS,
) -> np.ndarray:
    """float64 (K,): one of `OBJECTIVES`, that of decisions by the best threshold strategy; higher is better.

    Independent labels are ranked by their scores, multiclass ones by their probabilities: a constant on all
    labels of an image, which a softmax leaves open, would move it in the ranking of each.

    Args:
        scores_KNC: float, logits or any scores that rank.
        shrinkage_K: strength of the threshold strategy `shrunk`.
        scale: of the thresholds and probabilities.

    Raises:
        ValueError: another objective than these.

    >>> rows = JudgedRows(targets_NC=np.array([[1], [0], [1], [0]]), patients_N=np.arange(4),
    ...                   folds_N=np.array([0, 0, 1, 1]), averaged_C=np.array([True]))
    >>> objective("macro_auroc", np.array([[[0.9], [0.8], [0.7], [0.1]]]), rows, [SHRINKAGE]).tolist()
    [0.75]
    """
    if name not in OBJECTIVES:
        raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}, not {name!r}")
    ranking = OBJECTIVES[name].ranking
    if ranking is None:
        unit_KNC = scale.unit(scores_KNC, multiclass=rows.multiclass)
        return np.max(list(_macro_f1(unit_KNC, rows, shrinkage_K).values()), axis=0)
    ranked_KNC = scale.unit(scores_KNC, multiclass=True) if rows.multiclass else scores_KNC
    return ranking(rows.targets_NC[:, rows.averaged_C], ranked_KNC[..., rows.averaged_C]).mean(-1)


def judge(
    scores_KNC: np.ndarray,
    rows: JudgedRows,
    shrinkage_K: Sequence[float],
    scale: Scale = LOGITS,
) -> list[Judged]:
    """What is reported of each model, macro averages over `rows.averaged_C`; arguments as `objective`.

    >>> rows = JudgedRows(targets_NC=np.array([[1], [0], [1], [0]]), patients_N=np.arange(4),
    ...                   folds_N=np.array([0, 0, 1, 1]), averaged_C=np.array([True]))
    >>> (judged,) = judge(np.array([[[2.0], [-2.0], [1.0], [-1.0]]]), rows, [SHRINKAGE])
    >>> judged.metrics["val.macro_auroc"], judged.metrics["val.macro_f1_fixed"]
    (1.0, 1.0)
    """
    ranked = {name: objective(name, scores_KNC, rows, shrinkage_K, scale) for name in RANKINGS}
    unit_KNC = scale.unit(scores_KNC, multiclass=rows.multiclass)
    macro_f1 = _macro_f1(unit_KNC, rows, shrinkage_K)
    fitted = _fitting(rows).fit_thresholds(
        unit_KNC, rows.targets_NC, rows.patients_N, shrinkage=np.asarray(shrinkage_K)
    )
    judged = []
    for k in range(len(scores_KNC)):
        strategy = max(macro_f1, key=lambda name: macro_f1[name][k])
        metrics = {
            **{f"val.{name}": float(value_K[k]) for name, value_K in ranked.items()},
            "val.macro_f1": float(macro_f1[strategy][k]),
            **{f"val.macro_f1_{name}": float(f1_K[k]) for name, f1_K in macro_f1.items()},
            "val.labels_averaged": float(rows.averaged_C.sum()),
        }
        by_strategy = {name: values_KC[k] for name, values_KC in fitted.by_strategy.items()}
        judged.append(Judged(metrics, strategy, by_strategy, fitted.few_C, rows.multiclass))
    return judged


def _macro_f1(unit_KNC: np.ndarray, rows: JudgedRows, shrinkage_K: Sequence[float]) -> dict[str, np.ndarray]:
    """strategy -> cross-fitted macro-F1 (K,)."""
    fitting = _fitting(rows)
    counts = fitting.cross_fitted(
        unit_KNC, rows.targets_NC, rows.folds_N, rows.patients_N, shrinkage=np.asarray(shrinkage_K)
    )
    return {name: f1(counts[name])[:, rows.averaged_C].mean(1) for name in fitting.STRATEGIES}


def _fitting(rows: JudgedRows) -> ModuleType:
    """Where the thresholds of such labels are fitted."""
    return multiclass_thresholds if rows.multiclass else thresholds
