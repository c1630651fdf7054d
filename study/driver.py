"""From a study file to a finished run folder: inputs, Ray Tune, progress, resume."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from threadpoolctl import threadpool_limits

from analysis.floors import logreg_floor
from cohort.errors import InputError
from cohort.manifest import Cohort
from cohort.splits import positive_patients
from search_spaces import linear_probe as space
from study.cluster import ray_cluster
from study.config import StudyConfig, load_config, refuse_changes
from study.finalists import repeat_finalists
from study.journal import open_journal
from study.lock import driver_lock
from study.provenance import environment, revision
from study.search import BankSearcher, SearchPlan
from study.standing import ranking, standing
from study.tracking import StudyTracker
from trainables.linear_probe import ProbeData
from trainables.records import RunFolder, TrialRecord, write_atomically
from trainables.thresholds import patient_folds
from vlm.embeddings import Embeddings, embed
from vlm.encoders import Encoder, load_encoder

OBJECTIVE_PATIENTS = 5
"""Positive patients that a label needs on validation to count in the objective."""
ROUNDS_AT_LEAST = 4
"""Banks run side by side only as long as the sampler still learns between this many rounds of them."""
WORKER_RETRIES = 2
"""How often a bank whose worker process died is started again before its configurations fail."""


@dataclass(frozen=True, kw_only=True, eq=False)
class StudyInputs:
    """What every configuration of a study depends on. Holds nothing of the test split."""

    data: ProbeData
    train_patients_N: np.ndarray
    """int64 patient codes of the training images, of one coding with `data.val_patients_N`."""
    identity: dict[str, Any]
    """What must not change under a resumed study: hashes of cohort, encoder and embeddings, labels."""


def prepare(config: StudyConfig) -> StudyInputs:
    """Open the cohort, load the encoder, fill the embedding cache and lay out what trials may see.

    Raises:
        InputError: no cohort there, an empty split, an unknown encoder, or no label that can be an objective.
    """
    cohort, encoder, embeddings = embedded(config)
    data = probe_data(cohort, embeddings.features_ND, config.search.seed)
    identity = {
        "cohort_hash": cohort.content_hash,
        "encoder_fingerprint": encoder.fingerprint,
        "embeddings_key": embeddings.key,
        "labels": list(data.labels),
        "objective_labels": [str(label) for label in np.array(data.labels)[data.scored_C]],
    }
    return StudyInputs(
        data=data, train_patients_N=cohort.patients_N(cohort.indices("train")), identity=identity
    )


def embedded(config: StudyConfig) -> tuple[Cohort, Encoder, Embeddings]:
    """The study's cohort, its encoder, and the features of one under the other. InputError as `prepare`."""
    cohort = Cohort.open(config.cohort)
    encoder = load_encoder(config.encoder, features=config.features, device=_device(config))
    return cohort, encoder, embed(cohort, encoder, cache=config.cache)


def probe_data(cohort: Cohort, features_ND: np.ndarray, seed: int) -> ProbeData:
    """Training and validation features and labels; those of the test split stay behind.

    Args:
        features_ND: float32, all present rows in manifest order.
        seed: fixes the study's cross-fitting folds.

    Raises:
        InputError: a split is empty, or no label has enough positive patients on validation.
    """
    train_N, val_N = cohort.indices("train"), cohort.indices("val")
    train_targets_NC, val_targets_NC = cohort.targets_NC(train_N), cohort.targets_NC(val_N)
    patients_N = cohort.patients_N(val_N)
    positive_patients_C = positive_patients(val_targets_NC, patients_N)
    both_C = (val_targets_NC == 1).any(axis=0) & (val_targets_NC == 0).any(axis=0)
    return ProbeData(
        train_features_ND=np.ascontiguousarray(features_ND[train_N]),
        train_targets_NC=train_targets_NC,
        val_features_ND=np.ascontiguousarray(features_ND[val_N]),
        val_targets_NC=val_targets_NC,
        val_patients_N=patients_N,
        val_folds_N=patient_folds(val_targets_NC, patients_N, seed=seed),
        labels=cohort.labels,
        objective_labels_C=both_C & (positive_patients_C >= OBJECTIVE_PATIENTS),
    )


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
        inputs = prepare(config)
        _keep_identity(run, inputs.identity)
        write_atomically(run.study_file, config.to_yaml().encode())
        Conductor(config, run, inputs, echo).conduct()
    return run


