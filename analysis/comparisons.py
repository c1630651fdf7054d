"""The best configuration against its opponents: paired permutation tests over patients, Holm in a family.

Shape legend: C labels, B resamples or draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from analysis.predictors import Scored
from analysis.test_split import TestSplit
from scoring.intervals import MIN_POSITIVE_PATIENTS, average_interval, label_interval
from scoring.metrics import auroc, average_precision
from scoring.paired_tests import holm, paired_permutation, permutation_p
from scoring.resampling import Ranking

COLUMNS = ("family", "first", "second", "metric", "label", "difference", "low", "high", "p")


def compare(
    split: TestSplit,
    settings: Sequence[Scored],
    best: str,
    opponents: Sequence[str],
    rankings: Mapping[str, Ranking | None],
    *,
    draws: int,
    seed: int,
) -> pd.DataFrame:
    """The rows of `comparisons.csv`: the setting `best` against every opponent that is among the settings.

    Two families, fixed before any score is seen: `average`, the macro average precision against each
    opponent; `labels`, the AUROC of each label with at least MIN_POSITIVE_PATIENTS positive patients against
    each opponent. A constant opponent ranks nothing, so there the null is that the scores carry no
    information, and the model is tested against its own ranking reversed.

    Args:
        rankings: of each setting, what `analysis.score_table.score_setting` gave.
        draws, seed: of the permutations.
    """
    by_name = {setting.name: setting for setting in settings}
    rows = []
    for name in opponents:
        if name in by_name:
            found = _against(split, by_name[best], by_name[name], rankings, draws=draws, seed=seed)
            rows += [(family, best, name, *rest) for family, *rest in found]
    frame = pd.DataFrame(rows, columns=COLUMNS)
    frame["p_holm"] = np.nan
    for _, members in frame.groupby("family"):
        frame.loc[members.index, "p_holm"] = holm(members["p"].to_numpy())
    return frame


def _against(
    split: TestSplit,
    first: Scored,
    second: Scored,
    rankings: Mapping[str, Ranking | None],
    *,
    draws: int,
    seed: int,
) -> Iterator[tuple]:
    """family, metric, label, difference, low, high and p of one opponent, the average first."""
    other_NC = -first.test_scores_NC if second.constant else second.test_scores_NC
    null = paired_permutation(
        split.targets_NC, first.test_scores_NC, other_NC, split.patients_N, draws=draws, seed=seed
    )
    mine, theirs = rankings[first.name], rankings[second.name]

    averaged = np.flatnonzero(split.averaged_C)
    observed_C, null_CB = null["average_precision"]
    difference_C = _difference(average_precision, split, first, second)[averaged]
    deviation_CB = (mine.average_precision - theirs.average_precision)[averaged]
    low, high = average_interval(difference_C, deviation_CB, split.positive_patients_C[averaged], bounds=None)
    p = permutation_p(float(observed_C[averaged].mean()), null_CB[averaged].mean(axis=0))
    yield "average", "macro_ap", "", difference_C.mean(), low, high, p

    observed_C, null_CB = null["auroc"]
    difference_C = _difference(auroc, split, first, second)
    deviation_CB = mine.auroc - theirs.auroc
    for c in np.flatnonzero(split.positive_patients_C >= MIN_POSITIVE_PATIENTS):
        patients = int(split.positive_patients_C[c])
        low, high = label_interval(float(difference_C[c]), deviation_CB[c], patients, bounds=None)
        p = permutation_p(float(observed_C[c]), null_CB[c])
        yield "labels", "auroc", split.labels[c], difference_C[c], low, high, p


def _difference(
    metric: Callable[..., np.ndarray], split: TestSplit, first: Scored, second: Scored
) -> np.ndarray:
    """float64 (C,): the first setting's ranking metric less the second's."""
    one_C, other_C = (metric(split.targets_NC, setting.test_scores_NC) for setting in (first, second))
    return one_C - other_C
