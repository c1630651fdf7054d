"""From a study file to a finished run folder: Ray Tune, progress, resume."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import optuna

from cohort.errors import InputError
from cohort.files import write_atomically
from cohort.remote_files import check_place
from study.ask_tell import Asking
from study.bank_queue import BankQueue
from study.cluster import Capacity, check_cluster, joined_ray, ray_cluster
from study.config import StudyConfig
from study.credentials import masked
from study.inputs import Inputs, open_inputs, searched, study_space
from study.interrupts import Interrupts
from study.lock import driver_lock
from study.log import LOGGER, logged, run_log
from study.nodes import check_visible
from study.progress import counted, nothing_completed, progress
from study.progress_lines import ProgressLines
from study.provenance import environment
from study.resumable import refuse_changes
from study.run_folder import RunFolder
from study.search import BankSearcher
from study.search_plan import kept_plan
from study.shards_on_nodes import on_nodes
from study.study_copy import StudyCopy
from study.study_file import load_stored, stored_file
from study.study_rows import StudyRows, baseline_inputs, keep_predictions
from study.tracked_analysis import record_test_access
from study.tracked_study import tracked_study
from study.tracking import StudyTracker
from study.trainable_study import TrainableStudy, trainable_study
from study.warm_start import earlier_starts
from trainables.baselines import logistic
from trainables.baselines.base import GivenUp
from trainables.ranking import ranking
from trainables.records import TrialRecord

OVERTIME = 0.1
"""Share of a study's time budget, beyond its end, in which the finalists may be trained again."""


def run_study(
    config: StudyConfig,
    run: RunFolder,
    *,
    stored: StudyConfig,
    started: float,
    resume: bool = False,
    echo: Callable[[str], None] = print,
) -> None:
    """Run a study, or take it up where it stopped.

    Args:
        config: a validated study, its paths absolute.
        run: its folder; afterwards every configuration is in its journal, in `trials.parquet` and in MLflow.
        stored: the same study as its folder keeps it, see `StudyConfig.portable`.
        started: `time.monotonic()` from which the study's time budget counts.
        resume: continue the run folder that is there; `search.configurations` may have grown.
        echo: receives the progress, a line at a time.

    Raises:
        InputError: the run folder holds another study, an input is at fault, or another driver is at work.
    """
    if run.study_file.exists() and not resume:
        raise InputError(
            f"{run.path}: this study exists already; continue it with --resume, or give it another name"
        )
    if not run.study_file.exists() and not run.is_empty():
        raise InputError(f"{run.path}: holds something that is no study; give another storage or name")
    interrupts = Interrupts()
    with interrupts.heeded(), driver_lock(run.lock_file):
        if run.study_file.exists():
            refuse_changes(load_stored(run.study_file), stored)
        check_cluster(config.resources)
        if config.checkpoints:
            check_place("checkpoints", config.shared_folder)
        with joined_ray(config.resources, lambda line: echo(f"{config.name}: {line}")) as capacity:
            interrupts.take()
            echo(f"{config.name}: preparing the cohort and its features under {config.encoder}")
            inputs = open_inputs(config, run, on_nodes(capacity) if capacity else None)
            trainable = trainable_study(config, inputs, run)
            trainable.prepare(echo)
            write_atomically(run.study_file, stored_file(stored))
            run.keep_identity(inputs.identity)
            # What is refused up to here leaves no trace in the folder.
            driver = Driver(config, run, inputs, trainable, logged(echo), started, interrupts)
            with run_log(run.log_file):
                driver.drive()


