"""The Ray Tune trainables without a cluster; `tests.study` runs them on one."""

import math
import shutil
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from search_spaces import linear_probe
from search_spaces.fine_tune import PAPER
from tests.trainables.fine_tuning import PARAMS
from tests.trainables.single_split import probe_data, single_split
from trainables import ray_trainables
from trainables.bank_files import unpack_bank
from trainables.bank_training import RUNGS
from trainables.checkpoints import KEPT_RESUME_POINTS, CheckpointFolder
from trainables.fine_tune import FineTuneTrial
from trainables.fine_tune_compute import Compute
from trainables.fine_tune_config import PAPER_TRAINING, Training
from trainables.fine_tune_state import load_best
from trainables.racing import Earlier
from trainables.ray_trainables import FineTune, FineTuneTask, LinearProbeBank, ProbeTask
from trainables.trial_data import FineTuneData
from vlm.encoders import load_encoder
from vlm.linear_head import LinearHead

# ---- a bank of linear probes ----


@pytest.fixture(scope="module")
def probe_task() -> ProbeTask:
    rng = np.random.default_rng(0)
    targets_NC = (rng.random((120, 2)) < 0.4).astype(np.float32)
    x_ND = rng.normal(size=(120, 6)) + targets_NC[:, :1]
    data = probe_data(
        x_ND[:80],
        targets_NC[:80],
        x_ND[80:],
        targets_NC[80:],
        val_patients_N=np.arange(40),
        val_folds_N=np.arange(40) % 4,
        labels=("Edema", "Effusion"),
    )
    return ProbeTask(
        data=data,
        given=data,
        seed=3,
        batch_size=16,
        objective_name="macro_auroc",
        threads=torch.get_num_threads(),
        device="cpu",
    )


def probe_bank(task: ProbeTask, bank: int, configurations: list[dict], prune_below: dict) -> LinearProbeBank:
    trainable = LinearProbeBank.__new__(LinearProbeBank)
    config = {"bank": bank, "configurations": configurations, "earlier": Earlier(prune_below=prune_below)}
    config |= {"deadline": math.inf}
    trainable.setup(config, task)
    trainable.config = config  # as Ray's own constructor leaves it
    return trainable


def searched(number: int) -> dict:
    params = linear_probe.warm_starts()[number % 2] | {"epochs": 8}
    return {"number": number, "params": params, "preset": ""}


def test_a_bank_reports_its_file_in_one_step_and_is_reused(probe_task):
    trainable = probe_bank(probe_task, 4, [searched(5), searched(6)], {})
    result = trainable.step()
    records = unpack_bank(result["bank_file"])
    assert [record.number for record in records] == [5, 6]
    assert result["bank"] == 4 and result["done"]
    assert result["objective"] == max(record.objective for record in records)
    for record in records:
        assert record.objective == pytest.approx(record.metrics["val.macro_auroc"])
        assert record.preset == "" and record.epoch in (5, 8)
    assert trainable.reset_config(trainable.config | {"bank": 5, "configurations": [searched(5)]})
    again = trainable.step()
    (record,) = unpack_bank(again["bank_file"])
    assert again["bank"] == 5
    np.testing.assert_allclose(record.head.weight_DC, records[0].head.weight_DC, atol=1e-5)


def test_a_searched_head_is_pruned_below_the_floor_and_a_published_one_never(probe_task):
    floors = {RUNGS[0]: 2.0}  # above any objective
    result = probe_bank(probe_task, 0, [searched(1)], floors).step()
    (lagging,) = unpack_bank(result["bank_file"])
    assert lagging.state == "PRUNED" and result["objective"] == 0.0
    paper = {"number": 0, "params": linear_probe.PAPER, "preset": "paper"}
    (published,) = unpack_bank(probe_bank(probe_task, 0, [paper], floors).step()["bank_file"])
    assert (published.state, published.preset) == ("COMPLETE", "paper")
    # Trained as published: looked at after every epoch, kept by its loss.
    assert [point["epoch"] for point in published.curve][:5] == [1, 2, 3, 4, 5]
    assert published.metrics["val.loss"] == min(point["val_loss"] for point in published.curve)


def test_a_published_one_among_folds_keeps_its_numbers_apart(probe_task):
    folds = replace(probe_task.data, patients_N=np.arange(120)).cross_validated(5, 0, 5)
    paper = {"number": 0, "params": linear_probe.PAPER, "preset": "paper"}
    alone, beside = (
        unpack_bank(probe_bank(replace(probe_task, data=data), 0, [paper], {}).step()["bank_file"])[0]
        for data in (probe_task.data, folds)
    )
    assert not alone.on_given_split and beside.on_given_split
    assert beside.objective == alone.objective
    assert beside.metrics == {
        f"given_split.{name.removeprefix('val.')}": value for name, value in alone.metrics.items()
    }


