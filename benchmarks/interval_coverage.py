"""How often the intervals of `scoring.score_intervals` hold the truth, by simulation.

    python -m benchmarks.interval_coverage [repeats] [--splits 1000] [--truth-from 100000]

Scores are normal, shifted for positives, half of their variance the patient's; of a patient with a finding
the first image shows it and each further one in seven of ten cases. One label with few positive and with few
negative patients, with one image, 1 to 3 and 1 to 10 a patient, ranked by chance and almost perfectly; then
averages over labels, independent and multiclass. Each patient has the finding by chance, so that the
prevalence varies from split to split, but where the number is given as fixed and in averages of independent
labels. A split in which a label has no interval (fewer than ten patients on its smaller side) is not counted.
Beside the interval in use stands, of what is resampled, the percentile interval. Nominal: 95 %.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit
from tqdm import tqdm

from benchmarks.machine import processor
from scoring import metrics
from scoring.effective_patients import LabelPatients
from scoring.metric_table import METRICS, Metric
from scoring.model_output import ModelOutput, Resampled
from scoring.resampling import patient_weights
from scoring.score_intervals import MetricIntervals

RESAMPLES = 1000
AGAIN = 0.7
IMAGES = {
    "1": lambda patients, rng: np.ones(patients, dtype=int),
    "1 to 3": lambda patients, rng: rng.choice([1, 2, 3], p=[0.7, 0.2, 0.1], size=patients),
    "1 to 10": lambda patients, rng: rng.integers(1, 11, patients),
}
"""Images a patient -> how they are drawn."""

Draw = Callable[[int, np.random.Generator], tuple[ModelOutput, np.ndarray]]
"""Copies of the split, a generator -> predictions and the patient of each image."""


@dataclass(frozen=True, kw_only=True)
class OneLabel:
    """A label of a split; called with a number of copies it draws them."""

    positives: int
    negatives: int
    shift: float
    images: str = "1 to 3"
    threshold: float | None = None
    fixed: bool = False

    def __str__(self) -> str:
        number = f"{self.positives}{' (fixed)' if self.fixed else ''} + {self.negatives} patients"
        at = "" if self.threshold is None else f", cut at {self.threshold:g}"
        return f"{number}, {self.images} images, d {self.shift:g}{at}"

    def __call__(self, copies: int, rng: np.random.Generator) -> tuple[ModelOutput, np.ndarray]:
        patients = (self.positives + self.negatives) * copies
        rows_N = np.repeat(np.arange(patients), IMAGES[self.images](patients, rng))
        if self.fixed:
            sick_P = np.arange(patients) < self.positives * copies
        else:
            sick_P = rng.random(patients) < self.positives / (self.positives + self.negatives)
        target_N = (sick_P[rows_N] & shown(rows_N, rng)).astype(float)
        score_N = self.shift * target_N + noise(rows_N, patients, 1, rng)[:, 0]
        cut = 0.6 + self.shift / 2 if self.threshold is None else self.threshold
        return predictions(target_N[:, None], score_N[:, None], np.array([self.shift]), cut), rows_N


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Independent labels of one split, each with a number of positive patients."""

    name: str
    counts: tuple[int, ...]
    patients: int
    images: str

    def __str__(self) -> str:
        return f"{self.name}, {self.patients} patients, {self.images} images"

    def __call__(self, copies: int, rng: np.random.Generator) -> tuple[ModelOutput, np.ndarray]:
        labels, patients = len(self.counts), self.patients * copies
        shift_C = np.linspace(0.4, 2.0, labels)[np.random.default_rng(0).permutation(labels)]
        rows_N = np.repeat(np.arange(patients), IMAGES[self.images](patients, rng))
        sick_PC = np.zeros((patients, labels), dtype=bool)
        for c, count in enumerate(self.counts):
            sick_PC[rng.permutation(patients)[: count * copies], c] = True
        targets_NC = np.stack([sick_PC[rows_N, c] & shown(rows_N, rng) for c in range(labels)], axis=1) * 1.0
        mixing_CC = np.linalg.cholesky(0.3 + 0.7 * np.eye(labels))
        scores_NC = shift_C * targets_NC + noise(rows_N, patients, labels, rng) @ mixing_CC.T
        return predictions(targets_NC, scores_NC, shift_C, 0.6 + shift_C / 2), rows_N


