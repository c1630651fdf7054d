"""A whole linear-probe study against three plainer ways of doing the same, on one problem and machine.

    python -m benchmarks.probe_study [--configurations 256] [--plain 12] [--deep]

2,670 training and 575 validation embeddings of width 512 with 14 skewed labels (`benchmarks.features`), in
five folds of patients everywhere; with --deep 6,144 deep features beside them, among which ours chooses. 50
epochs a fold in the plain ways and whatever the search chooses in ours. Ray's start and MLflow, the
regressions, the ensemble and what the given split would have chosen are included in ours. The plain ways are
timed on few trials and quoted by the trial, so that this ends in minutes.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
os.environ["RAY_AIR_NEW_OUTPUT"] = "0"

import optuna
import torch
from threadpoolctl import threadpool_limits

from benchmarks.features import probe_data
from search_spaces import linear_probe as space
from search_spaces.configuration import Configuration
from study.driver import Driver
from study.inputs import FOLDS, OBJECTIVE_PATIENTS
from study.interrupts import Interrupts
from study.linear_probe import LinearProbeStudy
from study.run_folder import RunFolder
from study.study_file import stored_file, validated
from trainables.baselines.base import chosen
from trainables.baselines.logistic import STRENGTHS, train_logistic
from trainables.linear_probe import train_bank
from trainables.trial_data import ProbeData


@dataclass(frozen=True)
class DrawnInputs:
    """As much of `study.inputs.Inputs` as a running study reads, without cohort and encoder."""

    data: ProbeData
    given: ProbeData
    identity: dict[str, Any]
    cohort: SimpleNamespace
    encoder: SimpleNamespace
    uncounted: tuple[str, ...] = ()


def ours(data: ProbeData, given: ProbeData, configurations: int, folder: Path) -> tuple[float, float]:
    """Seconds of the whole study, and the objective of its answer, out of fold."""
    config = validated(
        {
            "name": "study",
            "cohort": "none",
            "encoder": "none",
            "search": {"configurations": configurations},
            "resources": {"gpus": 0},
        }
    ).resolved(folder)
    run = RunFolder(config.run_folder)
    run.path.mkdir(parents=True)
    run.study_file.write_bytes(stored_file(config))
    run.inputs_file.write_text("{}")
    inputs = DrawnInputs(
        data,
        given,
        {"encoder_fingerprint": "synthetic", "cohort_hash": "synthetic", "labels": data.labels},
        SimpleNamespace(multiclass=False, labels=data.labels),
        SimpleNamespace(
            kinds=data.kinds,
            name="synthetic",
            text_refusal="no text",
            image_views=SimpleNamespace(count=1),
        ),
    )
    study = LinearProbeStudy(config, inputs, run)
    started = time.perf_counter()
    study.prepare(print)

    def say(line: str) -> None:
        print("   ", line, flush=True)

    Driver(config, run, inputs, study, say, time.monotonic(), Interrupts()).drive()
    return time.perf_counter() - started, run.answer().objective


def one_head(data: ProbeData, params: dict, number: int) -> float:
    [result] = train_bank([Configuration(space.SPACE, number, params)], data)
    return result.objective


def plain_space(trial: optuna.Trial) -> dict:
    trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True)
    trial.suggest_float("weight_decay", 1e-4, 1e1, log=True)
    return {}


def plain_ray(data: ProbeData, trials: int, folder: Path) -> float:
    """Seconds a trial of function trainables, Ray's own OptunaSearch and Ray's own MLflow callback."""
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.search.optuna import OptunaSearch

    def trainable(config: dict, data: ProbeData) -> None:
        torch.set_num_threads(1)
        params = space.PAPER | {"epochs": 50, "normalisation": "standardize"} | config
        tune.report({"objective": one_head(data, params, 1)})

    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        ends = []
        for count in (2, trials):  # the difference is the marginal cost, without the start
            started = time.perf_counter()
            tune.Tuner(
                tune.with_resources(tune.with_parameters(trainable, data=data), {"cpu": 1}),
                tune_config=tune.TuneConfig(
                    metric="objective",
                    mode="max",
                    search_alg=OptunaSearch(plain_space, metric="objective", mode="max"),
                    num_samples=count,
                ),
                run_config=tune.RunConfig(
                    name=f"plain-{count}",
                    storage_path=str(folder),
                    verbose=0,
                    callbacks=[
                        MLflowLoggerCallback(
                            tracking_uri=f"sqlite:///{folder}/plain.db", experiment_name="plain"
                        )
                    ],
                ),
            ).fit()
            ends.append(time.perf_counter() - started)
    finally:
        ray.shutdown()
    return (ends[1] - ends[0]) / (trials - 2)


def optuna_alone(data: ProbeData, trials: int) -> float:
    """Seconds a trial of Optuna in one process, no store, no MLflow."""
    study = optuna.create_study(direction="maximize")
    started = time.perf_counter()
    for number in range(trials):
        trial = study.ask()
        lr = trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True)
        decay = trial.suggest_float("weight_decay", 1e-4, 1e1, log=True)
        params = space.PAPER | {"epochs": 50, "normalisation": "standardize"}
        study.tell(trial, one_head(data, params | {"learning_rate": lr, "weight_decay": decay}, number))
    return (time.perf_counter() - started) / trials


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--configurations", type=int, default=256)
    parser.add_argument(
        "--plain", type=int, default=12, help="trials of the plain ways (default: %(default)s)"
    )
    parser.add_argument("--deep", action="store_true", help="6,144 deep features beside the projected ones")
    arguments = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.disable(logging.INFO)
    print(
        f"{platform.machine()}, {os.cpu_count()} cpus, Python {platform.python_version()}, "
        f"torch {torch.__version__}"
    )
    given = probe_data(deep=arguments.deep)
    data = given.cross_validated(FOLDS, 0, OBJECTIVE_PATIENTS)
    with tempfile.TemporaryDirectory() as scratch:
        seconds, best = ours(data, given, arguments.configurations, Path(scratch))
        print(
            f"radtune: {arguments.configurations} configurations in {seconds:.1f} s "
            f"({1000 * seconds / arguments.configurations:.0f} ms each), macro-AP of its answer {best:.4f}"
        )
        started = time.perf_counter()
        with threadpool_limits(1):
            baseline = chosen(train_logistic(data, objective_name="macro_ap"))
        grid = (time.perf_counter() - started) / len(STRENGTHS)
        print(
            f"scikit-learn LogisticRegression, {len(STRENGTHS)} values of C: {grid:.2f} s a value, "
            f"best macro-AP {baseline.objective:.4f} at C = {baseline.params['C']:g}"
        )
        torch.set_num_threads(1)
        each = seconds / arguments.configurations
        alone = optuna_alone(data, arguments.plain)
        print(f"Optuna alone: {alone:.2f} s a configuration, {alone / each:.1f} times ours")
        plain = plain_ray(data, arguments.plain, Path(scratch))
        print(
            f"function trainable + OptunaSearch + MLflow callback: {plain:.2f} s a configuration (marginal), "
            f"so {plain * arguments.configurations:.0f} s for {arguments.configurations}, "
            f"{plain / each:.0f} times ours; a value of C by scikit-learn {grid / each:.1f} times"
        )


if __name__ == "__main__":
    main()
