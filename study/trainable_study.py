"""What differs from trainable to trainable: the contract that each `study/<trainable>.py` keeps."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from study.cluster import Capacity
from study.config import StudyConfig
from study.inputs import Inputs
from study.run_folder import RunFolder
from study.search_plan import SearchPlan
from study.selection import ChosenTrial
from trainables.candidates import Candidate, OutOfFold
from trainables.records import TrialRecord
from vlm.encoders import Encoder
from vlm.predictor import Predictor

ANSWER_NAME = "study"
"""Of the row of an answer that is made of several configurations."""


class TrainableStudy(Protocol):
    """A study's trainable, as the driver runs it and the analysis takes its trials.

    Made from its inputs at no cost; what only training needs is made by `prepare`. Holds nothing of the test
    split.
    """

    space: ModuleType
    """Its module of `search_spaces`; what that holds is said there."""
    config: StudyConfig
    inputs: Inputs

    def __init__(self, config: StudyConfig, inputs: Inputs, run: RunFolder) -> None: ...

    def prepare(self, echo: Callable[[str], None]) -> None:
        """Make what trials need, and say what takes long; InputError where the inputs do not allow it."""

    def shared_folders(self) -> Mapping[str, Path]:
        """Folders of this machine, by what they hold, that every node on which a trial runs must see."""

    def presets(self) -> Mapping[str, Mapping[str, Any]]:
        """The published configurations by name, on the features that this encoder has."""

    def plan(self, capacity: Capacity, done: int, deadline: float) -> SearchPlan: ...

    def known_to_bank(self, records: Sequence[TrialRecord]) -> Mapping[str, Any]:
        """What a bank knows of the earlier ones, such as below which objective a trial is stopped."""

    def announcement(self, plan: SearchPlan, capacity: Capacity) -> list[str]:
        """What is about to be done, in lines."""

    def trainable(self, plan: SearchPlan, capacity: Capacity) -> tuple[Any, Any]:
        """The Tune trainable with its resources, and the scheduler that stops lagging trials or None.

        What it reports holds `objective`, finite, and `bank_file`: its records by `bank_files.pack_bank`."""

    def tidy(self, records: Iterable[TrialRecord]) -> None:
        """Delete what no finished trial needs; called after each."""

    def close(self, records: Iterable[TrialRecord], deadline: float) -> list[str]:
        """The last look at a finished search, given up at the deadline, a `time.time()`; the lines that say
        what came of it."""

    def answer(self) -> Candidate | None:
        """What a finished study answers with where it is made of several trials, as the row of the
        role `answer`; None where the best trial alone is its answer."""

    def analysed(self, top: int) -> int:
        """How many of the best, `top` or fewer, can be analysed: those whose weights are kept."""

    def encoder(self, record: TrialRecord) -> Encoder:
        """What a finished trial's head stands on; InputError where its weights are gone."""


def trainable_study(config: StudyConfig, inputs: Inputs, run: RunFolder) -> TrainableStudy:
    """That of the configuration's trainable: `LinearProbeStudy` in `study/linear_probe.py`, say."""
    module = importlib.import_module(f"study.{config.trainable}")
    name = config.trainable.title().replace("_", "") + "Study"
    return getattr(module, name)(config, inputs, run)


def trial_predictor(trainable: TrainableStudy, row: ChosenTrial) -> Predictor:
    """A finished configuration with a head; InputError where its weights are gone."""
    return row.record.predictor(
        row.name,
        trainable.inputs.cohort.labels,
        trainable.encoder(row.record),
        note=row.note,
        study=trainable.config.name,
        trainable=trainable.config.trainable,
    )


def trial_candidate(trainable: TrainableStudy, row: ChosenTrial) -> Candidate:
    """The same on its way into the tables."""
    inputs, record, predictor = trainable.inputs, row.record, trial_predictor(trainable, row)
    if record.held_out_MC is not None and record.fold_objectives:
        own = OutOfFold(inputs.data.rows_N[inputs.data.judged_N()], record.held_out_MC)
    else:
        own = scores_on_validation(predictor, inputs, trainable.config.cache)
    return Candidate(id=row.id, role=row.role, predictor=predictor, out_of_fold=own)


def scores_on_validation(predictor: Predictor, inputs: Inputs, cache: str) -> OutOfFold:
    """Of what was trained on the training split: it has not seen the validation split."""
    rows_N = inputs.given.rows_N[inputs.given.judged_N()]
    features_ND = inputs.features(cache)(predictor.encoder, predictor.precision)
    return OutOfFold(rows_N, predictor.scores(features_ND[rows_N]))
