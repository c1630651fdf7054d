"""The finalists again, over seeds and over splits: how much of the best score was luck.

The best of many configurations is chosen by the very number that is reported for it. Training the few best
once more, with other seeds and with the training and validation patients split anew, shows what remains.
Test images take no part.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch

from analysis.number_format import mean_and_deviation
from cohort.errors import InputError
from cohort.patients import patient_folds
from search_spaces.configuration import Configuration
from search_spaces.linear_probe import SPACE
from trainables.bank_training import training_of
from trainables.linear_probe import train_bank
from trainables.records import TrialRecord
from trainables.trial_data import ProbeData

REPEATS = 5


@dataclass(frozen=True, kw_only=True)
class Repeated:
    """One configuration's objective on validation over its repeats; every value is kept."""

    number: int
    selected: float
    """The objective by which it was chosen, the largest of many and so biased upwards."""
    seeds: list[float]
    """The study's own split, another order of the minibatches each time."""
    splits: list[float]
    """Training and validation patients split into folds, each fold once the validation side; empty where
    there are too few patients."""


@dataclass(frozen=True)
class Repeats:
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
                f"patients split anew {_spread(one.splits)}"
                for one in self.repeated
            ),
        ]

    def to_json(self) -> str:
        plain = {"objective": self.objective, "repeated": [asdict(one) for one in self.repeated]}
        return json.dumps(plain | {"lines": self.lines()}, indent=1)


def repeat_finalists(
    finalists: Sequence[TrialRecord],
    data: ProbeData,
    *,
    seed: int,
    batch_size: int,
    objective: str,
    deadline: float = math.inf,
) -> Repeats:
    """Train the finalists `REPEATS` times on the study's split and `REPEATS` times on patients split anew.

    Args:
        finalists: completed configurations, the best first.
        data: the study's training and validation.
        seed: the study's seed; the repeats use others.
        deadline: `time.time()` at which they are given up.

    Raises:
        TimeoutError: the deadline passed before all were trained.
    """
    if not finalists:
        return Repeats(objective, [])
    # A published configuration trains in a bank of its own, as it does in the study.
    groups = [[one for one in finalists if bool(one.preset) == preset] for preset in (True, False)]
    by_seed: dict[int, list[float]] = {one.number: [] for one in finalists}
    by_split: dict[int, list[float]] = {one.number: [] for one in finalists}

    def train(group: Sequence[TrialRecord], on: ProbeData, seed: int, into: dict) -> None:
        """One bank: the finalists of the group."""
        bank = [Configuration(SPACE, one.number, one.params, seed=seed, preset=one.preset) for one in group]
        training = training_of(group[0].preset, batch_size)
        records = train_bank(
            bank, on, training=training, seed=seed, objective_name=objective, deadline=deadline
        )
        if len(records) < len(bank):
            raise TimeoutError
        for record in records:
            into[record.number].append(record.objective)

    resplit = _resplit(data, seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # heads so few leave a second thread nothing but waiting
    try:
        for group in filter(None, groups):
            for repeat in range(REPEATS):
                train(group, data, seed + 1 + repeat, by_seed)
            for repeat, on in enumerate(resplit):
                train(group, on, seed + 1 + repeat, by_split)
    finally:
        torch.set_num_threads(threads)
    return Repeats(
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


def _resplit(data: ProbeData, seed: int) -> list[ProbeData]:
    """The study's training and validation images as folds by patient, each fold once the validation side;
    none where the patients are too few for folds within folds, or a fold leaves no label to average."""
    try:
        folds_N = patient_folds(data.targets_NC, data.patients_N, folds=REPEATS, seed=seed)
        return [data.resplit(folds_N == fold, seed) for fold in range(REPEATS)]
    except InputError:
        return []


def _spread(values: Sequence[float]) -> str:
    return mean_and_deviation(values) if values else "(too few patients)"
