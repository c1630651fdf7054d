"""Tests that kill processes. `make test-slow` runs them."""

import os
import signal
import subprocess
import sys
import time

import optuna
import pandas as pd
import pytest
import yaml
from optuna.trial import TrialState

from study import Study
from study.lock import is_locked
from study.tracking import NUMBER_TAG
from tests.conftest import REPOSITORY
from tests.study.conftest import settings, square_cohort
from tests.study.test_driver import journal_trials, mlflow_children

optuna.logging.set_verbosity(optuna.logging.WARNING)
pytestmark = pytest.mark.fault


def start(study_file, *more):
    command = [sys.executable, "-m", "study", "run", str(study_file), *more]
    return subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.mark.parametrize("banks", [1, 4])
def test_kill_9_and_resume_ends_with_every_configuration_once(tmp_path, banks):
    square_cohort(tmp_path / "cohort")
    file = tmp_path / "squares.yaml"
    # Long heads, so that the driver is killed in the middle of some.
    fixed = {"epochs": 400}
    file.write_text(yaml.safe_dump(settings(tmp_path, configurations=64, fixed=fixed)))
    study = Study.from_yaml(file)

    driver = start(file)
    try:
        wait_for(lambda: len(study.folder.bank_files()) >= banks or driver.poll() is not None)
        assert driver.poll() is None, driver.stdout.read()
    finally:
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
    assert not is_locked(study.folder.lock_file)
    before = {number: record.objective for number, record in study.records.items()}
    assert 0 < len(before) < 64

    with open(study.folder.journal, "ab") as journal:  # the worst moment: a line half written
        journal.write(b'{"op_code":5,"wor')
    done = start(file, "--resume")
    output, _ = done.communicate(timeout=300)
    assert done.returncode == 0, output
    assert f"resumed: {len(before)} configurations are done already" in output

    expected = list(range(64))
    trials = journal_trials(study)
    assert [trial.number for trial in trials] == expected
    assert {trial.state for trial in trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert pd.read_parquet(study.folder.trials_file)["number"].tolist() == expected
    _, children = mlflow_children(study)
    assert sorted(int(run.data.tags[NUMBER_TAG]) for run in children) == expected
    assert {run.info.status for run in children} == {"FINISHED"}
    records = study.records
    assert {number: records[number].objective for number in before} == before
    assert {trial.number: trial.value for trial in trials} == {
        number: pytest.approx(record.objective) for number, record in records.items()
    }
