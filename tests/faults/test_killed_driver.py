"""Tests that kill drivers. `make test-slow` runs them."""

import os
import signal
import subprocess
import sys
import time

import optuna
import pandas as pd
import pytest
import torch
import yaml
from optuna.trial import TrialState

from study import Study
from study.lock import is_locked
from study.tracking import NUMBER_TAG
from tests.conftest import REPOSITORY
from tests.study.conftest import settings, square_cohort
from tests.study.test_driver import journal_trials, mlflow_children
from tests.trainables.towers import build_tower
from trainables import checkpoints
from trainables.checkpoints import CheckpointFolder
from trainables.fine_tune_state import BEST, CHECKPOINT

optuna.logging.set_verbosity(optuna.logging.WARNING)
pytestmark = pytest.mark.fault


def start(study_file, *more):
    command = [sys.executable, "-m", "study", "run", str(study_file), *more]
    return subprocess.Popen(
        command,
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # What a shell starts in the background ignores Ctrl-C, and its children with it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
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
    fixed = {"epochs": 100}
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


def test_an_interrupted_study_says_so_and_is_not_finished(tmp_path):
    square_cohort(tmp_path / "cohort")
    file = tmp_path / "squares.yaml"
    file.write_text(yaml.safe_dump(settings(tmp_path, configurations=64, fixed={"epochs": 100})))
    study = Study.from_yaml(file)
    driver = start(file)
    try:
        wait_for(lambda: study.folder.bank_files() or driver.poll() is not None)
        assert driver.poll() is None, driver.stdout.read()
        driver.send_signal(signal.SIGINT)  # Ctrl-C
        output, _ = driver.communicate(timeout=120)
    finally:
        driver.kill()
    assert driver.returncode == 130, output
    assert "radtune: interrupted; a study goes on with" in output and "finished in" not in output
    assert 0 < len(study.records) < 64
    assert not study.folder.repeats_file.exists() and not is_locked(study.folder.lock_file)


def test_a_study_whose_lines_nobody_reads_any_more_stops_quietly_and_goes_on_with_resume(tmp_path):
    """`radtune run STUDY.yaml | head -1`"""
    square_cohort(tmp_path / "cohort")
    file = tmp_path / "squares.yaml"
    file.write_text(yaml.safe_dump(settings(tmp_path, configurations=64)))
    command = [sys.executable, "-m", "study", "run", str(file)]
    driver = subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    driver.stdout.readline()
    driver.stdout.close()
    error = driver.stderr.read()
    assert driver.wait(timeout=120) == 130
    assert error.startswith("radtune: interrupted; a study goes on with") and error.count("\n") == 1, error
    study = Study.from_yaml(file)
    assert len(study.records) < 64 and not is_locked(study.folder.lock_file)
    output, _ = start(file, "--resume").communicate(timeout=300)
    assert "finished in" in output and len(study.records) == 64


def test_kill_9_in_the_middle_of_fine_tuning_changes_nothing_but_the_clock(tmp_path):
    """Killed between two epochs, its newest resume point torn, resumed: the study that nobody killed."""
    square_cohort(tmp_path / "cohort")
    build_tower("vit", tmp_path / "vit")
    # None is stopped early: a scheduler does not hear again of the epochs before the crash.
    training = {"batch_size": 16, "patience": None}
    alike = {"training": training, "precision": "fp32", "early_stopping": "none", "keep": 2}
    search = {"configurations": 3, "fixed": {"epochs": 40}, "ranges": {"last_blocks": [1, 2]}}
    studies = {}
    for name in ("whole", "killed"):
        config = settings(tmp_path, name=name, **search) | {
            "encoder": f"local-dir:{tmp_path}/vit",
            "trainable": "fine_tune",
            "fine_tune": alike,
        }
        file = tmp_path / f"{name}.yaml"
        file.write_text(yaml.safe_dump(config))
        studies[name] = Study.from_yaml(file)
    whole, killed = studies.values()
    done = start(tmp_path / "whole.yaml")
    output, _ = done.communicate(timeout=300)
    assert done.returncode == 0, output

    driver = start(tmp_path / "killed.yaml")
    folder = CheckpointFolder(killed.folder.checkpoints, 1)
    try:
        wait_for(
            lambda: (
                folder.resume_point(5).exists()
                or folder.resume_point(6).exists()
                or driver.poll() is not None
            )
        )
        assert driver.poll() is None, driver.stdout.read()
    finally:
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
    newest = None
    while newest != (newest := folder.resume_points()):  # its worker ends a little later
        time.sleep(2)
    assert len(newest) == 2 and len(killed.records) == 1
    damaged = newest[0] / CHECKPOINT
    damaged.write_bytes(damaged.read_bytes()[:-1])

    done = start(tmp_path / "killed.yaml", "--resume")
    output, _ = done.communicate(timeout=300)
    assert done.returncode == 0, output
    assert f"#1: {damaged}" in output
    went_on = int(newest[1].name.removeprefix("epoch-"))
    assert f"went on from epoch {went_on}" in output and went_on >= 4

    assert [trial.number for trial in journal_trials(killed)] == [0, 1, 2]
    _, children = mlflow_children(killed)
    assert sorted(int(run.data.tags[NUMBER_TAG]) for run in children) == [0, 1, 2]
    for number, expected in whole.records.items():
        record = killed.records[number]
        assert record.params == expected.params and record.state == expected.state == "COMPLETE"
        for name in ("epoch", "train_loss", "val_loss", "objective", "tower_learning_rate"):
            assert [point[name] for point in record.curve] == [point[name] for point in expected.curve]
        for name, array in record.head.tensors().items():
            assert (array == expected.head.tensors()[name]).all()
    best, expected = (
        checkpoints.read(CheckpointFolder(one.folder.checkpoints, one.best.number).best / BEST)
        for one in (killed, whole)
    )
    assert best[1] == expected[1]
    assert all(torch.equal(tensor, expected[0][name]) for name, tensor in best[0].items())
