"""What a study's scores say where there is nothing to find: 256 configurations on features that are noise.

    python -m benchmarks.null_study [studies] [--configurations 256]

100 patients with 1 to 5 images each, alike in features and in labels; four labels on 15 % of the images, 16
features that have nothing to do with them; macro AUROC, so that 0.5 is the truth of every score. Training,
racing between the folds, the choice of the best 40 and the ensemble are those of a study; configurations are
drawn at random, so that what the sampler might learn from noise is left out. Mean over the studies and its
Monte-Carlo error. About 5 s a study on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
import optuna
import torch
from tqdm import tqdm

from benchmarks.machine import processor
from search_spaces.configuration import Configuration
from search_spaces.linear_probe import SPACE
from study.linear_probe import LARGEST_BANK, lagging
from trainables.ensemble import select_ensemble
from trainables.linear_probe import train_bank
from trainables.ranking import ranking
from trainables.records import TrialRecord
from trainables.trial_data import ProbeData

PATIENTS, LABELS, FEATURES, PREVALENCE = 100, 4, 16, 0.15
VALIDATION = 20
"""Patients of the given validation split, which the folds replace."""
FIXED = {"features": "projected", "anchor": "none"}
RANGES = {"epochs": {"low": 10, "high": 40}}


def draw(seed: int) -> ProbeData:
    """A cohort in five folds of patients."""
    rng = np.random.default_rng(seed)
    patients_N = np.repeat(np.arange(PATIENTS), rng.integers(1, 6, PATIENTS))

    def alike(width: int) -> np.ndarray:
        """(N, width), variance 1, of which patients have 0.64 in common."""
        return 0.8 * rng.normal(size=(PATIENTS, width))[patients_N] + 0.6 * rng.normal(
            size=(len(patients_N), width)
        )

    features_ND, evidence_NC = alike(FEATURES), alike(LABELS)
    targets_NC = (evidence_NC > np.quantile(evidence_NC, 1 - PREVALENCE, axis=0)).astype(np.float32)
    held_N = patients_N < VALIDATION
    data = ProbeData(
        rows_N=np.arange(len(patients_N)),
        targets_NC=targets_NC,
        patients_N=patients_N,
        fold_N=np.where(held_N, 0, -1),
        threshold_fold_N=np.where(held_N, patients_N % 3, -1),
        labels=tuple("abcd"),
        objective_labels_C=(targets_NC[held_N] == 1).any(axis=0),
        features_ND=features_ND.astype(np.float32),
    )
    return data.cross_validated(5, 0, 5)


def search(data: ProbeData, configurations: int, seed: int) -> list[TrialRecord]:
    """The records of a study of random configurations, raced as in a study."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    records: list[TrialRecord] = []
    for first in range(0, configurations, LARGEST_BANK):
        bank = [
            Configuration(SPACE, number, SPACE.suggest(study.ask(), FIXED, RANGES))
            for number in range(first, min(first + LARGEST_BANK, configurations))
        ]
        records += train_bank(bank, data, objective_name="macro_auroc", seed=seed, earlier=lagging(records))
    return records


def scores(seed: int, configurations: int) -> dict[str, float]:
    """Of one study, by what they are."""
    data = draw(seed)
    complete = ranking(search(data, configurations, seed))
    answer = select_ensemble(complete, {}, data, objective_name="macro_auroc", seed=seed)
    return {
        "completed configurations, mean": float(np.mean([record.objective for record in complete])),
        "best configuration": complete[0].objective,
        "best configuration, chosen anew without the patients who are scored": answer.best_nested_objective,
        "answer": answer.objective,
        "answer, chosen anew without the patients who are scored": answer.nested_objective,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("studies", type=int, nargs="?", default=24, help="default: %(default)s")
    parser.add_argument("--configurations", type=int, default=256, help="default: %(default)s")
    asked = parser.parse_args(arguments)
    studies, configurations = asked.studies, asked.configurations
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    found = [scores(seed, configurations) for seed in tqdm(range(studies), unit="study")]
    print(f"{studies} studies of {configurations} configurations on noise, macro AUROC, {processor()}")
    for name in found[0]:
        values = np.array([one[name] for one in found])
        print(f"  {name:<68} {values.mean():.3f} ± {values.std(ddof=1) / np.sqrt(studies):.3f}")


if __name__ == "__main__":
    main()
