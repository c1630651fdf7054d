"""Who lags behind: what a bank knows of earlier configurations, and which heads go on to the next fold.

The idea is that of Optuna's `WilcoxonPruner`, and of F-race before it (Birattari et al., "A Racing Algorithm
for Configuring Metaheuristics", GECCO 2002): configurations are compared on the same folds, and one that is
behind on those so far is not trained on the rest. WilcoxonPruner compares with the best trial alone, by a
signed-rank test over the folds, which at its default threshold of 0.1 rejects after four folds at the
earliest. Here a head is compared with the CONTENDERS-th best, since the answer averages many, and by the
spread that the missing folds may still bring, estimated on all configurations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from trainables.stopping import Ending


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """What a bank knows of the configurations before it, so that those that lag behind are stopped."""

    prune_below: Mapping[int, float] = field(default_factory=dict)
    """Rung -> objective; a head below it there, on the first fold and with epochs left, ends as PRUNED."""
    fold_objectives: Sequence[Sequence[float]] = ()
    """Of each earlier configuration that came through its first fold, its objective on each fold."""


CONTENDERS = 20
"""After each fold a head goes on that may still be among so many best ones, which is what an ensemble of them
can use."""


def contending(
    fold_objectives: Sequence[Sequence[float]], earlier: Sequence[Sequence[float]], folds: int
) -> list[bool]:
    """Which heads may still be among the CONTENDERS best of all, themselves included, once their folds are
    averaged.

    A head is out where its mean over the folds so far lies below the CONTENDERS-th best mean over the same
    folds by more than one standard deviation of what the missing folds may change. That deviation is measured
    on configurations that have more folds: their scores less what is common to a fold, so that a difficult
    fold counts against nobody. A fold on which nothing could be scored ranks nobody.

    Args:
        fold_objectives: of the heads in question, the same number of folds each; NaN on a fold that lacks
            both classes of every label that counts.
        earlier: of other configurations, one fold or more each.
        folds: of the study.
    """
    unscored = {
        fold for one in (*earlier, *fold_objectives) for fold, value in enumerate(one) if math.isnan(value)
    }
    earlier, fold_objectives = (
        [[value for fold, value in enumerate(one) if fold not in unscored] for one in some]
        for some in (earlier, fold_objectives)
    )
    done, folds = len(fold_objectives[0]), folds - len(unscored)
    if done == 0:
        return [True] * len(fold_objectives)
    whole = [tuple(one) for one in (*earlier, *fold_objectives)]
    means = sorted((float(np.mean(one[:done])) for one in whole if len(one) >= done), reverse=True)
    most = max(len(one) for one in whole)
    measured = np.array([one for one in whole if len(one) == most])
    if len(means) <= CONTENDERS or most < 2 or len(measured) < 2:
        return [True] * len(fold_objectives)
    apart = measured - measured.mean(axis=0) - measured.mean(axis=1, keepdims=True) + measured.mean()
    variance = float((apart**2).sum()) / ((len(measured) - 1) * (most - 1))
    floor = means[CONTENDERS - 1] - math.sqrt(2 * variance * (1 / done - 1 / folds))
    return [bool(np.mean(one) >= floor) for one in fold_objectives]


def fallen_behind(fold_objectives: Sequence[float], epochs: int) -> Ending:
    """How a head of so many epochs a fold ends that `contending` lets go after these folds."""
    folds = len(fold_objectives)
    return Ending(
        folds * epochs,
        "PRUNED",
        f"mean objective {np.nanmean(fold_objectives):.4f} over {folds} fold{'s' * (folds > 1)} is "
        f"behind that of the best {CONTENDERS}",
    )
