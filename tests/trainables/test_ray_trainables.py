"""Tests of the Ray Tune Trainables without a cluster; `tests.study` runs them on one."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ray.tune.schedulers import TrialScheduler

from search_spaces.fine_tune import PAPER
from tests.trainables.towers import build_tower
from trainables import ray_trainables
from trainables.checkpoints import KEPT_RESUME_POINTS, CheckpointFolder
from trainables.fine_tune import load_best
from trainables.fine_tune_config import Training
from trainables.fine_tune_data import FineTuneData
from trainables.ray_trainables import (
    EpochLines,
    FineTune,
    ForgetBankFiles,
    scheduler,
)
from trainables.records import TrialRecord, unpack_bank
from vlm.encoders import load_encoder
from vlm.linear_head import LinearHead

PARAMS = PAPER | {"tower_learning_rate": 1e-3, "head_learning_rate": 1e-2, "epochs": 4}


@pytest.fixture(scope="module")
def towers(tmp_path_factory):
    root = tmp_path_factory.mktemp("towers")
    return {kind: build_tower(kind, root / kind) for kind in ("vit", "resnet")}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    rng = np.random.default_rng(0)
    file = tmp_path_factory.mktemp("store") / "images.npy"
    np.save(file, rng.integers(0, 256, (40, 32, 32, 1), dtype=np.uint8))
    targets_NC = (rng.random((40, 2)) < 0.5).astype(np.float32)
    return FineTuneData(
        images_file=file,
        train_rows_N=np.arange(24),
        val_rows_N=np.arange(24, 40),
        train_targets_NC=targets_NC[:24],
        val_targets_NC=targets_NC[24:],
        val_patients_N=np.arange(16),
        val_folds_N=np.arange(16) % 4,
        labels=("Edema", "Effusion"),
        objective_labels_C=np.array([True, True]),
    )


def asked(number: int, **changes) -> dict:
    return {"bank": number, "configurations": [{"number": number, "params": PARAMS | changes}]}


@pytest.fixture
def actor(towers, data, tmp_path):
    """Makes what Ray starts in a worker's process, ready for its first step."""
    threads = torch.get_num_threads()

    def make(config: dict, tower: str = "vit") -> FineTune:
        trainable = FineTune.__new__(FineTune)
        width = load_encoder(towers[tower], device="cpu").width
        trainable.setup(
            config,
            encoder_name=towers[tower],
            features="projected",
            data=data,
            head=LinearHead(
                weight_DC=np.zeros((width, 2), np.float32),
                bias_C=np.zeros(2, np.float32),
                mean_D=np.zeros(width, np.float32),
                scale_D=np.ones(width, np.float32),
            ),
            seed=0,
            training=Training(batch_size=8, patience=None),
            precision="fp32",
            micro_batch=None,
            compile_tower=False,
            checkpoints=tmp_path,
            threads=threads,
            gpu_share=0,
        )
        return trainable

    return make


def record_of(result: dict):
    (record,) = unpack_bank(result["bank_file"])
    return record


def scores(record) -> list[tuple[float, ...]]:
    return [(point["train_loss"], point["val_loss"], point["objective"]) for point in record.curve]


def test_a_new_worker_goes_on_where_the_last_one_was_killed(actor, tmp_path):
    uninterrupted = actor(asked(3))
    results = [uninterrupted.step() for _ in range(4)]
    assert [result["done"] for result in results] == [False, False, False, True]
    assert [result["epoch"] for result in results] == [1, 2, 3, 4]
    points = CheckpointFolder(tmp_path, 3).resume_points()
    assert [point.name for point in points] == ["epoch-00004", "epoch-00003"]
    assert len(points) == KEPT_RESUME_POINTS

    first = actor(asked(5))
    first.step(), first.step()
    second = actor(asked(5))
    assert second.step()["epoch"] == 3
    again = actor(asked(3, epochs=4))
    assert scores(record_of(again.step())) == scores(record_of(results[-1]))  # finished: nothing is trained


