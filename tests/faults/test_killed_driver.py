"""Drivers that are killed, interrupted, or talk to nobody."""

import signal
import subprocess
import sys
import time

import optuna
import pytest
import torch
import yaml

from study import Study
from study.lock import is_locked
from tests.conftest import REPOSITORY
from tests.faults.conftest import (
    LONG,
    check_every_number_once,
    finish,
    killed,
    start,
    study_file,
    to_run,
    wait_for,
)
from tests.faults.harms import torn
from tests.study.conftest import settings, square_cohort
from tests.trainables.towers import build_tower
from trainables import checkpoints
from trainables.checkpoints import CheckpointFolder
from trainables.fine_tune_state import BEST, CHECKPOINT

optuna.logging.set_verbosity(optuna.logging.WARNING)
pytestmark = pytest.mark.fault


@pytest.mark.parametrize("banks", [1, 4])
def test_kill_9_and_resume_ends_with_every_configuration_once(tmp_path, banks):
    study = to_run(tmp_path, **LONG)
    killed(study, lambda: len(study.folder.bank_files()) >= banks)
    before = {number: record.objective for number, record in study.records.items()}
    assert 0 < len(before) < 64
    torn(study.folder.journal)  # the worst moment
    assert f"resumed: {len(before)} configurations are done already" in finish(study, "--resume")
    check_every_number_once(study)
    records = study.records
    assert {number: records[number].objective for number in before} == before
    assert {record.state for record in records.values()} <= {"COMPLETE", "PRUNED"}


def test_a_driver_killed_again_and_again_comes_to_its_end(tmp_path):
    """Four kills: while Ray starts, and after one more bank each time."""
    study = to_run(tmp_path, **LONG)
    killed(study, lambda: study.folder.journal.exists())
    for _ in range(3):
        done = len(study.folder.bank_files())
        killed(study, lambda done=done: len(study.folder.bank_files()) > done, "--resume")
    finish(study, "--resume")
    check_every_number_once(study)


def test_an_interrupted_study_says_so_and_is_not_finished(tmp_path):
    study = to_run(tmp_path, **LONG)
    driver = start(study)
    wait_for(study.folder.bank_files, driver)
    driver.send_signal(signal.SIGINT)  # Ctrl-C
    output, error = driver.communicate(timeout=120)
    assert driver.returncode == 130, output + error
    assert "radtune: interrupted; a study goes on with" in error and "finished in" not in output
    assert 0 < len(study.records) < 64
    assert not study.folder.repeats_file.exists() and not is_locked(study.folder.lock_file)


def test_a_study_whose_lines_nobody_reads_any_more_stops_quietly_and_goes_on_with_resume(tmp_path):
    """`radtune run STUDY.yaml | head -1`"""
    study = to_run(tmp_path, configurations=64)
    command = [sys.executable, "-m", "study", "run", str(study_file(study))]
    driver = subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    driver.stdout.readline()
    driver.stdout.close()
    error = driver.stderr.read()
    assert driver.wait(timeout=120) == 130
    assert error.startswith("radtune: interrupted; a study goes on with") and error.count("\n") == 1, error
    assert len(study.records) < 64 and not is_locked(study.folder.lock_file)
    assert "finished in" in finish(study, "--resume")
    check_every_number_once(study)


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
    whole, broken = studies.values()
    finish(whole)
    folder = CheckpointFolder(broken.folder.checkpoints, 1)
    killed(broken, lambda: folder.resume_point(5).exists() or folder.resume_point(6).exists())
    newest = None
    while newest != (newest := folder.resume_points()):  # its worker ends a little later
        time.sleep(2)
    assert len(newest) == 2 and len(broken.records) == 1
    damaged = newest[0] / CHECKPOINT
    damaged.write_bytes(damaged.read_bytes()[:-1])

    output = finish(broken, "--resume")
    assert f"#1: {damaged}" in output
    went_on = int(newest[1].name.removeprefix("epoch-"))
    assert f"went on from epoch {went_on}" in output and went_on >= 4

    check_every_number_once(broken)
    for number, expected in whole.records.items():
        record = broken.records[number]
        assert record.params == expected.params and record.state == expected.state == "COMPLETE"
        for name in ("epoch", "train_loss", "val_loss", "objective", "tower_learning_rate"):
            assert [point[name] for point in record.curve] == [point[name] for point in expected.curve]
        for name, array in record.head.tensors().items():
            assert (array == expected.head.tensors()[name]).all()
    best, expected = (
        checkpoints.read(CheckpointFolder(one.folder.checkpoints, one.best.number).best / BEST)
        for one in (broken, whole)
    )
    assert best[1] == expected[1]
    assert all(torch.equal(tensor, expected[0][name]) for name, tensor in best[0].items())