class Driver:
    """One driver's work on one study, from the start of Ray to the last table."""

    def __init__(
        self,
        config: StudyConfig,
        run: RunFolder,
        inputs: Inputs,
        trainable: TrainableStudy,
        echo: Callable[[str], None],
        started: float,
        interrupts: Interrupts,
    ) -> None:
        self._config, self._run, self._inputs, self._trainable, self._echo = (
            config,
            run,
            inputs,
            trainable,
            echo,
        )
        self._started, self._interrupts = started, interrupts
        self._copy = StudyCopy(run, config.shared_folder) if config.shared_folder else None
        left = (config.search.time_budget or math.inf) - self._seconds()
        self._deadline = time.time() + left  # workers on other machines have no other clock in common
        self._lines = ProgressLines(config, echo, self._deadline)
        self._records = run.records()
        # What is damaged is refused before anything is trained.
        run.baseline_records()
        run.plan()
        run.asked_banks()
        self._done_before = len(self._records)
        self._logreg = math.nan
        self._out_of_time = self._interrupted = False
        self._given_up: list[int] = []
        self._tracker: StudyTracker | None = None

    def drive(self) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        for earlier in (self._run.ended_file, self._run.running_file):
            earlier.unlink(missing_ok=True)
        try:
            self._search()
            self._finish()
        except BaseException as error:  # Ctrl-C too
            LOGGER.warning("stopped: %s", repr(error))
            for thread in filter(None, (self._tracker, self._copy)):
                thread.abandon()
            raise

    def _search(self) -> None:
        # Ray takes seconds to start and leaves the cores idle: the store is opened beside it. Regressions
        # take seconds or minutes, and no trial needs them.
        with ThreadPoolExecutor(1) as meanwhile:
            store, baseline = meanwhile.submit(self._open_store), meanwhile.submit(self._fit_baselines)
            try:
                with ray_cluster(self._config.resources, self._lines.say) as capacity:
                    self._interrupts.take()
                    store.result()
                    self._search_on(capacity)
                    baseline.result()
            except BaseException:  # Ctrl-C too
                self._interrupted = True  # or the baseline would be waited for
                raise

    def _search_on(self, capacity: Capacity) -> None:
        """Try configurations until there are as many as wanted, or the time is up."""
        config, trainable = self._config, self._trainable
        check_visible(trainable.shared_folders(), on_gpus=capacity.gpus > 0)
        space, cohort = study_space(config, self._inputs.cohort), self._inputs.cohort
        fixed, ranges = searched(config, self._inputs.encoder)
        earlier = earlier_starts(config, self._run, lambda starts: space.starts_inside(starts, fixed, ranges))
        lines = []
        if earlier and not self._done_before:
            lines.append(
                f"begins with the {len(earlier)} best of {config.search.warm_start}, trained again here"
            )
        asking = Asking(
            suggest=lambda trial: space.suggest(trial, fixed, ranges),
            presets=trainable.presets(),
            warm_starts=earlier
            + trainable.space.warm_starts(
                fixed, ranges, multiclass=cohort.multiclass, ordinal=cohort.ordinal
            ),
            known_to_bank=trainable.known_to_bank,
        )
        plan = kept_plan(trainable.plan(capacity, self._done_before, self._deadline), self._run)
        banks = BankQueue(config.name, self._run, plan, asking)
        searcher = BankSearcher(banks, self._on_bank)
        self._lines.announce(
            [*trainable.announcement(plan, capacity), *lines], self._inputs, self._done_before
        )
        if not searcher.is_done():  # Tune cannot end a study of no trial without a traceback
            self._echo(f"{config.name}: training begins after {self._seconds():.0f} s")
            self._train(searcher, *trainable.trainable(plan, capacity))
        banks.tell_rest()
        self._out_of_time, self._given_up = searcher.out_of_time, searcher.given_up

    def _train(self, searcher: BankSearcher, trainable: Any, scheduler: Any) -> None:
        """Let Ray Tune train until the searcher has no more."""
        from study.tune_callbacks import BeforeEachStep, EpochLines, ForgetBankFiles, WorkerDeaths
        from study.tune_run import train

        callbacks = [
            BeforeEachStep(self._interrupts.check, searcher.raise_fault),
            ForgetBankFiles(),
            WorkerDeaths(self._lines.say),
            EpochLines(
                self._echo, self._run.note_running, self._config.search.objective, deadline=self._deadline
            ),
        ]
        train(searcher, trainable, scheduler, self._run, callbacks)

    def _open_store(self) -> None:
        """MLflow's parent run."""
        config = self._config
        self._tracker = StudyTracker(
            config.tracking.uri,
            tracked_study(config, self._inputs.identity),
            self._run.mlflow_run_file,
        )
        if away := self._tracker.away:
            self._lines.say(
                f"MLflow at {masked(config.tracking.uri)} does not answer ({away}); the study goes on, and "
                "is logged when it does"
            )
        if renamed := self._tracker.renamed:
            self._lines.say(renamed)
        self._tracker.log(self._records.values())

    def _fit_baselines(self) -> None:
        """The logistic regressions that the progress lines name once they are known, and against which the
        configurations are weighed at the end; none where time is short."""
        inputs = baseline_inputs(
            self._config,
            self._inputs,
            self._run,
            given_up=lambda: self._interrupted or time.time() >= self._deadline,
        )
        with suppress(GivenUp):
            for baseline in logistic.fit(inputs):
                if baseline.id not in inputs.kept:
                    for line in baseline.chosen.warnings:
                        self._echo(f"{baseline.name}: {line}")
                    self._run.write_baseline(baseline.id, baseline.records)
                self._logreg = self._run.logreg()

    def _seconds(self) -> float:
        """Since the study was started, whatever the clock on the wall does meanwhile."""
        return time.monotonic() - self._started

    def _on_bank(self, records: list[TrialRecord]) -> None:
        self._records |= {record.number: record for record in records}
        self._tracker.log(records)
        self._run.write_trials(self._records.values(), self._tracker.run_ids)
        self._trainable.tidy(self._records.values())
        if self._copy:
            self._copy.renew()
        self._lines.bank(records, self._records.values(), self._logreg, self._seconds())

    def _progress(self) -> str:
        return progress(self._records.values(), self._logreg, self._config.search.objective)

    def _finish(self) -> None:
        config, run, records = self._config, self._run, self._records.values()
        budget = config.search.time_budget or math.inf
        run.predictions_file.unlink(missing_ok=True)
        lines = self._trainable.close(records, self._deadline + budget * OVERTIME)
        nothing = nothing_completed(records)
        if not nothing and not self._out_of_time:  # otherwise the analysis makes them
            self._lines.say("computing the predictions of every row, the baselines' among them")
            rows = StudyRows(config=config, run=run, inputs=self._inputs, trainable=self._trainable)
            try:
                keep_predictions(rows)
            except InputError as error:  # a cluster's driver may see no images, which a baseline needs
                lines.append(f"the predictions are left to the analysis: {error}")
        write_atomically(run.environment_file, environment().encode())
        figures = figures_of(config, run) | {"seconds": self._seconds()}
        complaint = self._tracker.close(records, run.kept_with_mlflow(), figures)
        run.write_trials(records, self._tracker.run_ids)
        came_of_it = nothing or f"{counted(records)}; {self._progress()}"
        how = "ended" if nothing else "finished"
        reached = "finished"
        if self._given_up:
            numbers = ", ".join(f"#{number}" for number in sorted(self._given_up))
            reached = f"{len(self._given_up)} configurations have no result, their workers died"
            how = f"{reached} ({numbers}), {how}"
            came_of_it += "; --resume tries them again"
        if self._out_of_time:
            reached = f"time budget of {config.search.time_budget:g} s reached"
            how = f"{reached}, {how}"
            came_of_it += "; give it more with --resume --set search.time_budget=SECONDS" if nothing else ""
        write_atomically(run.ended_file, reached.encode())
        not_copied = self._copy.close() if self._copy else ""
        for line in [*lines, *filter(None, [complaint, not_copied])]:
            self._echo(line)
        self._echo(f"{how} in {self._seconds():.0f} s: {came_of_it}")


