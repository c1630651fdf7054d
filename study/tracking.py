"""MLflow: one parent run a study, one child run a configuration. The only module that imports mlflow.

What MLflow holds is derived from the bank files. It is written by a thread beside the training, a fault of
the store never stops a study, and `close` reconciles by study and trial number: whatever a killed driver or
an absent server left out is logged then, once.
"""

from __future__ import annotations

import json
import logging
import math
import os
import queue
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from cohort.errors import InputError
from study.config import SQLITE
from trainables.records import TrialRecord

EXPERIMENT = "radtune"
NUMBER_TAG = "radtune.trial"
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
        InputError: the store cannot be opened.
    """

    def __init__(self, uri: str, study: str, run_file: Path, tags: Mapping[str, str]) -> None:
        self.uri, self._study, self._tags = uri, study, dict(tags)
        try:
            self._client = MlflowClient(tracking_uri=uri)
            self._experiment = self._experiment_id()
            self.parent = self._parent_run(run_file)
        except Exception as error:
            raise InputError(
                f"tracking.uri {uri}: MLflow cannot open this store ({_short(error)}); "
                "give a reachable server or a writable sqlite:/// path"
            ) from None
        self._logged = self._runs_in_store()
        self._waiting: queue.Queue[TrialRecord | None] = queue.Queue()
        self._fault, self._abandoned = "", False
        self._thread = threading.Thread(target=self._drain, name="mlflow", daemon=True)
        self._thread.start()

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
        with suppress(Exception):  # whatever the store does, the fault that ends the study is the one to see
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
        self._fault = ""
        for record in records:
            if record.number not in self._logged:
                self._log_or_note(record)
        try:
            now = int(time.time() * 1000)
            finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
            self._client.log_batch(self.parent, metrics=[Metric(k, v, now, 0) for k, v in finite.items()])
            for path in artifacts:
                self._client.log_artifact(self.parent, str(path))
            self._client.set_terminated(self.parent)
        except Exception as error:
            self._fault = self._fault or _short(error)
        if not self._fault:
            return ""
        return f"MLflow ({self.uri}) did not take everything: {self._fault}; --resume logs what is missing"

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
        return self._client.create_experiment(name, artifact_location=location and str(location))

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

    def _runs_in_store(self) -> dict[int, str]:
        """Whole child runs by number; a run whose logging was cut off is deleted, to be logged anew."""
        logged: dict[int, str] = {}
        for run in self._children():
            number = int(run.data.tags[NUMBER_TAG])
            if run.info.status == "RUNNING" or number in logged:
                self._client.delete_run(run.info.run_id)
            else:
                logged[number] = run.info.run_id
        return logged

    def _children(self) -> list[Run]:
        runs: list[Run] = []
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment],
                filter_string=f"tags.`mlflow.parentRunId` = '{self.parent}'",
                max_results=1000,
                page_token=token,
            )
            runs += page
            token = page.token
            if not token:
                return [run for run in runs if NUMBER_TAG in run.data.tags]

    def _drain(self) -> None:
        while (record := self._waiting.get()) is not None:
            if record.number not in self._logged and not self._abandoned:
                self._log_or_note(record)

    def _log_or_note(self, record: TrialRecord) -> None:
        try:
            self._logged[record.number] = self._log(record)
        except Exception as error:  # whatever the store does, the study goes on
            self._fault = _short(error)

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
) -> None:
    """Note on the study's parent run how often the test split was opened, and what was read from it.

    Args:
        uri: absolute tracking URI.
        run_file: as `StudyTracker` keeps it.
        openings: the run folder's own record, which is the truth; see `analysis.test_split`.
        analysis: the folder whose files, its figures among them, are kept with the run.

    Raises:
        InputError: the store refuses. An opening that nobody can count later must be noticed.
    """
    try:
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
            return  # a moved store, until a resume begins an experiment here; the files lie in the run folder
        for path in sorted(path for path in analysis.rglob("*") if path.is_file()):
            below = Path("analysis") / path.parent.relative_to(analysis)
            client.log_artifact(parent, str(path), artifact_path=below.as_posix())
    except Exception as error:
        raise InputError(
            f"tracking.uri {uri}: MLflow cannot record this opening of the test split ({_short(error)}); "
            "start the server, or run `radtune run STUDY.yaml --resume` to log the study anew"
        ) from None


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
