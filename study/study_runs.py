"""The runs of one study in MLflow: a parent run of the study, a child run of each configuration."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.validation import MAX_DATASET_DIGEST_SIZE, MAX_PARAM_VAL_LENGTH

from cohort.files import write_atomically
from study.credentials import masked
from study.mlflow_experiment import experiment_of_studies
from study.mlflow_store import open_store
from study.runs_view import (
    STUDIES,
    VIEW_TAG,
    VIEWS,
    own_views,
    page_of_view,
    saved_view,
    studies_view,
    study_view,
)
from study.tracked_study import (
    BEST_RUN_TAG,
    BEST_TAG,
    OBJECTIVE_TAG,
    TrackedStudy,
    description,
    with_own_words,
)
from trainables.ranking import ranking
from trainables.records import TrialRecord

NUMBER_TAG = "radtune.trial"
RESULT_TAG = "radtune.result"
"""Says which result of a configuration its run holds: one that is lost and trained again replaces it."""
NOTE_TAG = "mlflow.note.content"
STATUS = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}
"""State of a configuration -> status of its run: MLflow has none for stopped early, but shows this one."""
CURVE_EPOCHS = 50
"""Most epochs of a learning curve that a run puts into the store, evenly spread to the last; the run folder
holds all of them."""


class StudyRuns:
    """What a store holds of one study; every method raises what MLflow raises.

    Args:
        uri: absolute tracking URI.
        study: what MLflow records of the study.
        run_file: keeps the id of the study's parent run, which is found again by it; made where there is
            none.
    """

    def __init__(self, uri: str, study: TrackedStudy, run_file: Path) -> None:
        self._study = study
        self._client = open_store(uri)
        self._experiment, self.renamed = experiment_of_studies(self._client, uri)
        self._results: dict[int, str] = {}
        """`RESULT_TAG` of what is logged."""
        parent = self._parent_run(run_file)
        self._introduce(parent)
        self.ids = self._runs_in_store(parent)
        """Of every configuration in the store, by number."""
        self.parent = parent
        """Id of the study's parent run."""

    def holds(self, record: TrialRecord) -> bool:
        """Whether this result of a configuration is logged."""
        return record.number in self.ids and self._results[record.number] == _result(record)

    def put(self, record: TrialRecord) -> None:
        """Log a configuration, in place of an earlier result of it."""
        if record.number in self.ids:
            self._client.delete_run(self.ids.pop(record.number))
        self.ids[record.number] = self._log(record)
        self._results[record.number] = _result(record)

    def end(
        self, records: Iterable[TrialRecord], artifacts: Iterable[Path], metrics: Mapping[str, float]
    ) -> None:
        """Mark the best, keep figures and files with the parent run, and end it."""
        self._tag_best(records)
        log_figures(self._client, self.parent, metrics)
        describe(self._client, self.parent)
        for path in artifacts:
            self._keep(path)
        self._client.set_terminated(self.parent)

    def abandon(self) -> None:
        """End the parent run of a study that was stopped."""
        self._client.set_terminated(self.parent, status="KILLED")

    def _parent_run(self, note: Path) -> str:
        """The study's parent run: the one noted, or a new one."""
        if note.exists():
            try:
                run_id = note.read_text(errors="replace").strip()
                if self._client.get_run(run_id).info.experiment_id == self._experiment:
                    self._client.update_run(run_id, status="RUNNING")
                    return run_id
            except MlflowException:
                pass  # another store than before: the study starts a parent run there
        study = self._study
        tags = {**study.tags, OBJECTIVE_TAG: study.objective}
        run = self._client.create_run(self._experiment, run_name=study.name, tags=tags)
        write_atomically(note, f"{run.info.run_id}\n".encode())
        return run.info.run_id

    def _introduce(self, parent: str) -> None:
        """Tell what holds for the whole study, and how the runs page is to show it."""
        client, study = self._client, self._study
        run = client.get_run(parent)
        client.log_batch(
            parent,
            params=[
                Param(name, _text(value)[:MAX_PARAM_VAL_LENGTH])
                for name, value in study.params.items()
                if name not in run.data.params  # MLflow lets none be written twice
            ],
        )
        cohort = Dataset(
            name=Path(study.cohort).name,
            digest=study.cohort_hash[:MAX_DATASET_DIGEST_SIZE],
            source_type="local",
            source=json.dumps({"uri": study.cohort}),
            profile=json.dumps({"content_hash": study.cohort_hash, "labels": study.labels}),
        )
        client.log_inputs(parent, [DatasetInput(cohort, [InputTag("mlflow.data.context", "development")])])
        began = run.info.start_time / 1000
        views = {
            parent: saved_view(study.name, study_view(parent, study.objective, study.searched), began),
            STUDIES: saved_view("All studies", studies_view(study.objective), 0),
        }
        for key, view in views.items():
            client.set_experiment_tag(self._experiment, VIEW_TAG + key, view)
        views = own_views(client.get_experiment(self._experiment).tags)
        for key in [key for key in views if key != STUDIES][VIEWS:]:
            with suppress(MlflowException):  # another study that began at the same moment did so
                client.delete_experiment_tag(self._experiment, VIEW_TAG + key)
        describe(client, parent)

    def _tag_best(self, records: Iterable[TrialRecord]) -> None:
        """Mark the best configuration on validation, and it alone."""
        ranked = ranking(records)
        if not ranked:
            return
        best = self.ids[ranked[0].number]
        before = self._client.get_run(self.parent).data.tags.get(BEST_RUN_TAG)
        if before and before != best:
            with suppress(MlflowException):  # it was deleted, and logged anew
                self._client.delete_tag(before, BEST_TAG)
        self._client.set_tag(best, BEST_TAG, "yes")
        self._client.set_tag(self.parent, BEST_RUN_TAG, best)

    def _keep(self, path: Path) -> None:
        """Keep a file with the study's run; a study file without the store's credentials."""
        if path.suffix == ".yaml":
            self._client.log_text(self.parent, masked(path.read_text(encoding="utf-8")), path.name)
        else:
            self._client.log_artifact(self.parent, str(path))

    def _runs_in_store(self, parent: str) -> dict[int, str]:
        """Whole child runs by number; a run whose logging was cut off is deleted, to be logged anew."""
        logged: dict[int, str] = {}
        for run in self._children(parent):
            number = int(run.data.tags[NUMBER_TAG])
            if run.info.status == "RUNNING" or number in logged:
                self._client.delete_run(run.info.run_id)
            else:
                logged[number] = run.info.run_id
                self._results[number] = run.data.tags.get(RESULT_TAG, "")
        return logged

    def _children(self, parent: str) -> list[Run]:
        runs: list[Run] = []
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment],
                filter_string=f"tags.`mlflow.parentRunId` = '{parent}'",
                max_results=1000,
                page_token=token,
            )
            runs += page
            token = page.token
            if not token:
                return [run for run in runs if NUMBER_TAG in run.data.tags]

    def _log(self, record: TrialRecord) -> str:
        now = int(time.time() * 1000)
        tags = {
            **self._study.tags,
            "mlflow.parentRunId": self.parent,
            NUMBER_TAG: str(record.number),
            RESULT_TAG: _result(record),
            "radtune.state": record.state,
            "radtune.preset": record.preset,
            "radtune.loss": str(record.params.get("loss", "")),
        }
        if record.reason:
            tags["radtune.reason"] = record.reason[:5000]
        if record.warnings:
            tags["radtune.warnings"] = "; ".join(record.warnings)[:5000]
        name = f"{self._study.name}-{record.number}"
        run = self._client.create_run(self._experiment, run_name=name, tags=tags)
        run_id = run.info.run_id
        metrics = [
            Metric(name, value, now, 0) for name, value in record.metrics.items() if math.isfinite(value)
        ]
        every = math.ceil(len(record.curve) / CURVE_EPOCHS) or 1
        points = [
            Metric(f"curve.{name}", value, now, int(point["epoch"]))
            for point in record.curve[::-every][::-1]
            for name, value in point.items()
            if name != "epoch" and math.isfinite(value)
        ]
        self._client.log_batch(
            run_id,
            metrics=metrics + points,
            params=[Param(name, _text(value)) for name, value in record.params.items()],
            tags=[RunTag("radtune.strategy", record.strategy)],
        )
        self._client.set_terminated(run_id, status=STATUS[record.state])
        return run_id


def log_figures(client: MlflowClient, run: str, figures: Mapping[str, float]) -> None:
    """Log figures of a study as a whole, as far as they are finite."""
    now = int(time.time() * 1000)
    finite = {name: value for name, value in figures.items() if math.isfinite(value)}
    client.log_batch(run, metrics=[Metric(name, value, now, 0) for name, value in finite.items()])


def describe(client: MlflowClient, parent: str) -> None:
    """Write the description of a study's run anew, from what the store holds of it."""
    run = client.get_run(parent)
    data, page = run.data, page_of_view(run.info.experiment_id, parent, "CHART")
    said = description(data.params, data.tags, data.metrics, page)
    client.set_tag(parent, NOTE_TAG, with_own_words(said, data.tags.get(NOTE_TAG, "")))


def _result(record: TrialRecord) -> str:
    """16 hexadecimal digits of what came of a configuration."""
    content = [record.state, record.reason, record.params, record.metrics, record.epoch]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
