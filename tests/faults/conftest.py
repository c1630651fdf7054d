"""Studies to be harmed, and what must be true of them afterwards."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import yaml

from study import Study
from study.ask_tell import told
from study.lock import is_locked
from study.study_runs import NUMBER_TAG, RESULT_TAG, STATUS
from tests.conftest import REPOSITORY
from tests.study.conftest import copy_of, settings, square_cohort, study_file
from tests.study.test_driver import journal_trials, mlflow_children
from trainables.bank_files import unpack_bank
from trainables.packed import unpack

LONG = {"configurations": 64, "fixed": {"epochs": 100}}
"""Heads that train long enough for a fault to come in the middle of them."""


# Studies ---------------------------------------------------------------------------------------------------


@pytest.fixture
def copied(studied, tmp_path) -> Study:
    """A finished study with its cohort, cache and MLflow store, all of them its own."""
    return copy_of(studied[0], tmp_path / "project")


def to_run(folder: Path, name: str = "squares", **search: object) -> Study:
    """A study that has not begun, its cohort and its study file."""
    if not (folder / "cohort").exists():
        square_cohort(folder / "cohort")
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(settings(folder, name=name, **search)))
    return Study.from_yaml(folder / f"{name}.yaml")


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory) -> Study:
    """What `to_run(folder, **LONG)` comes to where nothing happens to it."""
    study = to_run(tmp_path_factory.mktemp("uninterrupted"), **LONG)
    finish(study)
    return study


# Drivers in processes of their own -------------------------------------------------------------------------


def start(study: Study, *more: str) -> subprocess.Popen:
    """`radtune run` in a process of its own."""
    command = [sys.executable, "-m", "study", "run", str(study_file(study)), *more]
    return subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(study: Study, *more: str) -> str:
    """Run a study to its end; returns what it printed."""
    driver = start(study, *more)
    try:
        output, error = driver.communicate(timeout=300)
    finally:
        driver.kill()
    assert driver.returncode == 0, output + error
    return output


def wait_for(condition: Callable[[], object], driver: subprocess.Popen, seconds: float = 120) -> None:
    """Wait until something is true of a running study; its output where it ends or takes too long."""
    end = time.monotonic() + seconds
    while not condition():
        if driver.poll() is not None or time.monotonic() > end:
            driver.kill()
            raise AssertionError(f"waited in vain: {driver.communicate()}")
        time.sleep(0.02)


def killed(study: Study, condition: Callable[[], object], *more: str) -> None:
    """Run a study and kill its driver, as `kill -9` does, when the condition holds."""
    driver = start(study, *more)
    wait_for(condition, driver)
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate()
    assert not is_locked(study.folder.lock_file)


def processes(driver: subprocess.Popen, named: str) -> list[psutil.Process]:
    """Those of a driver's Ray whose command line has this in it."""
    found = []
    for process in psutil.Process(driver.pid).children(recursive=True):
        try:
            if named in " ".join(process.cmdline()):
                found.append(process)
        except psutil.NoSuchProcess:
            pass
    return found


def kill_a_worker(driver: subprocess.Popen) -> None:
    """End one worker that trains, as the kernel does where memory is short."""
    found: list[psutil.Process] = []
    wait_for(lambda: found or found.extend(processes(driver, "ray::ResourceTrainable.train")), driver)
    found[0].kill()
    found[0].wait(timeout=10)


# What must be true afterwards ------------------------------------------------------------------------------


def check_every_number_once(study: Study) -> None:
    """Each configuration stands once in bank files, journal, table and MLflow, everywhere with the same
    state and score."""
    wanted = list(range(study.config.search.configurations))
    banks = [record for file in study.folder.bank_files() for record in unpack_bank(file.read_bytes())]
    records = {record.number: record for record in banks}
    assert sorted(record.number for record in banks) == wanted

    trials = journal_trials(study)
    assert [trial.number for trial in trials] == wanted
    expected = [told(records[number]) for number in wanted]
    assert [(trial.state, trial.value) for trial in trials] == [
        (one["state"], one.get("value")) for one in expected
    ]

    table = pd.read_parquet(study.folder.trials_file)
    assert table["number"].tolist() == wanted
    assert table["state"].tolist() == [records[number].state for number in wanted]
    metric = f"val.{study.config.search.objective}"
    parent, children = mlflow_children(study)
    assert parent.info.status == "FINISHED"
    logged = {int(run.data.tags[NUMBER_TAG]): run for run in children}
    assert len(children) == len(logged) and sorted(logged) == wanted
    for row in table.to_dict("records"):
        run, record = logged[row["number"]], records[row["number"]]
        assert run.info.run_id == row["mlflow_run_id"]
        assert run.info.status == STATUS[record.state] and run.data.tags[RESULT_TAG]
        scores = [run.data.metrics.get(metric, math.nan), record.metrics.get(metric, math.nan), row[metric]]
        np.testing.assert_array_equal(scores, scores[:1] * 3)  # NaN where it was stopped early


def objectives(study: Study) -> pd.Series:
    """Of each finished configuration, by number; NaN where it was stopped early."""
    return pd.Series({number: record.objective for number, record in sorted(study.records.items())})


def check_equal(study: Study, other: Study) -> None:
    """All that two studies found is the same to the last digit: each configuration's parameters, state,
    scores and threshold strategy."""
    found = [one.trials.drop(columns=["seconds", "mlflow_run_id"]) for one in (study, other)]
    pd.testing.assert_frame_equal(*found, check_exact=True)


def check_same_answer(study: Study, other: Study) -> None:
    """The heads with which two studies answer are the same to the last bit."""
    (ours, said), (theirs, expected) = (unpack(one.folder.answer_file.read_bytes()) for one in (study, other))
    assert said == expected and ours.keys() == theirs.keys()
    assert all((ours[name] == array).all() for name, array in theirs.items())


def only_line(error: str) -> str:
    """What was said on stderr, which must be one line and no traceback."""
    assert error.count("\n") == 1 and "Traceback" not in error, error
    return error
