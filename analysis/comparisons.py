"""The best configuration against its opponents: paired permutation tests over patients, Holm in a family.

Shape legend: C labels, B resamples or draws.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from analysis.predictors import ALL_POSITIVE, PREVALENCE, Scored
from analysis.test_split import TestSplit
from scoring.intervals import MIN_PATIENTS, average_interval, label_interval
from scoring.metric_table import Resampled
from scoring.metrics import auroc, average_precision, f1
from scoring.paired_tests import holm, paired_permutation, paired_permutation_f1, permutation_p

COLUMNS = ("family", "first", "second", "metric", "label", "difference", "low", "high", "p")
RANKINGS = {"macro_ap": "average_precision", "macro_auroc": "auroc"}
"""Objective -> the metric of a label that it averages; macro_f1 averages decisions."""


def compare(
    split: TestSplit,
    settings: Sequence[Scored],
    best: str,
    opponents: Sequence[str],
    resampled: Mapping[str, Resampled | None],
    *,
    objective: str,
    draws: int,
    seed: int,
) -> pd.DataFrame:
    """The rows of `comparisons.csv`: the setting `best` against every opponent that is among the settings.

    Two families, fixed before any score is seen: `average`, the study's objective against each opponent;
    `labels`, the AUROC of each label with at least MIN_PATIENTS positive patients against each
    opponent. A constant opponent ranks nothing, so there the null is that the scores carry no information,
    and the model is tested against its own ranking reversed. Its decisions are decisions like others; what
    macro F1 can be had without a look at an image is that of every label for every image, which takes the
    prevalence's place where it is among the settings.

    Args:
        resampled: of each setting, what `analysis.score_table.score_setting` gave.
        objective: macro_ap, macro_auroc or macro_f1.
        draws, seed: of the permutations.
    """
    by_name = {setting.name: setting for setting in settings}

    def pair(name: str) -> _Pair:
        return _Pair(
            split=split,
            first=by_name[best],
            second=by_name[name],
            first_sums=resampled[best],
            second_sums=resampled[name],
            draws=draws,
            seed=seed,
        )

    rows = []
    for name in opponents:
        if name not in by_name:
            continue
        against = pair(name)
        if objective == "macro_f1":
            floor = ALL_POSITIVE if name == PREVALENCE and ALL_POSITIVE in by_name else name
            rows.append(("average", best, floor, *pair(floor).of_decisions()))
        else:
            rows.append(("average", best, name, *against.on_average(objective)))
        rows += [("labels", best, name, *found) for found in against.by_label()]
    frame = pd.DataFrame(rows, columns=COLUMNS)
    frame["p_holm"] = np.nan
    for _, members in frame.groupby("family"):
        frame.loc[members.index, "p_holm"] = holm(members["p"].to_numpy())
    return frame


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pair:
    """Two settings on one test split; a test is its metric, label, difference, low, high and p."""

    split: TestSplit
    first: Scored
    second: Scored
    first_sums: Resampled
    second_sums: Resampled
    draws: int
    seed: int

    def on_average(self, objective: str) -> tuple:
        metric = RANKINGS[objective]
        return self._average(objective, *self._null[metric], *self._ranked(metric))

    def of_decisions(self) -> tuple:
        observed_C, null_CB = paired_permutation_f1(
            self.split.targets_NC,
            self.first.test_decisions_NC,
            self.second.test_decisions_NC,
            self.split.patients_N,
            draws=self.draws,
            seed=self.seed,
        )
        deviation_CB = f1(self.first_sums.counts) - f1(self.second_sums.counts)
        return self._average("macro_f1", observed_C, null_CB, observed_C, deviation_CB)

    def by_label(self) -> Iterator[tuple]:
        split, (observed_C, null_CB) = self.split, self._null["auroc"]
        difference_C, deviation_CB = self._ranked("auroc")
        for c in np.flatnonzero(split.positive_patients_C >= MIN_PATIENTS):
            patients = int(split.positive_patients_C[c])
            low, high = label_interval(float(difference_C[c]), deviation_CB[c], patients, bounds=None)
            p = permutation_p(float(observed_C[c]), null_CB[c])
            yield "auroc", split.labels[c], difference_C[c], low, high, p

    @cached_property
    def _null(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """auroc and average_precision -> what is tested, and its distribution under the null."""
        first_NC, second_NC = self.first.test_ranked_NC, self.second.test_ranked_NC
        return paired_permutation(
            self.split.targets_NC,
            first_NC,
            -first_NC if self.second.constant else second_NC,
            self.split.patients_N,
            draws=self.draws,
            seed=self.seed,
        )

    def _ranked(self, metric: str) -> tuple[np.ndarray, np.ndarray]:
        """The first setting's metric of rankings less the second's: difference_C, and deviation_CB of it."""
        of_scores = {"average_precision": average_precision, "auroc": auroc}[metric]
        one_C, other_C = (
            of_scores(self.split.targets_NC, setting.test_ranked_NC) for setting in (self.first, self.second)
        )
        mine, theirs = self.first_sums.ranking, self.second_sums.ranking
        return one_C - other_C, getattr(mine, metric) - getattr(theirs, metric)

    def _average(
        self,
        objective: str,
        observed_C: np.ndarray,
        null_CB: np.ndarray,
        difference_C: np.ndarray,
        deviation_CB: np.ndarray,
    ) -> tuple:
        averaged = np.flatnonzero(self.split.averaged_C)
        low, high = average_interval(
            difference_C[averaged],
            deviation_CB[averaged],
            self.split.positive_patients_C[averaged],
            bounds=None,
        )
        p = permutation_p(float(observed_C[averaged].mean()), null_CB[averaged].mean(axis=0))
        return objective, "", difference_C[averaged].mean(), low, high, p
