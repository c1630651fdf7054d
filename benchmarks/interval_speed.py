"""Time of the test analysis on IU-Xray's scale: 575 images, 14 labels, 10 settings, 10,000 resamples.

    python -m benchmarks.interval_speed [--resamples 10000]

Prints CPU seconds for the intervals of all settings and for one paired test; about 5 s on one core.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence

import numpy as np

from analysis.judging.evaluation_set import EvaluationSet
from analysis.judging.score_table import score_setting
from analysis.judging.scored_row import ScoredRow
from benchmarks.machine import processor
from cohort.labels import CHEXPERT_14
from scoring.decision_rule import DecisionRule
from scoring.paired_tests import paired_permutation
from scoring.predictions import TRIAL, Origin
from scoring.resampling import patient_weights

IMAGES, PATIENTS, SETTINGS = 575, 555, 10
POSITIVES = (10, 62, 77, 25, 7, 5, 10, 32, 3, 19, 8, 19, 24, 360)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--resamples", type=int, default=10_000, help="default: %(default)s")
    resamples = parser.parse_args(arguments).resamples
    rng = np.random.default_rng(0)
    targets_NC = np.zeros((IMAGES, len(CHEXPERT_14)))
    for c, count in enumerate(POSITIVES):
        targets_NC[rng.permutation(IMAGES)[:count], c] = 1
    split = EvaluationSet(
        rows_N=np.arange(IMAGES),
        targets_NC=targets_NC,
        patients_N=np.arange(IMAGES) % PATIENTS,
        labels=CHEXPERT_14,
        averaged_C=np.ones(len(CHEXPERT_14), dtype=bool),
        prevalences_C=np.array(POSITIVES) / IMAGES,
        counts=(),
    )
    settings = [
        ScoredRow(
            id=f"trial/{k}",
            name=f"setting-{k}",
            role=TRIAL,
            origin=Origin(note=""),
            rule=DecisionRule.fixed(len(CHEXPERT_14)),
            ranks_only=False,
            constant=False,
            val_scores_NC=np.zeros((1, len(CHEXPERT_14))),
            test_scores_NC=rng.normal(size=targets_NC.shape) + targets_NC,
        )
        for k in range(SETTINGS)
    ]
    print(f"{processor()}, {os.cpu_count()} cores")
    start = time.process_time()
    weights_PB = patient_weights(split.patients, resamples, seed=0)
    for setting in settings:
        score_setting(split, setting, weights_PB)
    columns = len(split.labels) + len(split.domains)
    rows = f"{SETTINGS} settings, {columns} labels and domains, {resamples:,} resamples"
    print(f"{rows}: {time.process_time() - start:.1f} s CPU")
    start = time.process_time()
    first, second = settings[0].test_scores_NC, settings[1].test_scores_NC
    paired_permutation(targets_NC, first, second, split.patients_N, draws=resamples)
    print(f"one paired test of two settings, {resamples:,} draws: {time.process_time() - start:.1f} s CPU")


if __name__ == "__main__":
    main()
