"""What a baseline is fitted on, and what it leaves: ordinary records.

Shape legend: N images, C labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cohort.manifest import Cohort
from scoring.predictions import BASELINE, Origin, PredictionRow
from trainables.candidates import Candidate, Features, OutOfFold
from trainables.records import TrialRecord
from trainables.trial_data import ProbeData
from vlm.encoders import Encoder


class GivenUp(Exception):
    """Nobody waits for the baselines any more."""


@dataclass(frozen=True, kw_only=True, eq=False)
class BaselineInputs:
    """Development images under a study's encoder; of a test image nothing but its pixels."""

    cohort: Cohort
    data: ProbeData
    """Training and validation in the folds in which the study judges."""
    encoder: Encoder
    features: Features
    """Of the cohort under any encoder."""
    objective: str
    """One of `scoring.judging.OBJECTIVES`, by which a baseline's own settings are chosen on validation."""
    seed: int = 0
    kept: Mapping[str, tuple[TrialRecord, ...]] = field(default_factory=dict)
    """Id of a baseline -> records that need not be fitted again."""
    given_up: Callable[[], bool] = lambda: False
    """Asked before each long step; where it says so the baseline raises GivenUp."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Baseline:
    """One row of the tables."""

    id: str
    note: str
    """What it knows, for the reader of a table."""
    records: tuple[TrialRecord, ...] = ()
    """One for each setting that was tried; their heads stand on `encoder`."""
    encoder: Encoder | None = None
    """None: no head makes its scores."""
    row: PredictionRow | None = field(default=None)
    """Of what no head makes."""

    @property
    def name(self) -> str:
        return name_of(self.id)

    @property
    def chosen(self) -> TrialRecord:
        """The best by the study's objective; of equally good ones the first."""
        return chosen(self.records)

    def candidate(self, data: ProbeData) -> Candidate:
        """With the head of the chosen record."""
        record = self.chosen
        predictor = record.predictor(self.name, data.labels, self.encoder, note=self.note)
        own = record.held_out_MC
        kept = None if own is None else OutOfFold(data.rows_N[data.judged_N()], own)
        return Candidate(id=self.id, role=BASELINE, predictor=predictor, out_of_fold=kept)

    def prediction_row(self, inputs: BaselineInputs) -> PredictionRow:
        """Its scores of every image of the cohort."""
        if self.row is not None:
            return self.row
        return self.candidate(inputs.data).row(inputs.features, inputs.data.rows_N)


def name_of(id: str) -> str:
    """How the row of an id is called, which is also its file."""
    return id.partition("/")[2]


def chosen(records: Sequence[TrialRecord]) -> TrialRecord:
    """The best by the study's objective; of equally good ones the first."""
    return max(records, key=lambda record: record.objective)


def row_of_record(id: str, note: str, record: TrialRecord, scores_NC: np.ndarray) -> PredictionRow:
    """A row whose scores no head on an encoder makes."""
    return PredictionRow(
        id=id,
        name=name_of(id),
        role=BASELINE,
        origin=Origin(note=note, params=record.params, objective=record.objective),
        rule=record.rule(),
        ranks_only=record.ranks_only,
        constant=bool(record.arrays) and not record.head.weight_DC.any(),
        scores_NC=scores_NC,
    )
