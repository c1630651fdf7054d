"""How often the intervals of `scoring.intervals` hold the truth, by simulation.

    python -m benchmarks.interval_coverage [repeats]

Patients with 1 to 3 images and a shared patient effect; scores normal, shifted for positives. One label at
10, 20 and 50 positive patients among 300 others, easy and hard; then averages over the labels of two real
test splits. Beside the interval in use stands the percentile interval of the same replicates. Nominal: 95 %.
About 80 s at 1,000 repeats on one core.
"""

from __future__ import annotations

import os
import sys
import time

import numpy as np
from tqdm import tqdm

from benchmarks.machine import processor
from scoring import metrics
from scoring.intervals import average_interval, label_interval
from scoring.resampling import patient_weights, weighted_confusion, weighted_ranking, weighted_rankings

RESAMPLES = 1000
METRICS = ("auroc", "average_precision", "f1", "recall", "precision")
CASES = {
    # Positive patients of each label, all patients, chance of a further image of the same patient.
    "14 labels, 3 to 360 positives": (
        np.array([10, 62, 77, 25, 7, 5, 10, 32, 3, 19, 8, 19, 24, 360]),
        573,
        0.0,
    ),
    "5 labels, 5 to 18, clustered": (np.array([10, 5, 9, 18, 5]), 72, 0.63),
}
"""Averages: the paper's 573 test images of IU-Xray, and the 72 test patients of a part of ChestX-ray14."""


def draw(positives: int, others: int, shift: float, rng: np.random.Generator):
    """Targets, scores and patients: patient effect and image effect half of the variance each."""
    patients = positives + others
    rows_N = np.repeat(np.arange(patients), rng.choice([1, 2, 3], p=[0.7, 0.2, 0.1], size=patients))
    targets_N = (rows_N < positives).astype(float)
    noise_N = rng.normal(size=patients)[rows_N] + rng.normal(size=len(rows_N))
    return targets_N, shift * targets_N + noise_N / np.sqrt(2), rows_N


def values(targets_N, scores_N, rows_N, weights_RB, threshold: float) -> dict[str, np.ndarray]:
    counts = weighted_confusion(targets_N[:, None], scores_N[:, None] >= threshold, rows_N, weights_RB)
    return {
        **weighted_ranking(targets_N, scores_N, rows_N, weights_RB)._asdict(),
        "f1": metrics.f1(counts)[0],
        "recall": metrics.recall(counts)[0],
        "precision": metrics.precision(counts)[0],
    }


def one_label(positives: int, shift: float, repeats: int, rng: np.random.Generator) -> dict[str, tuple]:
    threshold = 0.6 + shift / 2
    big = draw(positives * 300, 300 * 300, shift, rng)  # the truth, at the same prevalence
    truth = {name: v[0] for name, v in values(*big, np.ones((300 * (positives + 300), 1)), threshold).items()}
    hits = {name: np.zeros(2) for name in METRICS}
    for repeat in range(repeats):
        sample = draw(positives, 300, shift, rng)
        weights_RB = patient_weights(positives + 300, RESAMPLES, repeat)
        weights_RB = np.concatenate([np.ones((len(weights_RB), 1), np.float32), weights_RB], axis=1)
        for name, v in values(*sample, weights_RB, threshold).items():
            low, high = label_interval(float(v[0]), v[1:], positives)
            bottom, top = np.percentile(v[1:], [2.5, 97.5])
            hits[name] += (low <= truth[name] <= high, bottom <= truth[name] <= top)
    return {name: (truth[name], *(100 * count / repeats)) for name, count in hits.items()}


def average(
    counts_C: np.ndarray, patients: int, again: float, repeats: int, rng: np.random.Generator
) -> dict[str, tuple]:
    """Coverage of the mean AUROC and average precision over labels, those under ten positives included.

    Truth is the expected value on a split of this size, from 2,000 further splits; then on an endless split.
    """
    labels = len(counts_C)
    shifts_C = np.linspace(0.4, 2.0, labels)[np.random.default_rng(0).permutation(labels)]
    mixing_CC = np.linalg.cholesky(0.3 + 0.7 * np.eye(labels))

    def sample(copies: int = 1):
        """Each positive patient's first image is positive, a further one in seven of ten cases."""
        images_P = rng.geometric(1 - again, size=patients * copies)
        rows_N = np.repeat(np.arange(patients * copies), images_P)
        first_N = np.concatenate([[True], np.diff(rows_N) > 0])
        targets_NC = np.zeros((len(rows_N), labels))
        for c, count in enumerate(counts_C):
            sick_P = np.zeros(patients * copies, dtype=bool)
            sick_P[rng.permutation(patients * copies)[: count * copies]] = True
            targets_NC[:, c] = sick_P[rows_N] & (first_N | (rng.random(len(rows_N)) < 0.7))
        of_patient_PC = rng.normal(size=(patients * copies, labels))
        noise_NC = (of_patient_PC[rows_N] + rng.normal(size=targets_NC.shape)) / np.sqrt(2)
        return targets_NC, shifts_C * targets_NC + noise_NC @ mixing_CC.T, rows_N

    def both(*arguments) -> np.ndarray:
        return np.stack(weighted_rankings(*arguments))

    one_P1 = np.ones((patients, 1))
    endless = both(*sample(300), np.ones((patients * 300, 1)))[:, :, 0].mean(axis=1)
    expected = np.mean([both(*sample(), one_P1)[:, :, 0].mean(axis=1) for _ in range(2000)], axis=0)
    hits = np.zeros((2, 2, 2))
    for repeat in range(repeats):
        weights_RB = patient_weights(patients, RESAMPLES, repeat)
        weights_RB = np.concatenate([one_P1.astype(np.float32), weights_RB], axis=1)
        for metric, values_CB in enumerate(both(*sample(), weights_RB)):
            low, high = average_interval(values_CB[:, 0].astype(float), values_CB[:, 1:], counts_C)
            bottom, top = np.percentile(values_CB[:, 1:].mean(axis=0), [2.5, 97.5])
            for kind, truth in enumerate((expected[metric], endless[metric])):
                hits[metric, kind] += (low <= truth <= high, bottom <= truth <= top)
    return {
        f"macro {name}, {kind}": (truth[metric], *(100 * hits[metric, k] / repeats))
        for metric, name in enumerate(("auroc", "ap"))
        for k, (kind, truth) in enumerate((("expected", expected), ("endless", endless)))
    }


def main() -> None:
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    rng = np.random.default_rng(0)
    start = time.time()
    cases = [(positives, shift) for positives in (10, 20, 50) for shift in (0.5, 1.0, 2.0)]
    print(f"{processor()}, {os.cpu_count()} cores; {repeats} repeats")
    print(f"{'':30s}{'metric':22s}{'truth':>8s}{'in use':>8s}{'percentile':>12s}")
    for positives, shift in tqdm(cases, disable=None, mininterval=5):
        for name, (truth, used, percentile) in one_label(positives, shift, repeats, rng).items():
            where = f"{positives} positive patients, d {shift:g}"
            print(f"{where:30s}{name:22s}{truth:8.3f}{used:8.1f}{percentile:12.1f}", flush=True)
    for case, arguments in CASES.items():
        for name, (truth, used, percentile) in average(*arguments, repeats, rng).items():
            print(f"{case:30s}{name:22s}{truth:8.3f}{used:8.1f}{percentile:12.1f}", flush=True)
    print(f"{time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