def figures_of(config: StudyConfig, run: RunFolder) -> dict[str, float]:
    """Figures of a study as a whole, from its folder, for its run in MLflow."""
    records = run.records()
    figures = {"configurations": float(len(records)), "val.logreg": run.logreg()}
    if (ranked := ranking(records.values())) and not ranked[0].on_given_split:
        figures[f"val.{config.search.objective}"] = ranked[0].objective
    if answer := run.answer():
        figures |= {
            "val.study": answer.objective,
            "val.study_nested": answer.nested_objective,
            "val.best_nested": answer.best_nested_objective,
        }
    return figures


def sync(config: StudyConfig, run: RunFolder, echo: Callable[[str], None] = print) -> str:
    """Send to MLflow what it lacks of a study that is not running: configurations, files, figures, and how
    often the test split was opened; returns an empty string, or one line saying what the store refused.

    Raises:
        InputError: a driver is at work, the study has not begun, or a database cannot be opened.
    """
    with driver_lock(run.lock_file):
        records = run.records()
        study = tracked_study(config, run.identity())
        tracker = StudyTracker(config.tracking.uri, study, run.mlflow_run_file)
        if tracker.renamed:
            echo(tracker.renamed)
        complaint = tracker.close(records.values(), run.kept_with_mlflow(), figures_of(config, run))
        run.write_trials(records.values(), tracker.run_ids)
        if not complaint and run.test_access_file.exists():
            complaint = record_test_access(
                config.tracking.uri, run.mlflow_run_file, run.test_access_file, {}, run.report
            )
    return complaint