class Conductor:
    """One driver's work on one study, from the start of Ray to the last table."""

    def __init__(
        self, config: StudyConfig, run: RunFolder, inputs: StudyInputs, echo: Callable[[str], None]
    ) -> None:
        self._config, self._run, self._inputs, self._echo = config, run, inputs, echo
        self._started = time.monotonic()
        self._records = run.records()
        self._done_before = len(self._records)
        self._logreg = math.nan
        self._bank_ends: list[tuple[float, int]] = []
        """When each bank ended, and how many configurations were done then."""

    def conduct(self) -> None:
        config, search = self._config, self._config.search
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._tracker = StudyTracker(config.tracking.uri, config.name, self._run.path, self._tags())
        self._tracker.log(self._records.values())
        # Ray takes seconds to start and leaves the cores idle meanwhile: the floor is fitted beside it.
        floor = threading.Thread(target=self._fit_floor, name="logreg floor")
        floor.start()
        with ray_cluster(config.resources) as capacity:
            floor.join()
            bank_size = SearchPlan.bank_size_for(search.configurations)
            rounds = (search.configurations - self._done_before) // (bank_size * ROUNDS_AT_LEAST)
            slots = max(1, int(capacity.gpus) if capacity.gpus else min(capacity.cpus, rounds))
            plan = SearchPlan(
                configurations=search.configurations,
                bank_size=bank_size,
                seed=search.seed,
                concurrent=slots,
                deadline=time.monotonic() + (search.time_budget or math.inf),
            )
            self._announce(plan, capacity.cpus, capacity.gpus)
            study = optuna.create_study(
                study_name=config.name,
                storage=open_journal(self._run.journal),
                direction="maximize",
                load_if_exists=True,
            )
            searcher = BankSearcher(
                study=study,
                run=self._run,
                plan=plan,
                suggest=lambda trial: space.suggest(trial, search.fixed, search.ranges),
                paper=space.PAPER,
                warm_starts=space.warm_starts(search.fixed, search.ranges),
                on_bank=self._on_bank,
            )
            self._train(searcher, threads=max(1, capacity.cpus // slots), gpus=capacity.gpus / slots)
            searcher.tell_rest()
        self._finish()

    def _train(self, searcher: BankSearcher, threads: int, gpus: float) -> None:
        """Let Ray Tune train banks until the searcher has no more."""
        from ray import tune

        from trainables.ray_trainables import ForgetBankFiles, LinearProbeBank

        trainable = tune.with_parameters(
            LinearProbeBank,
            data=self._inputs.data,
            seed=self._config.search.seed,
            batch_size=self._config.search.batch_size,
            objective=self._config.search.objective,
            threads=threads,
            device="cuda" if gpus else "cpu",
        )
        tune.Tuner(
            tune.with_resources(trainable, {"cpu": threads, "gpu": gpus}),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                num_samples=-1,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: f"bank-{trial.config['bank']:04d}-{trial.trial_id}",
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(self._run.path.absolute()),
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=WORKER_RETRIES),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                callbacks=[ForgetBankFiles()],
            ),
        ).fit()

    def _fit_floor(self) -> None:
        """The logistic-regression floor on validation, which the progress lines name."""
        if self._run.floors_file.exists():
            self._logreg = json.loads(self._run.floors_file.read_text())["logreg"]
            return
        data = self._inputs.data
        with threadpool_limits(1):  # small products: BLAS threads would only wait for each other
            floor = logreg_floor(
                data.train_features_ND,
                data.train_targets_NC,
                data.val_features_ND,
                data.val_targets_NC,
                data.val_patients_N,
                objective=self._config.search.objective,
                objective_labels_C=data.scored_C,
            )
        self._logreg = floor.objective
        write_atomically(
            self._run.floors_file, json.dumps({"logreg": floor.objective, "C": floor.strength}).encode()
        )

    # Progress ----------------------------------------------------------------------------------------------

    def _announce(self, plan: SearchPlan, cpus: int, gpus: float) -> None:
        data = self._inputs.data
        self._echo(
            f"{self._config.name}: {plan.configurations} configurations, {plan.bank_size} a bank, "
            f"{plan.concurrent} banks at a time on {cpus} cpus and {gpus:g} gpus"
        )
        self._echo(
            f"{len(data.train_features_ND)} training and {len(data.val_features_ND)} validation images, "
            f"{data.train_features_ND.shape[1]} features; objective {self._config.search.objective} over "
            f"{data.objective_labels_C.sum()} of {len(data.labels)} labels"
        )
        if self._done_before:
            self._echo(f"resumed: {self._done_before} configurations are done already")

    def _on_bank(self, records: list[TrialRecord]) -> None:
        self._records |= {record.number: record for record in records}
        self._tracker.log(records)
        self._run.write_trials(self._records.values(), self._tracker.run_ids)
        done, wanted = len(self._records), self._config.search.configurations
        now = time.monotonic()
        self._bank_ends.append((now, done))
        self._echo(
            f"{done:>4}/{wanted} configurations · {self._standing()} · {now - self._started:.0f} s"
            + self._time_left(wanted)
        )

    def _time_left(self, wanted: int) -> str:
        """From the second bank on: the first one waits for its worker to start, which happens once."""
        (first, before), (last, done) = self._bank_ends[0], self._bank_ends[-1]
        if done == before or done >= wanted:
            return ""
        return f", about {(last - first) / (done - before) * (wanted - done):.0f} s left"

    def _standing(self) -> str:
        return standing(self._records.values(), self._logreg, self._config.search.objective)

    # The end -----------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        config, run, records = self._config, self._run, self._records.values()
        ranked = ranking(records)
        finalists = repeat_finalists(
            ranked[: config.analysis.top],
            self._inputs.data,
            self._inputs.train_patients_N,
            seed=config.search.seed,
            batch_size=config.search.batch_size,
            objective=config.search.objective,
        )
        write_atomically(run.finalists_file, finalists.to_json().encode())
        write_atomically(run.environment_file, environment().encode())
        seconds = time.monotonic() - self._started
        figures = {"configurations": len(self._records), "seconds": seconds, "val.logreg": self._logreg}
        if ranked:
            figures[f"val.{config.search.objective}"] = ranked[0].objective
        complaint = self._tracker.close(
            records, [run.study_file, run.inputs_file, run.environment_file, run.finalists_file], figures
        )
        run.write_trials(records, self._tracker.run_ids)
        states = [record.state for record in records]
        counts = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))
        self._echo(f"finished in {time.monotonic() - self._started:.0f} s: {counts}; {self._standing()}")
        for line in finalists.lines():
            self._echo(line)
        if complaint:
            self._echo(complaint)

    def _tags(self) -> dict[str, str]:
        identity = self._inputs.identity
        return {
            "radtune.study": self._config.name,
            "radtune.trainable": self._config.trainable,
            "radtune.encoder": self._config.encoder,
            "radtune.encoder_fingerprint": identity["encoder_fingerprint"],
            "radtune.cohort_hash": identity["cohort_hash"],
            "mlflow.source.git.commit": revision(),
        }


def _device(config: StudyConfig) -> str:
    import torch

    return "cuda" if config.resources.gpus != 0 and torch.cuda.is_available() else "cpu"


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
