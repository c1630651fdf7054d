"""How a head ends on a fold, and which of its evaluations is kept."""

import math
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from search_spaces.configuration import Configuration
from search_spaces.linear_probe import PAPER, SPACE
from tests.trainables.drawn_probes import assert_same, config, draw_data, mixed_bank
from trainables.bank_training import PAPER_TRAINING, BankTraining
from trainables.linear_probe import train_bank
from trainables.losses import BankLoss
from trainables.racing import Earlier


def test_the_papers_training_looks_at_the_loss_every_epoch_and_keeps_the_lowest():
    [result] = train_bank([Configuration(SPACE, 0, PAPER)], draw_data(), training=PAPER_TRAINING)
    assert [point["epoch"] for point in result.curve] == list(range(1, 11))
    assert result.epoch == min(result.curve, key=lambda point: point["val_loss"])["epoch"]
    assert result.metrics["val.loss"] == min(point["val_loss"] for point in result.curve)


@pytest.fixture
def poisoned(monkeypatch):
    """Focal heads get a NaN for a gradient from the third minibatch on."""
    gradient, calls = BankLoss.gradient, []

    def poison(self, *arguments):
        slope_KBC = gradient(self, *arguments)
        calls.append(None)
        if len(calls) > 2:
            slope_KBC[[k for k, loss in enumerate(self.losses) if loss == "focal"]] = torch.nan
        return slope_KBC

    monkeypatch.setattr(BankLoss, "gradient", poison)


def test_a_head_that_diverges_fails_alone_and_says_when_and_at_which_rate(poisoned):
    data = draw_data()  # 160 images, so two minibatches an epoch
    sound = [config(0), config(2, normalisation="center")]
    wild = config(1, loss="focal", focal_gamma=1.0, learning_rate=0.02, epochs=2)
    how = BankTraining(batch_size=80, rungs=(1,))
    first, failed, second = train_bank([sound[0], wild, sound[1]], data, training=how)
    assert failed.state == "FAIL" and failed.head is None and math.isnan(failed.objective)
    assert failed.reason == "diverged in epoch 2 at learning rate 0.01"
    assert (failed.epoch, failed.metrics, failed.thresholds) == (2, {}, {})
    for result, alone in zip((first, second), train_bank(sound, data, training=how), strict=True):
        assert_same(result, alone, 1e-5)


def test_a_bank_in_which_every_head_diverges_still_returns(poisoned):
    wild = [config(number, loss="focal", focal_gamma=1.0) for number in range(2)]
    assert [result.state for result in train_bank(wild, draw_data())] == ["FAIL", "FAIL"]


@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_logits_that_overflow_on_validation_are_a_divergence_too():
    data = draw_data()
    features_ND = data.features_ND.copy()
    features_ND[data.judged_N()] *= np.float32(3e37)
    raw, normalised = train_bank(
        [config(0, learning_rate=1.0, epochs=20), config(1, normalisation="l2", epochs=20)],
        replace(data, features_ND=features_ND),
        training=BankTraining(rungs=()),
    )
    assert (raw.state, raw.epoch) == ("FAIL", 20)
    assert normalised.state == "COMPLETE"


def test_a_head_below_the_floor_of_a_rung_is_pruned_and_one_at_the_floor_goes_on():
    data, configs, how = draw_data(), mixed_bank(), BankTraining(rungs=(2, 4))
    free = train_bank(configs, data, training=how)
    at_rung = sorted(result.curve[0]["objective"] for result in free)
    floor = at_rung[len(at_rung) // 2]
    for result, before in zip(
        train_bank(configs, data, training=how, earlier=Earlier(prune_below={2: floor})), free, strict=True
    ):
        if before.curve[0]["objective"] < floor:
            assert result.state == "PRUNED" and result.epoch == 2 and len(result.curve) == 1
            assert "after epoch 2 is below the floor" in result.reason
            assert result.head is not None and result.metrics
        else:
            assert (result.state, result.reason) == ("COMPLETE", "")
            assert len(result.curve) == 3


def test_a_head_that_ends_at_a_rung_is_complete_however_low():
    how = BankTraining(rungs=(4,))
    [result] = train_bank(
        [config(epochs=4)], draw_data(), training=how, earlier=Earlier(prune_below={4: 1.0})
    )
    assert result.state == "COMPLETE"


def test_patience_ends_a_head_as_complete_after_so_many_looks_without_gain():
    one = config(learning_rate=0.3, weight_decay=0.0, epochs=60, normalisation="standardize")
    how = BankTraining(rungs=range(1, 61), patience=3, best_by="loss", batch_size=8)
    [result] = train_bank([one], draw_data(train=40), training=how)
    epochs = [point["epoch"] for point in result.curve]
    assert result.state == "COMPLETE" and epochs[-1] == result.epoch + 3 < 60
    assert result.reason == f"no better loss in 3 evaluations up to epoch {epochs[-1]}"


def test_heads_of_different_length_are_judged_after_their_own_last_epoch():
    configs = [config(number, epochs=epochs) for number, epochs in enumerate((1, 3, 6))]
    results = train_bank(configs, draw_data(), training=BankTraining(rungs=(2,)))
    assert [[point["epoch"] for point in result.curve] for result in results] == [[1], [2, 3], [2, 6]]
    assert results[0].seconds < results[1].seconds < results[2].seconds


def test_a_bank_ends_at_its_deadline_and_keeps_the_heads_that_had_ended():
    heads = [config(0, epochs=50), config(1, epochs=1)]
    (record,) = train_bank(heads, draw_data(), deadline=time.time())
    assert (record.number, record.state) == (1, "COMPLETE")
    assert len(train_bank(heads, draw_data(), deadline=time.time() + 600)) == 2
