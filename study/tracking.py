"""MLflow: one parent run a study, one child run a configuration.

What MLflow holds is derived from the bank files. It is written by a thread beside the training, and a fault
of the store never stops a study: a server that does not answer is tried again while the study runs, and
`close` reconciles by study and trial number, so that whatever a killed driver or an absent server left out is
logged then, or by `radtune sync`, once.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import queue
import threading
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    Experiment,
    InputTag,
    LifecycleStage,
    Metric,
    Param,
    Run,
    RunTag,
)
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.validation import MAX_DATASET_DIGEST_SIZE, MAX_PARAM_VAL_LENGTH

from analysis.number_format import counted
from analysis.report_parts import report_files
from cohort.errors import InputError
from cohort.files import write_atomically
from study.command import shown_command
from study.credentials import masked
from study.mlflow_store import LOCKED, artifacts_beside, is_gone, is_server, open_store, short
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
    REPORT_TAG,
    TrackedStudy,
    description,
    with_own_words,
)
from trainables.ranking import ranking
from trainables.records import TrialRecord

EXPERIMENT = "radtune"
KIND_TAG = "mlflow.experimentKind"
"""Says to MLflow's UI that these are training runs; it opens on traces of language models otherwise."""
NUMBER_TAG = "radtune.trial"
RESULT_TAG = "radtune.result"
"""Says which result of a configuration its run holds: one that is lost and trained again replaces it."""
NOTE_TAG = "mlflow.note.content"
STATUS = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}
"""State of a configuration -> status of its run: MLflow has none for stopped early, but shows this one."""
AGAIN_SECONDS = 15.0
"""After which a server that did not answer, or refused, or a locked database, is tried again."""
CURVE_EPOCHS = 50
"""Most epochs of a learning curve that a run puts into the store, evenly spread to the last; the run folder
holds all of them."""


