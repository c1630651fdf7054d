"""MLflow: one parent run a study, one child run a configuration. The only module that imports mlflow.

What MLflow holds is derived from the bank files. It is written by a thread beside the training, and a fault
of the store never stops a study: a server that does not answer is tried again while the study runs, and
`close` reconciles by study and trial number, so that whatever a killed driver or an absent server left out is
logged then, or by `radtune sync`, once.
"""

from __future__ import annotations

import json
import logging
import math
import os
import queue
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# Its own are 7 retries of 120 s each: a server that hangs would be waited for as long as a study takes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from analysis.number_format import counted
from cohort.errors import InputError
from study.config import SQLITE
from trainables.records import TrialRecord

EXPERIMENT = "radtune"
KIND_TAG = "mlflow.experimentKind"
"""Says to MLflow's UI that these are training runs; it opens on traces of language models otherwise."""
NUMBER_TAG = "radtune.trial"
ANSWER_SECONDS = 4.0
"""In which a server must answer before anything is asked of it."""
AGAIN_SECONDS = 15.0
"""After which a server that did not answer, or refused, is tried again."""
CURVE_EPOCHS = 50
"""Most epochs of a learning curve that a run puts into the store, evenly spread to the last; the run folder
holds all of them."""

logging.getLogger("mlflow").setLevel(logging.WARNING)
logging.getLogger("alembic").setLevel(logging.WARNING)


