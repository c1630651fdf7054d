"""From a study file to a finished run folder: Ray Tune, progress, resume."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import optuna

from analysis.floors import logreg_floor
from cohort.errors import InputError
from cohort.files import write_atomically
from study.cluster import Capacity, ray_cluster
from study.config import StudyConfig, load_config, refuse_changes
from study.journal import open_journal
from study.lock import driver_lock
from study.provenance import environment, revision
from study.search import BankSearcher, SearchPlan
from study.standing import ranking, standing
from study.tracking import StudyTracker
from trainables.linear_probe import ProbeData
from trainables.records import RunFolder, TrialRecord

WORKER_RETRIES = 2
"""How often a trial whose worker process died is started again before its configurations fail."""


class TrainableStudy(Protocol):
    """What differs between studies of one trainable and another; see `study.probe_study`."""

    space: Any
    """Module of `search_spaces`: suggest, PAPER, warm_starts."""
    identity: dict[str, Any]
    """What must not change under a resumed study, as JSON."""

    @property
    def probe(self) -> ProbeData: ...
    def plan(self, capacity: Capacity, done: int, deadline: float) -> SearchPlan: ...
    def announcement(self, plan: SearchPlan, capacity: Capacity) -> list[str]: ...
    def trainable(self, plan: SearchPlan, capacity: Capacity, run: RunFolder) -> tuple[Any, Any]: ...
    def tidy(self, run: RunFolder, records: Any) -> None: ...
    def close(self, run: RunFolder, records: Any) -> list[str]: ...


def prepare(config: StudyConfig) -> TrainableStudy:
    """The study that `config.trainable` names, with its inputs ready. InputError as its `prepare`."""
    if config.trainable == "fine_tune":
        from study.fine_tune_study import FineTuneStudy

        return FineTuneStudy.prepare(config)
    from study.probe_study import ProbeStudy

    return ProbeStudy.prepare(config)


def run_study(config: StudyConfig, *, resume: bool = False, echo: Callable[[str], None] = print) -> RunFolder:
    """Run a study, or take it up where it stopped.

    Args:
        config: a validated study.
        resume: continue the run folder that is there; `search.configurations` may have grown.
        echo: receives the progress, a line at a time.

    Returns:
        The run folder, with every configuration in its journal, `trials.parquet` and MLflow.

    Raises:
        InputError: the run folder holds another study, an input is at fault, or another driver is at work.
    """
    _refuse_disposable_storage(config)
    run = RunFolder(config.run_folder)
    if run.study_file.exists() and not resume:
        raise InputError(
            f"{run.path}: this study exists already; continue it with --resume, or give it another name"
        )
    if (
        run.path.exists()
        and not run.study_file.exists()
        and any(p != run.lock_file for p in run.path.iterdir())
    ):
        raise InputError(f"{run.path}: holds something that is no study; give another storage or name")
    with driver_lock(run.lock_file):
        if run.study_file.exists():
            refuse_changes(load_config(run.study_file), config)
        study = prepare(config)
        _keep_identity(run, study.identity)
        write_atomically(run.study_file, config.to_yaml().encode())
        Conductor(config, run, study, echo).conduct()
    return run


class Conductor:
    """One driver's work on one study, from the start of Ray to the last table."""

    def __init__(
        self, config: StudyConfig, run: RunFolder, study: TrainableStudy, echo: Callable[[str], None]
    ) -> None:
        self._config, self._run, self._study, self._echo = config, run, study, echo
        self._started = time.monotonic()
        self._records = run.records()
        self._done_before = len(self._records)
        self._logreg = math.nan
        self._tracker: StudyTracker | None = None
        self._ends: list[tuple[float, int]] = []
        """When each bank or trial ended, and how many configurations were done then."""

    def conduct(self) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            self._search()
        except BaseException:  # Ctrl-C too
            if self._tracker:
                self._tracker.abandon()
            raise
        self._finish()

    def _search(self) -> None:
        config, search, study = self._config, self._config.search, self._study
        # Ray takes seconds to start and leaves the cores idle: the store and the floor are made beside it.
        with ThreadPoolExecutor(1) as beside:
            ready = beside.submit(self._open_store_and_fit_floor)
            with ray_cluster(config.resources) as capacity:
                ready.result()
                deadline = time.monotonic() + (search.time_budget or math.inf)
                plan = study.plan(capacity, self._done_before, deadline)
                self._announce(study.announcement(plan, capacity))
                searcher = BankSearcher(
                    study=optuna.create_study(
                        study_name=config.name,
                        storage=open_journal(self._run.journal),
                        direction="maximize",
                        load_if_exists=True,
                    ),
                    run=self._run,
                    plan=plan,
                    suggest=lambda trial: study.space.suggest(trial, search.fixed, search.ranges),
                    paper=study.space.PAPER,
                    warm_starts=study.space.warm_starts(search.fixed, search.ranges),
                    on_bank=self._on_bank,
                )
                self._train(searcher, *study.trainable(plan, capacity, self._run))
                searcher.tell_rest()

    def _train(self, searcher: BankSearcher, trainable: Any, scheduler: Any) -> None:
        """Let Ray Tune train until the searcher has no more."""
        from ray import tune

        from trainables.ray_trainables import EpochLines, ForgetBankFiles

        tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=scheduler,
                num_samples=-1,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: f"{trial.config['bank']:04d}-{trial.trial_id}",
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(self._run.path.absolute()),
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=WORKER_RETRIES),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                callbacks=[ForgetBankFiles(), EpochLines(self._echo, self._config.search.objective)],
            ),
        ).fit()

    def _open_store_and_fit_floor(self) -> None:
        """MLflow's parent run, and the logistic-regression floor that the progress lines name."""
        config = self._config
        self._tracker = StudyTracker(config.tracking.uri, config.name, self._run.path, self._tags())
        self._tracker.log(self._records.values())
        if self._run.floors_file.exists():
            self._logreg = json.loads(self._run.floors_file.read_text())["logreg"]
            return
        data = self._study.probe
        floor = logreg_floor(
            data.train_features_ND,
            data.train_targets_NC,
            data.val_features_ND,
            data.judged,
            objective=self._config.search.objective,
        )
        self._logreg = floor.objective
        found = {"logreg": floor.objective, "C": floor.strength}
        write_atomically(self._run.floors_file, json.dumps(found).encode())

    # Progress ----------------------------------------------------------------------------------------------

    def _announce(self, lines: list[str]) -> None:
        data = self._study.probe
        for line in lines:
            self._echo(f"{self._config.name}: {line}")
        self._echo(
            f"{self._config.name}: objective {self._config.search.objective} over {data.scored_C.sum()} of "
            f"{len(data.labels)} labels"
        )
        if self._done_before:
            self._echo(f"resumed: {self._done_before} configurations are done already")

    def _on_bank(self, records: list[TrialRecord]) -> None:
        self._records |= {record.number: record for record in records}
        self._tracker.log(records)
        self._run.write_trials(self._records.values(), self._tracker.run_ids)
        self._study.tidy(self._run, self._records.values())
        for record in records:
            for line in record.warnings:
                self._echo(f"#{record.number}: {line}")
            if record.state == "FAIL":
                self._echo(f"#{record.number} failed: {record.reason}")
        done, wanted = len(self._records), self._config.search.configurations
        now = time.monotonic()
        self._ends.append((now, done))
        self._echo(
            f"{done:>4}/{wanted} configurations · {self._standing()} · {now - self._started:.0f} s"
            + self._time_left(wanted)
        )

    def _time_left(self, wanted: int) -> str:
        """From the second one on: the first waits for its worker to start, which happens once."""
        (first, before), (last, done) = self._ends[0], self._ends[-1]
        if done == before or done >= wanted:
            return ""
        return f", about {(last - first) / (done - before) * (wanted - done):.0f} s left"

    def _standing(self) -> str:
        return standing(self._records.values(), self._logreg, self._config.search.objective)

    # The end -----------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        config, run, records = self._config, self._run, self._records.values()
        lines = self._study.close(run, records)
        write_atomically(run.environment_file, environment().encode())
        seconds = time.monotonic() - self._started
        figures = {"configurations": len(self._records), "seconds": seconds, "val.logreg": self._logreg}
        if ranked := ranking(records):
            figures[f"val.{config.search.objective}"] = ranked[0].objective
        files = [run.study_file, run.inputs_file, run.environment_file, run.finalists_file]
        complaint = self._tracker.close(records, [file for file in files if file.exists()], figures)
        run.write_trials(records, self._tracker.run_ids)
        states = [record.state for record in records]
        counts = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))
        self._echo(f"finished in {time.monotonic() - self._started:.0f} s: {counts}; {self._standing()}")
        for line in [*lines, *filter(None, [complaint])]:
            self._echo(line)

    def _tags(self) -> dict[str, str]:
        identity = self._study.identity
        return {
            "radtune.study": self._config.name,
            "radtune.trainable": self._config.trainable,
            "radtune.encoder": self._config.encoder,
            "radtune.encoder_fingerprint": identity["encoder_fingerprint"],
            "radtune.cohort_hash": identity["cohort_hash"],
            "mlflow.source.git.commit": revision(),
        }


def _refuse_disposable_storage(config: StudyConfig) -> None:
    """`ray job submit` runs the driver in a snapshot of the working directory that Ray deletes."""
    if "runtime_resources" in Path.cwd().parts and not Path(config.storage).is_absolute():
        raise InputError(
            f"storage: {config.storage!r} is relative and lies in Ray's disposable snapshot under "
            "`ray job submit`; give an absolute path"
        )


def _keep_identity(run: RunFolder, now: dict[str, Any]) -> None:
    """Note what the study depends on, or refuse to go on where it is no longer that."""
    if run.inputs_file.exists():
        before = json.loads(run.inputs_file.read_text())
        for key in before:
            if before[key] != now[key]:
                raise InputError(
                    f"{run.path}: {key} is no longer what the study ran with "
                    f"({before[key]} then, {now[key]} now); start a study under another name"
                )
    else:
        write_atomically(run.inputs_file, json.dumps(now, indent=1).encode())