def test_an_actor_is_reused_for_the_next_trial(actor):
    alone = record_of(actor(asked(2)).step())
    reused = actor(asked(1))
    reused.step()
    assert reused.reset_config(asked(2) | {"bank": 9})
    result = reused.step()
    assert result["bank"] == 9 and result["epoch"] == 2  # after the first epoch that `alone` had trained
    assert scores(record_of(result))[:1] == scores(alone)


def test_a_damaged_newest_resume_point_is_passed_over_and_said(actor, tmp_path):
    uninterrupted = actor(asked(3))
    expected = [uninterrupted.step() for _ in range(3)][-1]
    newest = CheckpointFolder(tmp_path, 3).resume_points()[0]
    (file,) = newest.iterdir()
    file.write_bytes(file.read_bytes()[:1000])
    again = actor(asked(3))
    result = again.step()
    assert result["epoch"] == 3
    record = record_of(result)
    assert scores(record) == scores(record_of(expected))
    (line,) = record.warnings
    assert str(file) in line and line.endswith("; went on from epoch 2")
    (file,) = newest.iterdir()
    for point in CheckpointFolder(tmp_path, 3).resume_points():
        (file,) = point.iterdir()
        file.write_bytes(b"")
    anew = record_of(actor(asked(3)).step())
    assert len(anew.curve) == 1 and len(anew.warnings) == 2
    assert all(line.endswith("; began anew") for line in anew.warnings)


def test_a_crash_before_the_best_weights_were_written_leaves_those_of_the_record(actor, towers, tmp_path):
    first, folder = actor(asked(3)), CheckpointFolder(tmp_path, 3)
    record = record_of(first.step())
    assert record.epoch == 1
    shutil.rmtree(folder.best)  # as if killed right after the resume point
    actor(asked(3))  # a new worker takes the trial up
    tuned, head = load_best(folder.best, load_encoder(towers["vit"], device="cpu"))
    assert tuned.fingerprint == first._trial.best_encoder().fingerprint
    for name, array in head.tensors().items():
        np.testing.assert_array_equal(array, record.head.tensors()[name])


def test_a_resume_point_of_another_tower_fails_the_trial_and_names_the_reason(actor):
    actor(asked(4), tower="resnet").step()
    trainable = actor(asked(4))
    result = trainable.step()
    record = record_of(result)
    assert result["done"] and record.state == "FAIL"
    assert "trained on another encoder" in record.reason
    assert trainable.reset_config(asked(5)) and record_of(trainable.step()).state == "PRUNED"


