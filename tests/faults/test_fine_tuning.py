"""Fine-tuning whose processes are killed and whose checkpoints are damaged."""

import re
import time
from pathlib import Path

import optuna
import pytest
import torch
import yaml

from study import Study
from study.cli import main
from tests.faults.conftest import (
    check_every_number_once,
    copy_of,
    finish,
    kill_a_worker,
    killed,
    only_line,
    start,
    wait_for,
)
from tests.faults.harms import cut, flipped
from tests.study.conftest import settings, square_cohort
from tests.trainables.towers import build_tower
from trainables import checkpoints
from trainables.checkpoints import CheckpointFolder
from trainables.fine_tune_state import BEST, CHECKPOINT

optuna.logging.set_verbosity(optuna.logging.WARNING)
pytestmark = pytest.mark.fault


def tuning(folder, name):
    """A study of three long trials."""
    # None is stopped early: a scheduler does not hear again of the epochs before the crash.
    training = {"batch_size": 16, "patience": None}
    alike = {"training": training, "precision": "fp32", "early_stopping": "none", "keep": 2}
    search = {"configurations": 3, "fixed": {"epochs": 40}, "ranges": {"last_blocks": [1, 2]}}
    encoder = {"encoder": f"local-dir:{folder}/vit", "trainable": "fine_tune", "fine_tune": alike}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(settings(folder, name=name, **search) | encoder))
    return Study.from_yaml(folder / f"{name}.yaml")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Nothing happened to it."""
    folder = tmp_path_factory.mktemp("fine-tuning")
    square_cohort(folder / "cohort")
    build_tower("vit", folder / "vit")
    study = tuning(folder, "whole")
    finish(study)
    return study


def folder_of(study):
    return Path(study.config.storage).parent


def check_as_if_nothing_had_happened(study, whole):
    check_every_number_once(study)
    for number, expected in whole.records.items():
        record = study.records[number]
        assert record.params == expected.params and record.state == expected.state == "COMPLETE"
        for name in ("epoch", "train_loss", "val_loss", "objective", "tower_learning_rate"):
            assert [point[name] for point in record.curve] == [point[name] for point in expected.curve]
        for name, array in record.head.tensors().items():
            assert (array == expected.head.tensors()[name]).all()
    best, expected = (
        checkpoints.read(CheckpointFolder(one.folder.checkpoints, one.best.number).best / BEST)
        for one in (study, whole)
    )
    assert best[1] == expected[1]
    assert all(torch.equal(tensor, expected[0][name]) for name, tensor in best[0].items())


def test_kill_9_in_the_middle_of_fine_tuning_changes_nothing_but_the_clock(whole):
    """Killed between two epochs, its newest resume point torn, resumed: the study that nobody killed."""
    study = tuning(folder_of(whole), "killed")
    folder = CheckpointFolder(study.folder.checkpoints, 1)
    killed(study, lambda: folder.resume_point(5).exists() or folder.resume_point(6).exists())
    newest = None
    while newest != (newest := folder.resume_points()):  # its worker ends a little later
        time.sleep(2)
    assert len(newest) == 2 and len(study.records) == 1
    damaged = newest[0] / CHECKPOINT
    damaged.write_bytes(damaged.read_bytes()[:-1])

    output = finish(study, "--resume")
    assert f"#1: {damaged}" in output
    went_on = int(newest[1].name.removeprefix("epoch-"))
    assert f"went on from epoch {went_on}" in output and went_on >= 4
    check_as_if_nothing_had_happened(study, whole)


def test_a_killed_worker_of_fine_tuning_goes_on_from_its_last_epoch(whole):
    study = tuning(folder_of(whole), "worker")
    folder = CheckpointFolder(study.folder.checkpoints, 1)
    driver = start(study)
    wait_for(lambda: folder.resume_point(5).exists() or folder.resume_point(6).exists(), driver)
    kill_a_worker(driver)
    output, error = driver.communicate(timeout=300)
    assert driver.returncode == 0, output + error
    afterwards = output.partition("#1: the worker died")[2]
    # Of a trial's first epoch a line tells always, of others every 10 s.
    assert afterwards and not re.search(r"#1 \w+: epoch 1/40", afterwards), output
    check_as_if_nothing_had_happened(study, whole)


@pytest.mark.parametrize("harm", [cut, flipped])
def test_damaged_weights_of_the_best_trial_are_named_when_they_are_exported(whole, tmp_path, harm, capsys):
    study = copy_of(whole, tmp_path / "project")
    for weights in study.folder.checkpoints.rglob("*.safetensors"):
        harm(weights)
    assert main(["export", str(study.folder.path), "--out", str(tmp_path / "bundle")]) == 2
    error = only_line(capsys.readouterr().err)
    assert str(study.folder.checkpoints) in error
    assert not (tmp_path / "bundle").exists()
