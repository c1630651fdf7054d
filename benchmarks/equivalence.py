"""How often two models that differ are called equivalent, and how often the interval holds their difference.

    python -m benchmarks.equivalence [repeats]

Patients with 1 to 3 images and a shared patient effect. The second model is the first but for a share of the
patients, whose scores fall below all others (positive patients) or rise above all (negative ones), or for
noise on every score; share and noise are such that the true difference is TRUTH, just beyond the margin. Of
these at most 2.5 % may be called equivalent. Beside the rule in use stand the rule that the error of the
resamples alone would make, and the one with the floor under that error. Then pairs that never differ, of
which none may be called equivalent on few patients. About 8 min at 1,000 repeats on one core.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import stats
from tqdm import tqdm

from analysis.judging.claims import MARGIN
from benchmarks.machine import processor
from cohort.patients import fewer_patients, fewer_side_patients
from scoring import metrics
from scoring.difference_intervals import difference, most_by_one_patient
from scoring.intervals import spread
from scoring.resampling import patient_weights, weighted_confusion, weighted_rankings

RESAMPLES = 200
TRUTH = 0.0215
LARGE = 20_000
"""Patients of the sample that the share is fitted on."""


@dataclass(frozen=True)
class Case:
    """A metric, the patients on either side of each label, how well the first model does (distance of the
    means, in standard deviations), where its threshold lies, and how the second model differs."""

    metric: str
    positives: int
    negatives: int
    distance: float
    change: str
    """`fall`, `rise`, `noise` or `none`."""
    threshold: float = 0.0
    labels: int = 1

    @property
    def name(self) -> str:
        of = f" x {self.labels} labels" if self.labels > 1 else ""
        how = f"distance {self.distance:g}" + (f", cut at {self.threshold:g}" if self.metric == "f1" else "")
        return f"{self.metric}, {self.positives}/{self.negatives}{of}, {how}, {self.change}"

    def draw(self, copies: int, amount: float, rng: np.random.Generator):
        """targets_NC, both models' scores, rows_N; labels have positive patients of their own."""
        patients = (self.positives + self.negatives) * copies
        rows_N = np.repeat(np.arange(patients), rng.choice([1, 2, 3], p=[0.7, 0.2, 0.1], size=patients))
        positive_PC = np.stack(
            [rng.permutation(patients) < self.positives * copies for _ in range(self.labels)], axis=1
        )
        targets_NC = positive_PC[rows_N].astype(float)

        def noise_NC() -> np.ndarray:
            of_patient_PC = rng.normal(size=positive_PC.shape)
            return (of_patient_PC[rows_N] + rng.normal(size=targets_NC.shape)) / np.sqrt(2)

        first_NC = self.distance * targets_NC + noise_NC()
        hit_NC = rng.random(positive_PC.shape)[rows_N] < amount
        second_NC = first_NC.copy()
        if self.change == "fall":
            second_NC[hit_NC & (targets_NC == 1)] = -100
        elif self.change == "rise":
            second_NC[hit_NC & (targets_NC == 0)] = 100
        elif self.change == "noise":
            second_NC += amount * noise_NC()
        return targets_NC, first_NC, second_NC, rows_N

    def values(self, targets_NC, scores_NC, rows_N, weights_PB) -> np.ndarray:
        """(C, B)."""
        if self.metric == "f1":
            decided_NC = scores_NC >= self.threshold
            return metrics.f1(weighted_confusion(targets_NC, decided_NC, rows_N, weights_PB))
        return getattr(weighted_rankings(targets_NC, scores_NC, rows_N, weights_PB), self.metric)

    def differences(self, sample, weights_PB: np.ndarray) -> np.ndarray:
        targets_NC, first_NC, second_NC, rows_N = sample
        one, other = (self.values(targets_NC, s_NC, rows_N, weights_PB) for s_NC in (first_NC, second_NC))
        return one - other

    @cached_property
    def amount(self) -> float:
        """With which the true difference is TRUTH, by bisection on one large sample."""
        if self.change == "none":
            return 0.0
        copies = max(1, LARGE // (self.positives + self.negatives))
        low, high = 0.0, 5.0 if self.change == "noise" else 1.0
        for _ in range(14):
            middle = (low + high) / 2
            sample = self.draw(copies, middle, np.random.default_rng(9))
            ones_P1 = np.ones((int(sample[3].max()) + 1, 1))
            below = self.differences(sample, ones_P1).mean() < TRUTH
            low, high = (middle, high) if below else (low, middle)
        return high


CASES = [
    *(
        Case(metric, n, 9 * n, distance, change, threshold)
        for n in (10, 20, 100, 200, 400)
        for metric, distance, change, threshold in (
            ("f1", 10, "fall", 5),
            ("f1", 1, "fall", 1.5),
            ("auroc", 2, "fall", 0),
            ("auroc", 10, "fall", 0),
            ("auroc", 2, "noise", 0),
            ("average_precision", 2, "rise", 0),
            ("average_precision", 2, "fall", 0),
        )
    ),
    Case("auroc", 100, 10, 2, "rise"),
    Case("auroc", 30, 270, 2, "fall", labels=8),
    Case("average_precision", 30, 270, 2, "fall", labels=8),
]
ALIKE = [Case("auroc", n, m, 10, "none") for n, m in ((12, 88), (12, 12), (100, 900), (300, 2700))]


def called_equivalent(case: Case, repeats: int, seed: int = 1) -> dict[str, float]:
    """Shares of the repeats: equivalent by the resamples' error alone, with the floor, and by the rule in
    use; and how often the interval in use holds the truth."""
    amount, truth = case.amount, 0.0 if case.change == "none" else TRUTH
    rng, found = np.random.default_rng(seed), np.zeros(4)
    for repeat in range(repeats):
        sample = case.draw(1, amount, rng)
        patients = case.positives + case.negatives
        weights_PB = patient_weights(patients, RESAMPLES, repeat)
        weights_PB = np.concatenate([np.ones((patients, 1), np.float32), weights_PB], axis=1)
        drawn_CB = case.differences(sample, weights_PB).astype(np.float64)
        fewer_C = fewer_patients(sample[0], sample[3])
        one_patient = most_by_one_patient(case.metric, sample[0], sample[3])
        behind = fewer_side_patients(sample[0], sample[3])
        rule = difference(drawn_CB[:, 0], drawn_CB[:, 1:], fewer_C, behind, one_patient)
        bare = stats.t.ppf(0.975, fewer_C.sum() - case.labels) * spread(
            drawn_CB[:, 1:].mean(axis=0), int(fewer_C.sum())
        )
        floored = max(abs(rule.low), abs(rule.high))
        within = np.array([abs(rule.value) + bare, floored, rule.within])
        found += (*(within < MARGIN), rule.low <= truth <= rule.high)
    return dict(zip(("error alone", "with floor", "in use", "coverage"), found / repeats, strict=True))


def main(arguments: Sequence[str]) -> None:
    repeats = int(arguments[0]) if arguments else 1000
    start = time.time()
    print(f"{processor()}, {os.cpu_count()} cores; {repeats} repeats; called equivalent within {MARGIN:g}, %")
    print(f"{'':62s}{'error alone':>12s}{'with floor':>12s}{'in use':>9s}{'coverage':>10s}")
    for case in tqdm([*CASES, *ALIKE], disable=None, mininterval=5):
        bare, floor, used, held = (100 * share for share in called_equivalent(case, repeats).values())
        print(f"{case.name:62s}{bare:12.1f}{floor:12.1f}{used:9.1f}{held:10.1f}", flush=True)
    print(f"{time.time() - start:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