def test_a_memory_that_is_full_before_or_beside_the_steps_fails_the_trial_with_that_reason(
    actor, monkeypatch
):
    def full(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    trainable = actor(asked(7))
    trainable.step()
    monkeypatch.setattr(trainable._trial, "run_epoch", full)
    monkeypatch.setattr(ray_trainables, "FineTuneTrial", full)
    beside = trainable.step()
    trainable.reset_config(asked(8))
    before = trainable.step()
    for number, result in ((7, beside), (8, before)):
        record = record_of(result)
        assert result["done"] and record.state == "FAIL" and record.number == number
        assert record.reason.startswith("out of memory: method full on local-dir:")


def test_a_trial_that_diverges_reports_step_and_learning_rates(actor):
    trainable = actor(asked(6, head_learning_rate=1.0, weight_decay=1e4, epochs=20))
    results = []
    while not results or not results[-1]["done"]:
        results.append(trainable.step())
    record = record_of(results[-1])
    assert record.state == "FAIL" and results[-1]["objective"] >= 0
    assert "diverged" in record.reason and "learning rate" in record.reason
    assert len(record.curve) == len(results) - 1


class Told:
    """A trial as a scheduler sees it."""

    def __init__(self, number: int) -> None:
        self.trial_id, self.config = str(number), asked(number)


OBJECTIVES = (0.1, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.2)
"""Of eight trials; the first, the paper's, and the last lie far behind."""


@pytest.mark.parametrize("name", ["asha", "median"])
def test_the_scheduler_stops_a_laggard_and_spares_the_papers_configuration(name):
    stopping = scheduler(name, grace_epochs=1)
    controller = SimpleNamespace(get_live_trials=lambda: [SimpleNamespace(status="PENDING")])
    stopped = []
    for number, objective in enumerate(OBJECTIVES):  # one after the other, as on one GPU
        trial = Told(number)
        stopping.on_trial_add(None, trial)
        for epoch in (1, 2, 3):
            result = {"epoch": epoch, "objective": objective}
            if stopping.on_trial_result(controller, trial, result) != TrialScheduler.CONTINUE:
                stopped.append(number)
                break
        else:
            stopping.on_trial_complete(None, trial, result)
    assert stopped == [7]


@pytest.mark.parametrize("name", ["asha", "median"])
def test_a_resumed_studys_scheduler_knows_the_trials_before_it(name):
    def decision(stopping) -> str:
        controller = SimpleNamespace(get_live_trials=lambda: [])
        laggard = Told(7)
        stopping.on_trial_add(None, laggard)
        decisions = (
            stopping.on_trial_result(controller, laggard, {"epoch": epoch, "objective": OBJECTIVES[7]})
            for epoch in (1, 2, 3)
        )
        return next((one for one in decisions if one != TrialScheduler.CONTINUE), TrialScheduler.CONTINUE)

    finished = [
        TrialRecord(
            number=number,
            params={},
            state="COMPLETE",
            curve=[{"epoch": epoch, "objective": objective} for epoch in (1, 2, 3)],
        )
        for number, objective in enumerate(OBJECTIVES[:7])
    ]
    assert decision(scheduler(name, 1)) == TrialScheduler.CONTINUE
    assert decision(scheduler(name, 1, finished)) == TrialScheduler.STOP


def test_the_papers_end_is_no_measure_for_the_others():
    stopping, paper, other = scheduler("asha", 1), Told(0), Told(1)
    for trial in (paper, other):
        stopping.on_trial_add(None, trial)
    last = {"epoch": 10, "objective": 1.0}
    stopping.on_trial_result(None, paper, last)
    stopping.on_trial_complete(None, paper, last)
    assert stopping.on_trial_result(None, other, {"epoch": 9, "objective": 0.5}) == TrialScheduler.CONTINUE


def test_what_a_finished_trial_reached_after_a_rung_that_would_stop_it_counts_in_a_replay():
    def record(number: int, objectives: list[float]) -> TrialRecord:
        curve = [{"epoch": epoch, "objective": value} for epoch, value in enumerate(objectives, start=1)]
        return TrialRecord(number=number, params={}, state="COMPLETE", curve=curve)

    # The last lay behind at the first rung and far ahead of all at the second.
    finished = [record(1, [0.8, 0.8, 0.3]), record(2, [0.8, 0.8, 0.3]), record(3, [0.1, 0.1, 0.9])]
    stopping, newcomer = scheduler("asha", 1, finished), Told(4)
    stopping.on_trial_add(None, newcomer)
    assert stopping.on_trial_result(None, newcomer, {"epoch": 1, "objective": 0.9}) == TrialScheduler.CONTINUE
    assert stopping.on_trial_result(None, newcomer, {"epoch": 3, "objective": 0.31}) == TrialScheduler.STOP


def test_no_scheduler_is_none():
    assert scheduler("none", grace_epochs=1) is None


def test_an_epoch_is_said_with_the_time_left_and_not_too_often():
    lines: list[str] = []
    trial, seldom = SimpleNamespace(config=asked(3)), EpochLines(lines.append, "macro_ap", pause=60)
    first = {"epoch": 1, "objective": 0.25, "time_this_iter_s": 5.0, "done": False}
    bank = {"bank": 1, "objective": 0.25, "done": False}
    talk = EpochLines(lines.append, "macro_ap", pause=0)
    for result in (first, bank, first | {"epoch": 4, "done": True}):
        talk.on_trial_result(1, [], trial, result)
    seldom.on_trial_result(1, [], trial, first)
    assert lines == ["     #3 full: epoch 1/4, macro_ap 0.250, at most 15 s left"]


def test_tune_does_not_keep_the_bytes_of_a_finished_bank():
    trial = SimpleNamespace(last_result={"bank_file": b"...", "objective": 0.5})
    ForgetBankFiles().on_trial_complete(1, [], trial)
    assert trial.last_result == {"objective": 0.5}