class StudyTracker:
    """Logs one study's configurations as they finish.

    Args:
        uri: absolute tracking URI.
        study: the study's name.
        run_file: keeps the id of the study's parent run, which is found again by it on resume.
        tags: tags of the parent run, which every configuration's run carries too.

    Raises:
        InputError: the store is a database and cannot be opened. A server may be away.
    """

    def __init__(self, uri: str, study: str, run_file: Path, tags: Mapping[str, str]) -> None:
        self.uri, self._study, self._tags, self._run_file = uri, study, dict(tags), run_file
        self.parent = ""
        """Id of the study's parent run; empty while no server has answered."""
        self._logged: dict[int, str] = {}
        self._fault, self._abandoned, self._again = "", False, 0.0
        if not self._connect() and not is_server(uri):
            raise InputError(
                f"tracking.uri {uri}: MLflow cannot open this store ({self._fault}); "
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
        missing = {record.number: record for record in records if record.number not in self._logged}
        self._send(missing)
        if self.parent and not missing:
            try:
                now = int(time.time() * 1000)
                finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
                self._client.log_batch(self.parent, metrics=[Metric(k, v, now, 0) for k, v in finite.items()])
                for path in artifacts:
                    self._client.log_artifact(self.parent, str(path))
                self._client.set_terminated(self.parent)
            except Exception as error:
                self._fault = _short(error)
        if not self._fault:
            return ""
        return (
            f"MLflow ({self.uri}) did not take everything: {self._fault}; "
            f"{counted(len(missing), 'configuration')} missing there; `radtune sync {self._run_file.parent}` "
            "sends what is"
        )

    def _connect(self) -> bool:
        """Open the store and the study's parent run in it; where that fails, say why in `_fault`."""
        try:
            if is_server(self.uri):
                _ask(self.uri)
            self._client = MlflowClient(tracking_uri=self.uri)
            self._experiment = self._experiment_id()
            parent = self._parent_run(self._run_file)
            self._logged = self._runs_in_store(parent)
            self.parent, self._fault = parent, ""
        except Exception as error:
            self._fault = _short(error)
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
            if record.number not in self._logged:
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
                if number not in self._logged:
                    self._logged[number] = self._log(record)
                del pending[number]
            except Exception as error:  # whatever the store does, the study goes on
                self._fault = _short(error)
                if is_server(self.uri):  # the others would fail alike, each after its time-out
                    self._again = time.monotonic() + AGAIN_SECONDS
                    self.parent = ""  # what was logged by half is found, and deleted, on connecting again
                    return

    def _experiment_id(self) -> str:
        """The experiment of all studies of a store.

        MLflow keeps the absolute place of an experiment's artifacts. Where a SQLite store was moved and that
        place is gone, a new experiment begins here, instead of a folder where nobody looks for it.
        """
        location, name = None, EXPERIMENT
        if self.uri.startswith(SQLITE):
            # Otherwise artifacts of a SQLite store land in ./mlruns of whoever logs them.
            location = _artifacts_beside(self.uri)
        found = self._client.get_experiment_by_name(name)
        if found is not None and location is not None and _is_gone(found.artifact_location, location):
            name = f"{EXPERIMENT} in {location.parent}"
            found = self._client.get_experiment_by_name(name)
        if found is not None:
            return found.experiment_id
        return self._client.create_experiment(
            name, artifact_location=location and str(location), tags={KIND_TAG: "custom_model_development"}
        )

    def _parent_run(self, note: Path) -> str:
        """The study's parent run: the one noted, or a new one."""
        if note.exists():
            try:
                run_id = note.read_text().strip()
                if self._client.get_run(run_id).info.experiment_id == self._experiment:
                    self._client.update_run(run_id, status="RUNNING")
                    return run_id
            except MlflowException:
                pass  # another store than before: the study starts a parent run there
        run = self._client.create_run(self._experiment, run_name=self._study, tags=self._tags)
        note.write_text(run.info.run_id + "\n")
        return run.info.run_id

    def _runs_in_store(self, parent: str) -> dict[int, str]:
        """Whole child runs by number; a run whose logging was cut off is deleted, to be logged anew."""
        logged: dict[int, str] = {}
        for run in self._children(parent):
            number = int(run.data.tags[NUMBER_TAG])
            if run.info.status == "RUNNING" or number in logged:
                self._client.delete_run(run.info.run_id)
            else:
                logged[number] = run.info.run_id
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
        tags = self._tags | {
            "mlflow.parentRunId": self.parent,
            NUMBER_TAG: str(record.number),
            "radtune.state": record.state,
            "radtune.preset": record.preset,
            "radtune.loss": str(record.params.get("loss", "")),
        }
        if record.reason:
            tags["radtune.reason"] = record.reason[:5000]
        if record.warnings:
            tags["radtune.warnings"] = "; ".join(record.warnings)[:5000]
        run = self._client.create_run(self._experiment, run_name=f"{self._study}-{record.number}", tags=tags)
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
        # MLflow has no status for a pruned run; radtune.state says it.
        self._client.set_terminated(run_id, status="FAILED" if record.state == "FAIL" else "FINISHED")
        return run_id


def record_opening(
    uri: str, run_file: Path, openings: Path, metrics: Mapping[str, float], analysis: Path
) -> str:
    """Note on the study's parent run how often the test split was opened, and what was read from it.

    Args:
        uri: absolute tracking URI.
        run_file: as `StudyTracker` keeps it.
        openings: the run folder's own record, which is the truth; see `analysis.test_split`.
        analysis: the folder whose files, its figures among them, are kept with the run.

    Returns:
        an empty string, or one line saying that the store refused: an opening that is not counted there yet
        must be noticed.
    """
    try:
        if is_server(uri):
            _ask(uri)
        client = MlflowClient(tracking_uri=uri)
        parent = run_file.read_text().strip()
        events = [json.loads(line) for line in openings.read_text().splitlines()]
        told = "; ".join(f"{event['when']} {event['why']}" for event in events)
        client.set_tag(parent, "radtune.test_openings", told[-5000:])
        now = int(time.time() * 1000)
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        client.log_batch(parent, metrics=[Metric(k, v, now, 0) for k, v in finite.items()])
        place = client.get_experiment(client.get_run(parent).info.experiment_id).artifact_location
        if uri.startswith(SQLITE) and _is_gone(place, _artifacts_beside(uri)):
            return (
                ""  # a moved store, until a resume begins an experiment here; the files lie in the run folder
            )
        for path in sorted(path for path in analysis.rglob("*") if path.is_file()):
            below = Path("analysis") / path.parent.relative_to(analysis)
            client.log_artifact(parent, str(path), artifact_path=below.as_posix())
    except Exception as error:
        return (
            f"MLflow ({uri}) could not record this opening of the test split ({_short(error)}); "
            f"{openings} has it, and `radtune sync {openings.parent}` sends it"
        )
    return ""


def runs_page(uri: str) -> str:
    """Where MLflow's UI shows the studies' runs as such, below its address; empty where none has been logged.

    Raises:
        InputError: the store cannot be opened.
    """
    try:
        if is_server(uri):
            _ask(uri)
        found = MlflowClient(tracking_uri=uri).get_experiment_by_name(EXPERIMENT)
    except Exception as error:
        raise InputError(f"--uri {uri}: MLflow cannot open this store ({_short(error)})") from None
    return f"/#/experiments/{found.experiment_id}/runs?workflowType=machine_learning" if found else ""


def is_server(uri: str) -> bool:
    """Whether a tracking URI is that of a server, which may be away, and not of a database."""
    return uri.startswith(("http://", "https://"))


def _ask(uri: str) -> None:
    """OSError, soon, where a server does not answer: MLflow's client would wait for minutes."""
    request = urllib.request.Request(uri.rstrip("/") + "/health")
    try:
        urllib.request.urlopen(request, timeout=ANSWER_SECONDS).close()
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            raise
        # Something answers; a proxy may know of no /health, and MLflow's client says what it refuses.


def _artifacts_beside(uri: str) -> Path:
    """Where the artifacts of a SQLite store belong."""
    return Path(uri.removeprefix(SQLITE)).parent / "mlartifacts"


def _is_gone(place: str, expected: Path) -> bool:
    """Whether an experiment's artifacts were kept on this machine somewhere that is no longer there."""
    return "://" not in place and Path(place) != expected and not Path(place).exists()


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
