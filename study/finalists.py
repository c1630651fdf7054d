"""The finalists again, over seeds and over splits: how much of the best score was luck.

The best of many configurations is chosen by the very number that is reported for it. Training the few best
once more, with other seeds and with the training and validation patients dealt anew, shows what remains.
Test images take no part.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch

from cohort.patients import patient_folds
from trainables.linear_probe import ProbeData
from trainables.ray_trainables import train_configurations
from trainables.records import TrialRecord

REPEATS = 5


@dataclass(frozen=True, kw_only=True)
class Repeated:
    """One configuration's objective on validation over its repeats; every value is kept."""

    number: int
    selected: float
    """The objective by which it was chosen, the largest of many and so biased upwards."""
    seeds: list[float]
    """The study's own split, another order of the minibatches, and other initial weights each time."""
    splits: list[float]
    """Training and validation patients dealt into folds, each fold once the validation side."""


@dataclass(frozen=True)
class Finalists:
    """The best configurations of a study, repeated."""

    objective: str
    repeated: list[Repeated]

    def lines(self) -> list[str]:
        """For reading: mean and standard deviation over the repeats beside the score of the choice."""
        if not self.repeated:
            return []
        return [
            f"finalists trained again, {self.objective} on validation (mean ± deviation of {REPEATS}):",
            *(
                f"  #{one.number:<4} chosen at {one.selected:.3f}; other seeds {_spread(one.seeds)}; "
                f"patients dealt anew {_spread(one.splits)}"
                for one in self.repeated
            ),
        ]

    def to_json(self) -> str:
        plain = {"objective": self.objective, "repeated": [asdict(one) for one in self.repeated]}
        return json.dumps(plain | {"lines": self.lines()}, indent=1)


def repeat_finalists(
    finalists: Sequence[TrialRecord],
    data: ProbeData,
    train_patients_N: np.ndarray,
    *,
    seed: int,
    batch_size: int,
    objective: str,
) -> Finalists:
    """Train the finalists `REPEATS` times on the study's split and `REPEATS` times on dealt-anew patients.

    Args:
        finalists: completed configurations, the best first.
        data: the study's training and validation.
        train_patients_N: int64 patient codes of the training images, of one coding with `val_patients_N`.
        seed: the study's seed; the repeats use others.
    """
    if not finalists:
        return Finalists(objective, [])
    # The paper's configuration trains in a bank of its own, as it does in the study.
    groups = [[one for one in finalists if (one.number == 0) == paper] for paper in (True, False)]
    by_seed: dict[int, list[float]] = {one.number: [] for one in finalists}
    by_split: dict[int, list[float]] = {one.number: [] for one in finalists}

    def train(group: Sequence[TrialRecord], on: ProbeData, seeds: Sequence[int], into: dict) -> None:
        """One bank: every finalist of the group under every seed."""
        bank = [{"number": one.number, "params": one.params, "seed": s} for one in group for s in seeds]
        for record in train_configurations(
            bank, on, seed=seeds[0], batch_size=batch_size, objective=objective
        ):
            into[record.number].append(record.objective)

    dealt = _dealt(data, train_patients_N, seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # heads so few leave a second thread nothing but waiting
    try:
        for group in filter(None, groups):
            train(group, data, range(seed + 1, seed + 1 + REPEATS), by_seed)
            for repeat, on in enumerate(dealt):
                train(group, on, [seed + 1 + repeat], by_split)
    finally:
        torch.set_num_threads(threads)
    return Finalists(
        objective,
        [
            Repeated(
                number=one.number,
                selected=one.objective,
                seeds=by_seed[one.number],
                splits=by_split[one.number],
            )
            for one in finalists
        ],
    )


def _dealt(data: ProbeData, train_patients_N: np.ndarray, seed: int) -> list[ProbeData]:
    """The study's training and validation images as folds by patient, each fold once the validation side."""
    features_ND = np.concatenate([data.train_features_ND, data.val_features_ND])
    targets_NC = np.concatenate([data.train_targets_NC, data.val_targets_NC])
    patients_N = np.concatenate([train_patients_N, data.val_patients_N])
    folds_N = patient_folds(targets_NC, patients_N, folds=REPEATS, seed=seed)
    dealt = []
    for fold in range(REPEATS):
        held_N = folds_N == fold
        held_NC = targets_NC[held_N]
        both_C = (held_NC == 1).any(axis=0) & (held_NC == 0).any(axis=0)
        dealt.append(
            replace(
                data,
                train_features_ND=features_ND[~held_N],
                train_targets_NC=targets_NC[~held_N],
                val_features_ND=features_ND[held_N],
                val_targets_NC=held_NC,
                val_patients_N=patients_N[held_N],
                val_folds_N=patient_folds(held_NC, patients_N[held_N], seed=seed),
                objective_labels_C=data.objective_labels_C & both_C,
            )
        )
    return dealt


def _spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"