class StudyTracker:
    """Logs one study's configurations as they finish.

    Args:
        uri: absolute tracking URI.
        study: what MLflow is told of the study.
        run_file: keeps the id of the study's parent run, which is found again by it on resume.

    Raises:
        InputError: the store is a database and cannot be opened. A server may be away.
    """

    def __init__(self, uri: str, study: TrackedStudy, run_file: Path) -> None:
        self.uri, self._study, self._run_file = uri, study, run_file
        self.parent = ""
        """Id of the study's parent run; empty while no server has answered."""
        self._logged: dict[int, str] = {}
        self._results: dict[int, str] = {}
        """`RESULT_TAG` of what is logged."""
        self.renamed = ""
        """To be said: that a new experiment begins, since the usual one was deleted; empty otherwise."""
        self._fault, self._abandoned, self._again = "", False, 0.0
        if not self._connect() and not is_server(uri):
            raise InputError(
                f"tracking.uri {masked(uri)}: MLflow cannot open this store ({self._fault}); "
                "give a reachable server or a writable sqlite:/// path"
            )
        self._waiting: queue.Queue[TrialRecord | None] = queue.Queue()
        self._thread = threading.Thread(target=self._drain, name="mlflow", daemon=True)
        self._thread.start()

    @property
    def away(self) -> str:
        """Why nothing can be logged yet; empty where the store has answered."""
        return "" if self.parent else self._fault

    @property
    def run_ids(self) -> dict[int, str]:
        """MLflow run id of every configuration in the store, by number."""
        return dict(self._logged)

    def log(self, records: Iterable[TrialRecord]) -> None:
        """Queue finished configurations; returns at once."""
        for record in records:
            self._waiting.put(record)

    def abandon(self) -> None:
        """End the thread after the run it is writing; a resume logs what is missing.

        A thread that still writes while the interpreter goes away can take the process down with it.
        """
        self._abandoned = True
        self._waiting.put(None)
        self._thread.join()
        if self.parent:
            with suppress(Exception):  # whatever the store does, the fault that ends the study is to be seen
                self._client.set_terminated(self.parent, status="KILLED")

    def close(
        self, records: Iterable[TrialRecord], artifacts: Iterable[Path], metrics: Mapping[str, float]
    ) -> str:
        """Wait for the queue, log what is still missing, and finish the parent run.

        Args:
            records: every finished configuration of the study.
            artifacts: files to keep with the parent run; a fault is reported, not raised.
            metrics: figures of the study as a whole.

        Returns:
            An empty string, or one line saying what the store refused.
        """
        self._waiting.put(None)
        self._thread.join()
        self._fault, self._again = "", 0.0
        records = list(records)
        missing = {record.number: record for record in records if not self._holds(record)}
        self._send(missing)
        if self.parent and not missing:
            try:
                self._tag_best(records)
                _log_figures(self._client, self.parent, metrics)
                _describe(self._client, self.parent)
                for path in artifacts:
                    self._keep(path)
                self._client.set_terminated(self.parent)
            except Exception as error:
                self._fault = short(error)
        if not self._fault:
            return ""
        return (
            f"MLflow ({masked(self.uri)}) did not take everything: {self._fault}; "
            f"{counted(len(missing), 'configuration')} missing there; "
            f"`{shown_command('sync', self._run_file.parent)}` sends what is"
        )

    def _connect(self) -> bool:
        """Open the store and the study's parent run in it; where that fails, say why in `_fault`."""
        try:
            self._client = open_store(self.uri)
            self._experiment = self._experiment_id()
            parent = self._parent_run(self._run_file)
            self._introduce(parent)
            self._logged = self._runs_in_store(parent)
            self.parent, self._fault = parent, ""
        except Exception as error:
            self._fault = short(error)
            self._again = time.monotonic() + AGAIN_SECONDS
        return bool(self.parent)

    def _drain(self) -> None:
        """Log what is queued, and what a server that was away left waiting."""
        pending: dict[int, TrialRecord] = {}
        while True:
            try:
                record = self._waiting.get(timeout=AGAIN_SECONDS if pending else None)
            except queue.Empty:
                record = next(iter(pending.values()))
            if record is None:
                return
            if not self._holds(record):
                pending[record.number] = record
            self._send(pending)

    def _send(self, pending: dict[int, TrialRecord]) -> None:
        """Log these and take them out, as far as the store lets; not before its time after a fault."""
        if time.monotonic() < self._again or not (self.parent or self._connect()):
            return
        for number, record in list(pending.items()):
            if self._abandoned:
                return
            try:
                if not self._holds(record):
                    if number in self._logged:
                        self._client.delete_run(self._logged.pop(number))
                    self._logged[number] = self._log(record)
                    self._results[number] = _result(record)
                del pending[number]
            except Exception as error:  # whatever the store does, the study goes on
                self._fault = short(error)
                # The others would fail alike, each after its time-out.
                if is_server(self.uri) or LOCKED in self._fault:
                    self._again = time.monotonic() + AGAIN_SECONDS
                    self.parent = ""  # what was logged by half is found, and deleted, on connecting again
                    return

    def _holds(self, record: TrialRecord) -> bool:
        return record.number in self._logged and self._results[record.number] == _result(record)

    def _experiment_id(self) -> str:
        """The experiment of all studies of a store.

        MLflow keeps the absolute place of an experiment's artifacts. Where a SQLite store was moved and that
        place is gone, a new experiment begins here, instead of a folder where nobody looks for it.
        """
        # Otherwise artifacts of a SQLite store land in ./mlruns of whoever logs them.
        location = artifacts_beside(self.uri)
        name, found = self._not_deleted(EXPERIMENT)
        if found is not None and location is not None and is_gone(found.artifact_location, location):
            name, found = self._not_deleted(f"{EXPERIMENT} in {location.parent}")
        if found is not None:
            return found.experiment_id
        try:
            kind = {KIND_TAG: "custom_model_development"}
            return self._client.create_experiment(name, location and location.as_uri(), tags=kind)
        except MlflowException as error:
            found = self._client.get_experiment_by_name(name)
            if found is None:
                raise error
            return found.experiment_id  # another study that began at the same moment was faster

    def _not_deleted(self, wanted: str) -> tuple[str, Experiment | None]:
        """The name, and where it exists the experiment, that is to be used under a name.

        MLflow keeps the name of an experiment that was deleted. Restored, it would bring back every run that
        was ever deleted in it, so another is taken, with a number behind the name.
        """
        for number in itertools.count(1):
            name = wanted if number == 1 else f"{wanted} {number}"
            found = self._client.get_experiment_by_name(name)
            if found is None or found.lifecycle_stage != LifecycleStage.DELETED:
                break
        if found is None and number > 1:
            self.renamed = (
                f"MLflow's experiment {wanted!r} was deleted, so {name!r} begins; MLflow's UI restores what "
                "was deleted"
            )
        return name, found

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
        _describe(client, parent)

    def _tag_best(self, records: Iterable[TrialRecord]) -> None:
        """Mark the best configuration on validation, and it alone."""
        ranked = ranking(records)
        if not ranked:
            return
        best = self._logged[ranked[0].number]
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


