"""What a study may maximise: averages over labels, of a ranking or of decisions.

To add a ranking, write its function in `scoring.metrics`, its form under weights in `scoring.resampling`, its
row in `scoring.metric_table` and one here.

Shape legend: K models, N images, C labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scoring.metrics import auroc, average_precision


@dataclass(frozen=True, kw_only=True)
class Objective:
    """An average over labels; higher is better.

    >>> OBJECTIVES["macro_auroc"].title
    'macro AUROC'
    """

    title: str
    """As a person reads it."""
    of_label: str
    """The metric of one label whose average it is, by its name in `scoring.metric_table`."""
    ranking: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    """(targets_NC, scores_KNC) -> float64 (K, C) where it is of scores that rank; None: of decisions by the
    best threshold strategy."""


OBJECTIVES = {
    "macro_ap": Objective(
        title="macro average precision", of_label="average_precision", ranking=average_precision
    ),
    "macro_auroc": Objective(title="macro AUROC", of_label="auroc", ranking=auroc),
    "macro_f1": Objective(title="macro F1", of_label="f1"),
}
"""By the name that a study file gives; the first is the default."""

RANKINGS = {name: one for name, one in OBJECTIVES.items() if one.ranking}
"""Those of scores that rank."""
