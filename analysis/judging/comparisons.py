"""The best configuration against its opponents: paired permutation tests over patients, Holm in a family.

Shape legend: N images, C labels, B resamples or draws.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from analysis.judging import label_decisions
from analysis.judging.claims import LEVEL, MARGIN
from analysis.judging.evaluation_set import EvaluationSet
from analysis.judging.scored_row import ScoredRow
from cohort.patients import fewer_side_patients
from scoring import metrics
from scoring.difference_intervals import difference, most_by_one_patient, patients_for_equivalence
from scoring.intervals import MIN_PATIENTS
from scoring.model_output import Resampled
from scoring.objectives import RANKINGS
from scoring.paired_tests import (
    chance_permutation,
    draws_for,
    holm,
    paired_permutation,
    paired_permutation_f1,
    permutation_p,
    smallest_adjusted_p,
)
from trainables.baselines import ALL_POSITIVE, PREVALENCE

AVERAGE, LABELS, DECISIONS = "average", "labels", "decisions"
"""The families."""
COLUMNS = (
    "family",
    "first",
    "second",
    "metric",
    "label",
    "difference",
    "low",
    "high",
    "within",
    "needed",
    "p",
    "patients",
    "rare_labels",
    "rarest",
    "rarest_patients",
)


def compare(
    split: EvaluationSet,
    settings: Sequence[ScoredRow],
    best: str,
    opponents: Sequence[str],
    resampled: Mapping[str, Resampled | None],
    *,
    objective: str,
    draws: int,
    seed: int,
) -> pd.DataFrame:
    """The rows of `comparisons.csv`: the setting `best` against every opponent that is among the settings.

    Three families, fixed before any score is seen: `average`, the study's objective against each opponent;
    `labels`, the AUROC of each label with at least MIN_PATIENTS patients on its smaller side against each
    opponent; `decisions`, the F1 of each of these labels against that of all-positive decisions. A constant
    opponent ranks nothing, so there the null is that the scores carry no information, and the model's
    rankings are reversed in place of swapped. Its decisions are decisions like others; what macro F1 can be
    had without a look at an image is that of all-positive decisions, which take the prevalence's place where
    they are among the settings.

    `within` is the smallest margin within which the two are equivalent, `needed` how many test patients like
    these it takes at least to show it within MARGIN. `patients` are on the smaller side, of an average on
    that of any of its labels; below MIN_PATIENTS an average has a difference and nothing else. An average
    says how many of its labels have fewer than MIN_PATIENTS of their own, and which has the fewest.

    Args:
        resampled: of each setting, what `analysis.judging.score_table.score_setting` gave.
        objective: one of `scoring.objectives.OBJECTIVES`.
        draws, seed: of the permutations; `draws` is raised until a claim is possible in each family.
    """
    by_id = {setting.id: setting for setting in settings}
    present = [id for id in opponents if id in by_id]
    draws = draws_for(largest_family(split, len(present)), draws, LEVEL)

    def pair(id: str) -> _Pair:
        return _Pair(split, by_id[best], by_id[id], resampled[best], resampled[id], draws, seed)

    rows = []
    for id in present:
        against = pair(id)
        if objective == "macro_f1":
            on_average = ALL_POSITIVE if id == PREVALENCE and ALL_POSITIVE in by_id else id
            rows.append((AVERAGE, best, on_average, *pair(on_average).on_average(objective)))
        else:
            rows.append((AVERAGE, best, id, *against.on_average(objective)))
        rows += [(LABELS, best, id, *found) for found in against.by_label()]
    rows += [(DECISIONS, best, ALL_POSITIVE, *found) for found in pair(best).decisions_by_label()]
    return _adjusted(rows)


def compare_averages(
    split: EvaluationSet,
    pairs: Sequence[tuple[ScoredRow, ScoredRow]],
    resampled: Mapping[str, Resampled | None],
    *,
    objective: str,
    draws: int,
    seed: int,
) -> pd.DataFrame:
    """The rows of the family `average` of any pairs of settings; arguments as of `compare`."""
    draws = draws_for(len(pairs), draws, LEVEL)
    rows = []
    for first, second in pairs:
        pair = _Pair(split, first, second, resampled[first.id], resampled[second.id], draws, seed)
        rows.append((AVERAGE, first.id, second.id, *pair.on_average(objective)))
    return _adjusted(rows)


def largest_family(split: EvaluationSet, opponents: int) -> int:
    """How many tests share one correction against so many opponents."""
    return max(1, int((split.fewer_patients_C >= MIN_PATIENTS).sum())) * opponents


def claim_possible(split: EvaluationSet, opponents: int, draws: int) -> bool:
    """Whether any p-value of `compare`, which raises the draws to a bound only, can count in its family."""
    family = largest_family(split, opponents)
    return smallest_adjusted_p(family, draws_for(family, draws, LEVEL)) < LEVEL


def _adjusted(rows: Sequence[tuple]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=COLUMNS)
    frame["p_holm"] = np.nan
    for _, members in frame.groupby("family"):
        frame.loc[members.index, "p_holm"] = holm(members["p"].to_numpy())
    return frame


@dataclass(frozen=True, eq=False)
class _Pair:
    """Two settings on one test split; a test is a row of COLUMNS from the metric on."""

    split: EvaluationSet
    first: ScoredRow
    second: ScoredRow
    first_sums: Resampled
    second_sums: Resampled
    draws: int
    seed: int

    def on_average(self, objective: str) -> tuple:
        split, columns = self.split, np.flatnonzero(self.split.averaged_C)
        if objective == "macro_f1":
            metric, tested, sums = "f1", self._decided, (self.first_sums.counts, self.second_sums.counts)
            one_CB, other_CB = (metrics.f1(counts) for counts in sums)
        else:
            metric = RANKINGS[objective].of_label
            tested = self._ranked[metric]
            one_CB, other_CB = (getattr(x.ranking, metric) for x in (self.first_sums, self.second_sums))
        observed_C, null_CB = tested
        patients = fewer_side_patients(split.targets_NC[:, columns], split.patients_N)
        fewer_C = split.fewer_patients_C[columns]
        rarest = int(fewer_C.argmin())
        rare = int((fewer_C < MIN_PATIENTS).sum()), split.labels[columns[rarest]], int(fewer_C[rarest])
        mean = float(observed_C[columns].mean())
        if patients < MIN_PATIENTS:
            return objective, "", mean, *[np.nan] * 5, patients, *rare
        interval = self._interval(metric, columns, observed_C, one_CB - other_CB)
        p = permutation_p(mean, null_CB[columns].mean(axis=0))
        return objective, "", *interval, p, patients, *rare

    def by_label(self) -> Iterator[tuple]:
        observed_C, null_CB = self._ranked["auroc"]
        deviation_CB = self.first_sums.ranking.auroc - self.second_sums.ranking.auroc
        yield from self._each("auroc", observed_C, null_CB, deviation_CB)

    def decisions_by_label(self) -> Iterator[tuple]:
        """The first setting's F1 of each label against that of the label decided for every image."""
        targets_NC = self.split.targets_NC
        observed_C, null_CB = self._against(np.ones(targets_NC.shape, dtype=bool))
        counts = self.first_sums.counts
        all_positive_CB = label_decisions.all_positive_f1(counts.tp + counts.fn, counts.fp + counts.tn)
        yield from self._each("f1", observed_C, null_CB, metrics.f1(counts) - all_positive_CB)

    def _each(
        self, metric: str, observed_C: np.ndarray, null_CB: np.ndarray, deviation_CB: np.ndarray
    ) -> Iterator[tuple]:
        fewer_C = self.split.fewer_patients_C
        for c in np.flatnonzero(fewer_C >= MIN_PATIENTS):
            interval = self._interval(metric, np.array([c]), observed_C, deviation_CB)
            p = permutation_p(float(observed_C[c]), null_CB[c])
            yield metric, self.split.labels[c], *interval, p, int(fewer_C[c]), np.nan, "", np.nan

    def _interval(
        self, metric: str, columns: np.ndarray, difference_C: np.ndarray, deviation_CB: np.ndarray
    ) -> tuple[float, float, float, float, float]:
        """difference, low, high, within, needed of the mean over some labels."""
        split = self.split
        one_patient = most_by_one_patient(metric, split.targets_NC[:, columns], split.patients_N)
        found = difference(
            difference_C[columns],
            deviation_CB[columns],
            split.fewer_patients_C[columns],
            fewer_side_patients(split.targets_NC[:, columns], split.patients_N),
            one_patient,
        )
        needed = patients_for_equivalence(MARGIN, one_patient, split.own.scored_patients)
        return *found, needed

    @cached_property
    def _ranked(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """auroc and average_precision -> the difference, and its distribution under the null."""
        first_NC, second_NC = self.first.test_ranked_NC, self.second.test_ranked_NC
        known = self.split.targets_NC, self.split.patients_N
        if self.second.constant:
            return chance_permutation(known[0], first_NC, known[1], draws=self.draws, seed=self.seed)
        return paired_permutation(known[0], first_NC, second_NC, known[1], draws=self.draws, seed=self.seed)

    @cached_property
    def _decided(self) -> tuple[np.ndarray, np.ndarray]:
        return self._against(self.second.test_decisions_NC)

    def _against(self, decisions_NC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Difference in F1 from these decisions, and its distribution under the null."""
        return paired_permutation_f1(
            self.split.targets_NC,
            self.first.test_decisions_NC,
            decisions_NC,
            self.split.patients_N,
            draws=self.draws,
            seed=self.seed,
        )