def record_opening(
    uri: str, run_file: Path, openings: Path, metrics: Mapping[str, float], report: Path
) -> str:
    """Note on the study's parent run how often the test split was opened, and what was read from it.

    Args:
        uri: absolute tracking URI.
        run_file: as `StudyTracker` keeps it.
        openings: the run folder's own record, which is the truth; see `analysis.judging.evaluation_set`.
        report: the page; it, its tables and its figures are kept with the run (`analysis.report_parts`), and
            what is kept there of an earlier report and is no longer of this one is deleted.

    Returns:
        an empty string, or one line saying that the store refused: an opening that is not counted there yet
        must be noticed.
    """
    try:
        client, analysis = open_store(uri), report.parent
        parent = run_file.read_text().strip()
        told = "; ".join(map(_opening, openings.read_text(errors="replace").splitlines()))
        client.set_tag(parent, "radtune.test_openings", told[-5000:])
        if report.exists():
            client.set_tag(parent, REPORT_TAG, str(report))
        _log_figures(client, parent, metrics)
        _describe(client, parent)
        place = client.get_experiment(client.get_run(parent).info.experiment_id).artifact_location
        beside = artifacts_beside(uri)
        if beside is not None and is_gone(place, beside):
            return (
                ""  # a moved store, until a resume begins an experiment here; the files lie in the run folder
            )
        files = report_files(analysis)
        for path in files:
            below = Path("analysis") / path.parent.relative_to(analysis)
            client.log_artifact(parent, str(path), artifact_path=below.as_posix())
        if report.exists():  # a run folder that was restored from a copy holds no analysis
            current = {f"analysis/{path.relative_to(analysis).as_posix()}" for path in files}
            _delete_artifacts(client, uri, parent, current)
    except Exception as error:
        return (
            f"MLflow ({masked(uri)}) could not record this opening of the test split ({short(error)}); "
            f"{openings} has it, and `{shown_command('sync', openings.parent)}` sends it"
        )
    return ""


def _delete_artifacts(client: MlflowClient, uri: str, run: str, current: Collection[str]) -> None:
    """Delete what a run keeps below `analysis` and is not current; a store that cannot delete keeps it."""
    repository = get_artifact_repository(client.get_run(run).info.artifact_uri, tracking_uri=uri)
    folders = ["analysis"]
    with suppress(NotImplementedError):
        while folders:
            for one in client.list_artifacts(run, folders.pop()):
                if one.is_dir:
                    folders.append(one.path)
                elif one.path not in current:
                    repository.delete_artifacts(one.path)


def _opening(line: str) -> str:
    """A line of the record of openings in words; one that a crash cut off was an opening too."""
    try:
        event = json.loads(line)
        return f"{event['when']} {event['why']}"
    except (ValueError, KeyError, TypeError):
        return "an opening whose line is damaged"


def pages(uri: str) -> list[tuple[str, str]]:
    """(name, page below the UI's address) of each study's view, the latest first, and that of all studies at
    last; none where nothing has been logged.

    Raises:
        InputError: the store cannot be opened.
    """
    try:
        found = open_store(uri).search_experiments(filter_string=f"name LIKE '{EXPERIMENT}%'")
    except Exception as error:
        raise InputError(f"--uri {masked(uri)}: MLflow cannot open this store ({short(error)})") from None
    return [
        (name, page_of_view(experiment.experiment_id, key, "TABLE" if key == STUDIES else "CHART"))
        for experiment in found
        for key, name in own_views(experiment.tags).items()
    ]


def _log_figures(client: MlflowClient, run: str, figures: Mapping[str, float]) -> None:
    now = int(time.time() * 1000)
    finite = {name: value for name, value in figures.items() if math.isfinite(value)}
    client.log_batch(run, metrics=[Metric(name, value, now, 0) for name, value in finite.items()])


def _describe(client: MlflowClient, parent: str) -> None:
    """Write the description of a study's run anew, from what the store holds of it."""
    run = client.get_run(parent)
    data, page = run.data, page_of_view(run.info.experiment_id, parent, "CHART")
    said = description(data.params, data.tags, data.metrics, page)
    client.set_tag(parent, NOTE_TAG, with_own_words(said, data.tags.get(NOTE_TAG, "")))


def _result(record: TrialRecord) -> str:
    """16 hexadecimal digits of what came of a configuration."""
    told = [record.state, record.reason, record.params, record.metrics, record.epoch]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