@dataclass(frozen=True, kw_only=True)
class Classes:
    """Multiclass labels, one a patient; the most probable one is decided for."""

    shares: tuple[float, ...]
    patients: int
    images: str

    def __str__(self) -> str:
        return f"{len(self.shares)} multiclass labels, {self.patients} patients, {self.images} images"

    def __call__(self, copies: int, rng: np.random.Generator) -> tuple[ModelOutput, np.ndarray]:
        labels, patients = len(self.shares), self.patients * copies
        rows_N = np.repeat(np.arange(patients), IMAGES[self.images](patients, rng))
        targets_NC = np.eye(labels)[rng.choice(labels, patients, p=self.shares)[rows_N]]
        scores_NC = 1.5 * targets_NC + noise(rows_N, patients, labels, rng) + np.log(self.shares) / 3
        decisions_NC = np.eye(labels, dtype=bool)[scores_NC.argmax(axis=1)]
        drawn = ModelOutput(
            targets_NC=targets_NC, scores_NC=scores_NC, decisions_NC=decisions_NC, multiclass=True
        )
        return drawn, rows_N


LABELS = (
    *(OneLabel(positives=n, negatives=300, shift=d, fixed=n == 10) for n in (10, 20, 50) for d in (0.5, 2.0)),
    *(OneLabel(positives=n, negatives=300, shift=1.0, images="1 to 10") for n in (20, 50, 150)),
    OneLabel(positives=100, negatives=10, shift=1.0, images="1", fixed=True),
    OneLabel(positives=100, negatives=20, shift=1.0),
    OneLabel(positives=100, negatives=20, shift=1.0, images="1 to 10"),
    OneLabel(positives=10, negatives=300, shift=0.0, images="1", threshold=2.0, fixed=True),
    OneLabel(positives=20, negatives=100, shift=3.3),
    OneLabel(positives=10, negatives=990, shift=3.3, images="1", fixed=True),
)
PAPER = (10, 62, 77, 25, 7, 5, 10, 32, 3, 19, 8, 19, 24, 360)
AVERAGES = (
    Labels(name="14 labels, 3 to 360 positives", counts=PAPER, patients=573, images="1"),
    Labels(name="14 labels, 3 to 360 positives", counts=PAPER, patients=573, images="1 to 10"),
    Labels(name="5 labels, 5 to 18 positives", counts=(10, 5, 9, 18, 5), patients=72, images="1 to 10"),
    Labels(name="2 labels, 39 and 9 positives", counts=(39, 9), patients=48, images="1 to 3"),
    Classes(shares=(0.5, 0.3, 0.15, 0.05), patients=120, images="1 to 10"),
)
"""The first: the paper's 573 test images of IU-Xray; the third: a part of ChestX-ray14."""


