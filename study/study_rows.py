"""What becomes of a finished study: the rows of its table of predictions, and the predictors behind them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from cohort.files import write_atomically
from scoring.predictions import PredictedImages, PredictionRow, Predictions, write_predictions
from study.config import StudyConfig
from study.inputs import Inputs
from study.predictions import state_of_rows
from study.run_folder import RunFolder
from study.selection import ChosenTrial, chosen, split_choice
from study.trainable_study import TrainableStudy, trial_candidate, trial_predictor
from trainables.baselines import BASELINES, METADATA, PROMPTED, RANDOM, ZERO_SHOT
from trainables.baselines.base import Baseline, BaselineInputs
from trainables.baselines.kept_columns import absence
from trainables.candidates import Candidate
from vlm.predictor import Predictor


@dataclass(frozen=True, kw_only=True, eq=False)
class StudyRows:
    """What becomes the rows of a finished study's table."""

    config: StudyConfig
    run: RunFolder
    inputs: Inputs
    trainable: TrainableStudy

    @cached_property
    def baselines(self) -> dict[str, Baseline]:
        """By their ids, in the order of the tables; the records that the study kept are not fitted again."""
        inputs = baseline_inputs(self.config, self.inputs, self.run)
        found = all_baselines(inputs)
        for baseline in found.values():
            if baseline.records and baseline.id not in inputs.kept:
                self.run.write_baseline(baseline.id, baseline.records)
        return found

    @cached_property
    def answer(self) -> Candidate | None:
        """What is made of several configurations; None where the best alone is the answer."""
        return self.trainable.answer()

    @cached_property
    def trials(self) -> dict[str, ChosenTrial]:
        """The configurations that have a row, by their ids."""
        records, top = self.run.records(), self.trainable.analysed(self.config.analysis.top)
        rows = chosen(records, top, with_answer=self.answer is not None)
        if choice := self.run.split_choice():
            rows.append(split_choice(choice))
        return {row.id: row for row in rows}

    def predictor(self, id: str) -> Predictor:
        """That behind a row; LookupError where no head makes its scores, InputError where its weights are
        gone."""
        if self.answer is not None and id == self.answer.id:
            return self.answer.predictor
        if id in self.trials:
            return trial_predictor(self.trainable, self.trials[id])
        return self.baselines[id].candidate(self.inputs.data).predictor

    def table(self) -> Predictions:
        """All rows, with their scores of every image of the cohort."""
        inputs = baseline_inputs(self.config, self.inputs, self.run)
        rows = [baseline.prediction_row(inputs) for baseline in self.baselines.values()]
        candidates = [trial_candidate(self.trainable, row) for row in self.trials.values()]
        candidates += [self.answer] if self.answer else []
        rows += [one.row(inputs.features, inputs.data.rows_N) for one in candidates]
        state = {"state": state_of_rows(self.config, self.run), "study": self.config.name}
        return table_of(inputs, rows, state)


def all_baselines(inputs: BaselineInputs) -> dict[str, Baseline]:
    """By their ids, in the order of the tables."""
    found: dict[str, Baseline] = {}
    for name in BASELINES:
        module = importlib.import_module(f"trainables.baselines.{name}")
        found |= {baseline.id: baseline for baseline in module.fit(inputs)}
    return found


def table_of(inputs: BaselineInputs, rows: Sequence[PredictionRow], facts: Mapping[str, Any]) -> Predictions:
    """The table of these rows, with the folds of the study's development images."""
    cohort, data, encoder = inputs.cohort, inputs.data, inputs.encoder
    fold_N = np.full(cohort.present.num_rows, -1, dtype=np.int64)
    threshold_fold_N = fold_N.copy()
    fold_N[data.rows_N], threshold_fold_N[data.rows_N] = data.fold_N, data.threshold_fold_N
    absent = {METADATA: absence(cohort, data.rows_N)}
    absent |= {id: encoder.text_refusal for id in (ZERO_SHOT, PROMPTED)}
    return Predictions(
        labels=data.labels,
        multiclass=data.multiclass,
        images=PredictedImages(
            image=tuple(cohort.images()),
            patient=tuple(cohort.column("patient")),
            study=tuple(study or "" for study in _column(cohort, "study")),
            split=tuple(cohort.column("split")),
            fold_N=fold_N,
            threshold_fold_N=threshold_fold_N,
        ),
        rows=tuple(rows),
        averaged=tuple(np.array(data.labels)[data.scored_C].tolist()),
        facts={
            "cohort_hash": cohort.content_hash,
            "objective": inputs.objective,
            "encoder": {
                "name": encoder.name,
                "features": list(encoder.features),
                "width": encoder.width,
                "fingerprint": encoder.fingerprint,
            },
            "absent": {id: why for id, why in absent.items() if why},
            **facts,
        },
    )


def _column(cohort: Any, name: str) -> list[Any]:
    return cohort.column(name) if name in cohort.present.column_names else [""] * cohort.present.num_rows


def baseline_inputs(
    config: StudyConfig, inputs: Inputs, run: RunFolder, given_up: Callable[[], bool] = lambda: False
) -> BaselineInputs:
    """What the baselines of a study are fitted on."""
    return BaselineInputs(
        cohort=inputs.cohort,
        data=inputs.data,
        encoder=inputs.encoder,
        features=inputs.features(config.cache),
        objective=config.search.objective,
        seed=config.search.seed,
        kept=run.baseline_records(),
        given_up=given_up,
    )


def keep_predictions(rows: StudyRows) -> Predictions:
    """Compute the table and write it into the run folder."""
    predictions = rows.table()
    write_atomically(rows.run.predictions_file, write_predictions(predictions))
    return predictions


def openers(rows: Callable[[], StudyRows], predictions: Predictions) -> Mapping[str, Callable[[], Predictor]]:
    """Id of a row -> opens the predictor behind it, for the rows that a head makes."""
    return {
        row.id: (lambda id=row.id: rows().predictor(id))
        for row in predictions.rows
        if row.id not in (RANDOM, METADATA)
    }
