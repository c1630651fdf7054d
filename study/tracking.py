"""MLflow: one parent run a study, one child run per configuration.

What MLflow holds is derived from the bank files. It is written by a thread beside the training, and a fault
of the store never stops a study: a server that does not answer is tried again while the study runs, and
`close` reconciles by study and trial number, so that whatever a killed driver or an absent server left out is
logged then, or by `radtune sync`, once.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from analysis.number_format import counted
from cohort.errors import InputError
from study.command import shown_command
from study.credentials import masked
from study.mlflow_store import LOCKED, is_server, short
from study.study_runs import StudyRuns
from study.tracked_study import TrackedStudy
from trainables.records import TrialRecord

AGAIN_SECONDS = 15.0
"""After which a server that did not answer, or refused, or a locked database, is tried again."""


class StudyTracker:
    """Logs one study's configurations as they finish.

    Args:
        uri: absolute tracking URI.
        study: what MLflow records of the study.
        run_file: keeps the id of the study's parent run, which is found again by it on resume.

    Raises:
        InputError: the store is a database and cannot be opened. A server may be away.
    """

    def __init__(self, uri: str, study: TrackedStudy, run_file: Path) -> None:
        self.uri, self._study, self._run_file = uri, study, run_file
        self._runs: StudyRuns | None = None
        """None while no server has answered."""
        self.parent = ""
        """Id of the study's parent run; empty while no server answers."""
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
        return dict(self._runs.ids) if self._runs else {}

    @property
    def renamed(self) -> str:
        """To be said: that a new experiment begins, since the usual one was deleted; empty otherwise."""
        return self._runs.renamed if self._runs else ""

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
                self._runs.abandon()

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
                self._runs.end(records, artifacts, metrics)
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
            self._runs = StudyRuns(self.uri, self._study, self._run_file)
            self.parent, self._fault = self._runs.parent, ""
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
                    self._runs.put(record)
                del pending[number]
            except Exception as error:  # whatever the store does, the study goes on
                self._fault = short(error)
                # The others would fail alike, each after its time-out.
                if is_server(self.uri) or LOCKED in self._fault:
                    self._again = time.monotonic() + AGAIN_SECONDS
                    self.parent = ""  # what was logged by half is found, and deleted, on connecting again
                    return

    def _holds(self, record: TrialRecord) -> bool:
        return self._runs is not None and self._runs.holds(record)