def shown(rows_N: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """bool: the images that show what the patient has."""
    first_N = np.concatenate([[True], np.diff(rows_N) > 0])
    return first_N | (rng.random(len(rows_N)) < AGAIN)


def noise(rows_N: np.ndarray, patients: int, labels: int, rng: np.random.Generator) -> np.ndarray:
    of_patient_PC = rng.normal(size=(patients, labels))
    return (of_patient_PC[rows_N] + rng.normal(size=(len(rows_N), labels))) / np.sqrt(2)


def predictions(targets_NC, scores_NC, shift_C, cut_C) -> ModelOutput:
    """Probabilities as if every label had a prevalence of 0.27."""
    return ModelOutput(
        targets_NC=targets_NC,
        scores_NC=scores_NC,
        decisions_NC=scores_NC >= cut_C,
        probs_NC=expit(shift_C * (scores_NC - shift_C / 2) - 1),
        prevalences_C=np.full(targets_NC.shape[1], 0.27),
    )


def value(metric: Metric, drawn: ModelOutput) -> float:
    values = metric.values(drawn)
    return float(np.nanmean(values)) if np.ndim(values) else float(values)


def percentile(metric: Metric, resampled: Resampled) -> tuple[float, float]:
    """The plain interval; NaN of what is not resampled."""
    if not metric.replicates:
        return np.nan, np.nan
    replicates = metric.replicates(resampled, metric.values(resampled.predictions))
    mean_B = np.nanmean(np.atleast_2d(replicates), axis=0)
    return tuple(np.percentile(mean_B, [2.5, 97.5]))


def shown_metrics(drawn: ModelOutput, one_label: bool) -> list[Metric]:
    return [
        metric
        for metric in METRICS
        if metric.of in ("any", "multiclass" if drawn.multiclass else "independent")
        and (metric.takes != "probs" or drawn.probs_NC is not None)
        and (metric.scope == "label" or not one_label)
    ]


def coverage(case: Draw, repeats: int, seed: int, splits: int, big: int) -> Iterator[tuple]:
    """Metric, truth, % of intervals in use and % of percentile intervals that hold it, mean width.

    The truth is what an endless split has; of an average of average precisions what a split of this size has
    in expectation.
    """
    rng = np.random.default_rng(seed)
    first, rows_N = case(1, rng)
    one_label = first.targets_NC.shape[1] == 1
    table = shown_metrics(first, one_label)
    endless, _ = case(max(1, big // (int(rows_N.max()) + 1)), rng)
    truth = {metric.name: value(metric, endless) for metric in table}
    if not one_label:
        ranked = (
            np.nanmean(metrics.average_precision(d.targets_NC, d.scores_NC))
            for d, _ in (case(1, rng) for _ in range(splits))
        )
        truth["average_precision"] = float(np.mean(list(ranked)))
    held = {metric.name: [] for metric in table}
    for repeat in range(repeats):
        drawn, rows_N = case(1, rng)
        patients = int(rows_N.max()) + 1
        weights_PB = patient_weights(patients, RESAMPLES, repeat)
        resampled = Resampled(predictions=drawn, rows_N=rows_N, weights_RB=weights_PB)
        of_labels = LabelPatients(targets_NC=drawn.targets_NC, rows_N=rows_N)
        for metric in table:
            found = MetricIntervals(metric=metric, resampled=resampled, patients=of_labels)
            if one_label:
                low, high = found.of_label(0)
            elif metric.scope in ("label", "class"):
                low, high = found.of_average(~np.isnan(metric.values(drawn)))
            else:
                low, high = found.of_all()
            if np.isfinite(low):
                bottom, top = percentile(metric, resampled)
                true = truth[metric.name]
                held[metric.name].append((low <= true <= high, bottom <= true <= top, high - low, top))
    for metric in table:
        used, plain, width, top = np.mean(held[metric.name], axis=0)
        plain = np.nan if np.isnan(top) else 100 * plain
        yield metric.named("" if not one_label else "label"), truth[metric.name], 100 * used, plain, width


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("repeats", type=int, nargs="?", default=1000, help="default: %(default)s")
    parser.add_argument(
        "--splits", type=int, default=1000, help="whose mean is the expected average (default: %(default)s)"
    )
    parser.add_argument(
        "--truth-from",
        type=int,
        default=100_000,
        help="patients from whom the truth is taken (default: %(default)s)",
    )
    asked = parser.parse_args(arguments)
    start = time.time()
    print(f"{processor()}, {os.cpu_count()} cores; {asked.repeats} repeats")
    print(f"{'metric':24s}{'truth':>8s}{'in use':>8s}{'percentile':>12s}{'width':>8s}")
    for case in tqdm([*LABELS, *AVERAGES], disable=None, mininterval=5):
        print(f"{case}:")
        for name, truth, used, plain, width in coverage(
            case, asked.repeats, 0, asked.splits, asked.truth_from
        ):
            beside = f"{plain:12.1f}" if np.isfinite(plain) else f"{'':12s}"
            print(f"  {name:22s}{truth:8.3f}{used:8.1f}{beside}{width:8.3f}", flush=True)
    print(f"{time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