# ---- one fine-tuning ----


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> FineTuneData:
    rng = np.random.default_rng(0)
    file = tmp_path_factory.mktemp("cache") / "images-drawn" / "images.npy"
    file.parent.mkdir()
    np.save(file, rng.integers(0, 256, (40, 32, 32, 1), dtype=np.uint8))
    targets_NC = (rng.random((40, 2)) < 0.5).astype(np.float32)
    split = single_split(
        targets_NC[:24],
        targets_NC[24:],
        val_patients_N=np.arange(16),
        val_folds_N=np.arange(16) % 4,
        labels=("Edema", "Effusion"),
    )
    return FineTuneData(images_file=file, **split)


def asked(number: int, preset: str = "", **changes) -> dict:
    one = {"number": number, "params": PARAMS | changes, "preset": preset}
    return {"bank": number, "configurations": [one], "deadline": math.inf}


@pytest.fixture
def actor(encoder_names, encoders, data, tmp_path):
    """Makes what Ray starts in a worker's process, ready for its first step."""

    def make(config: dict, tower: str = "vit") -> FineTune:
        trainable = FineTune.__new__(FineTune)
        task = FineTuneTask(
            encoder=load_encoder(encoder_names[tower], features=("projected",), device="cpu"),
            data=data,
            cache=str(data.images_file.parents[1]),
            images_key="drawn",
            head=LinearHead.plain(np.zeros((encoders[tower].width, 2))),
            seed=0,
            training=Training(batch_size=8, patience=None),
            objective_name="macro_ap",
            compute=Compute(precision="fp32"),
            checkpoints=str(tmp_path),
            threads=torch.get_num_threads(),
            gpu_share=0,
        )
        trainable.setup(config, task)
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


def test_a_trial_that_its_deadline_cuts_off_leaves_no_record_and_goes_on_later(actor, monkeypatch):
    actor(asked(3)).step()
    # Within an epoch.
    cut = actor(asked(3) | {"deadline": time.time()}).step()
    assert cut["done"] and unpack_bank(cut["bank_file"]) == []
    # Between two, where another one would come too late; the last has no other one after it.
    deadline = time.time() + 600
    monkeypatch.setattr(ray_trainables, "time", SimpleNamespace(time=lambda: deadline))
    cut = actor(asked(3) | {"deadline": deadline}).step()
    assert cut["done"] and cut["epoch"] == 2 and unpack_bank(cut["bank_file"]) == []
    last = actor(asked(4, epochs=1) | {"deadline": deadline}).step()
    assert record_of(last).state == "COMPLETE"

    again = actor(asked(3)).step()
    assert again["epoch"] == 3 and not again["done"]


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


def test_a_crash_before_the_best_weights_were_written_leaves_those_of_the_record(actor, vit, tmp_path):
    first, folder = actor(asked(3)), CheckpointFolder(tmp_path, 3)
    record = record_of(first.step())
    assert record.epoch == 1
    expected, _ = load_best(folder.best, vit)
    shutil.rmtree(folder.best)  # as if killed right after the resume point
    actor(asked(3))  # a new worker takes the trial up
    tuned, head = load_best(folder.best, vit)
    assert tuned.fingerprint == expected.fingerprint
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
    monkeypatch.setattr(FineTuneTrial, "run_epoch", full)
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


def test_a_published_configuration_is_trained_as_published(actor, monkeypatch):
    trainings = []

    class Noted(FineTuneTrial):
        def run_epoch(self, *deadline):
            trainings.append(self.training)
            return super().run_epoch(*deadline)

    monkeypatch.setattr(ray_trainables, "FineTuneTrial", Noted)
    paper = asked(0, preset="paper") | {"bank": 0}
    paper["configurations"][0]["params"] = PAPER
    trainable = actor(paper)
    record = record_of(trainable.step())
    assert record.preset == "paper" and record.curve[0]["tower_learning_rate"] == 1e-5  # no warm-up
    assert trainable.reset_config(asked(1)) and trainable.step()
    assert trainings[0] is PAPER_TRAINING and trainings[-1].batch_size == 8


def test_a_record_counts_what_was_trained(actor, vit):
    record = record_of(actor(asked(2)).step())
    tower = sum(parameter.numel() for parameter in vit.tower.parameters())
    assert record.metrics["trained_parameters"] == tower + 2 * vit.width + 2
    assert math.isfinite(record.objective) and record.precision == "fp32"
