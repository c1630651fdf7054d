"""A bank of linear probes, against torch's own AdamW, scikit-learn and itself one head at a time.

Shape legend: N images of a split, D features, C labels.
"""

import math
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score
from torch.nn.functional import binary_cross_entropy_with_logits
from torchvision.ops import sigmoid_focal_loss

from cohort.patients import patient_folds
from scoring.judging import judge
from scoring.metrics import f1
from scoring.thresholds import STRATEGIES, cross_fitted, fit_thresholds
from search_spaces.configuration import Configuration
from search_spaces.linear_probe import PAPER, SPACE
from tests.trainables.single_split import probe_data, training, validation
from trainables import fold_fit as module
from trainables.bank_training import PAPER_TRAINING, BankTraining, training_of
from trainables.linear_probe import train_bank
from trainables.losses import BankLoss
from trainables.pooling import pooled
from trainables.racing import CONTENDERS, Earlier
from trainables.trial_data import ProbeData
from vlm.feature_kinds import FeatureKind

LABELS = ("heart", "effusion", "nodule", "hernia")


def draw_data(seed=0, train=160, val=80, width=12) -> ProbeData:
    """Four labels from common to rare, two images a patient, features away from the origin."""
    rng = np.random.default_rng(seed)
    x_ND = rng.standard_normal((train + val, width)) * np.linspace(2, 0.3, width) + 1
    evidence_NC = (x_ND - 1) @ rng.standard_normal((width, 4)) / 2 + rng.standard_normal((train + val, 4))
    targets_NC = evidence_NC > np.quantile(evidence_NC, [0.5, 0.7, 0.85, 0.9], axis=0).diagonal()
    patients_N = np.arange(val) // 2
    val_targets_NC = targets_NC[train:].astype(np.float32)
    return probe_data(
        x_ND[:train],
        targets_NC[:train],
        x_ND[train:],
        val_targets_NC,
        val_patients_N=patients_N,
        val_folds_N=patient_folds(val_targets_NC, patients_N, folds=3),
        labels=LABELS,
    )


def config(number=0, seed=0, **changes) -> Configuration:
    plain = {
        "features": "projected",
        "anchor": "none",
        "learning_rate": 0.03,
        "weight_decay": 0.1,
        "l2_penalty": 0.0,
        "epochs": 6,
        "normalisation": "none",
        "loss": "bce",
        "pos_weight_power": 0.0,
        "threshold_shrinkage": 5.0,
    }
    params = plain | changes
    if params["features"] not in ("projected", "pooled"):
        del params["normalisation"], params["anchor"]
    return Configuration(SPACE, number, params, seed)


def mixed_bank() -> list[Configuration]:
    """Every normalisation under every loss, with lengths, rates and decays of their own."""
    losses = [
        {"loss": "bce"},
        {"loss": "focal", "focal_gamma": 2.0, "pos_weight_power": 0.5},
        {
            "loss": "asymmetric",
            "asymmetric_gamma_negative": 4.0,
            "asymmetric_gamma_positive": 1.0,
            "asymmetric_clip": 0.05,
        },
    ]
    return [
        config(
            number,
            **losses[number % 3],
            normalisation=("standardize", "none", "l2", "center")[number // 3 % 4],
            learning_rate=(0.003, 0.1)[number % 2],
            weight_decay=(0.001, 3.0)[number % 2],
            l2_penalty=(0.0, 0.01, 0.3)[number // 2 % 3],
            epochs=20 + 7 * (number % 4),
        )
        for number in range(24)
    ]


def assert_same(one, other, tolerance):
    assert (one.number, one.state, one.epoch) == (other.number, other.state, other.epoch)
    assert one.objective == pytest.approx(other.objective, rel=tolerance)
    scale = np.abs(other.head.weight_DC).max()
    np.testing.assert_allclose(one.head.weight_DC, other.head.weight_DC, rtol=0, atol=tolerance * scale)
    scale = np.abs(other.head.bias_C).max()
    np.testing.assert_allclose(one.head.bias_C, other.head.bias_C, rtol=0, atol=tolerance * scale)


# ---- the bank against itself ----


def test_a_bank_equals_the_same_heads_trained_one_by_one():
    """To 1e-5 of a head's largest weight: a product of another size sums float32 in another order.

    Adam divides by the gradient's own size and decay pulls two runs together again, so the difference
    stays at rounding instead of growing with the steps.
    """
    data, configs = draw_data(), mixed_bank()
    how = BankTraining(batch_size=32, rungs=(3, 9))
    bank = train_bank(configs, data, training=how, seed=4)
    assert {result.state for result in bank} == {"COMPLETE"}
    for one, result in zip(configs, bank, strict=True):
        [alone] = train_bank([one], data, training=how, seed=4)
        assert_same(result, alone, 1e-5)
        for strategy in STRATEGIES:
            np.testing.assert_allclose(result.thresholds[strategy], alone.thresholds[strategy], rtol=1e-4)
        assert result.metrics == pytest.approx(alone.metrics, rel=1e-4)


def test_the_order_of_a_bank_does_not_matter_and_results_come_in_the_callers_order():
    data, configs = draw_data(), mixed_bank()
    how = BankTraining(batch_size=64)
    forward = train_bank(configs, data, training=how)
    backward = train_bank(configs[::-1], data, training=how)
    assert [result.number for result in backward] == [one.number for one in configs[::-1]]
    for one, other in zip(forward, backward[::-1], strict=True):
        assert_same(one, other, 1e-5)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_same_seed_gives_the_same_numbers_to_the_last_bit(seed):
    data, configs = draw_data(), [replace(one, seed=seed) for one in mixed_bank()]
    for one, other in zip(
        train_bank(configs, data, seed=seed), train_bank(configs, data, seed=seed), strict=True
    ):
        np.testing.assert_array_equal(one.head.weight_DC, other.head.weight_DC)
        assert one.metrics == other.metrics and one.curve == other.curve


def test_number_and_seed_of_a_head_that_begins_at_random_and_the_seed_of_the_order_each_change_it():
    data = draw_data()
    plain = config(3, normalisation="l2")
    how = BankTraining(batch_size=32, initial_weights="xavier")
    heads = train_bank([plain, replace(plain, number=4), replace(plain, seed=1)], data, training=how)
    heads += train_bank([plain], data, training=how, seed=1)
    weights = [head.head.weight_DC for head in heads]
    for one in range(4):
        for other in range(one):
            assert np.abs(weights[one] - weights[other]).max() > 1e-3


# ---- one head against an independent reference ----


def torch_probe(one: Configuration, data: ProbeData, how: BankTraining, seed: int, loss):
    """The same head by autograd, `torch.optim.AdamW` and torch's cosine schedule: weight_CD and bias_C."""
    x_ND, y_NC = (torch.tensor(array) for array in training(data))
    layer = torch.nn.Linear(x_ND.shape[1], y_NC.shape[1])
    bound = math.sqrt(6 / (layer.in_features + layer.out_features)) * (how.initial_weights == "xavier")
    draw = np.random.default_rng([one.seed, 0, one.number])
    start_CD = draw.uniform(-bound, bound, layer.weight.shape).astype(np.float32)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(start_CD))
        layer.bias.zero_()
    groups = [{"params": [layer.weight]}, {"params": [layer.bias], "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=one["learning_rate"], weight_decay=one["weight_decay"])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, one["epochs"])
    for epoch in range(1, one["epochs"] + 1):
        order_N = np.random.default_rng([seed, 1, epoch]).permutation(len(x_ND))
        for first in range(0, len(x_ND), how.batch_size):
            index_B = order_N[first : first + how.batch_size]
            optimiser.zero_grad()
            penalty = one["l2_penalty"] / 2 * layer.weight.square().sum() / layer.out_features
            (loss(layer(x_ND[index_B]), y_NC[index_B]) + penalty).backward()
            torch.nn.utils.clip_grad_norm_(layer.parameters(), how.clip_norm)
            optimiser.step()
        schedule.step()
    return layer.weight.detach().numpy(), layer.bias.detach().numpy()


@pytest.mark.parametrize("clip_norm", [1.0, 0.05])
@pytest.mark.parametrize("loss", ["bce", "penalised", "weighted", "focal"])
def test_a_head_follows_torchs_adamw_cosine_schedule_and_gradient_clip(loss, clip_norm):
    data = draw_data()
    _, targets_NC = training(data)
    positives_C = targets_NC.sum(0)
    weight_C = torch.tensor(((len(targets_NC) - positives_C) / positives_C) ** 0.5)
    changes, reference = {
        "bce": ({}, binary_cross_entropy_with_logits),
        "penalised": ({"l2_penalty": 0.2}, binary_cross_entropy_with_logits),
        "weighted": (
            {"pos_weight_power": 0.5},
            lambda x, y: binary_cross_entropy_with_logits(x, y, pos_weight=weight_C),
        ),
        "focal": (
            {"loss": "focal", "focal_gamma": 2.0},
            lambda x, y: sigmoid_focal_loss(x, y, alpha=-1, gamma=2.0, reduction="mean"),
        ),
    }[loss]
    one = config(7, weight_decay=0.5, epochs=8, seed=2, **changes)
    start = "xavier" if loss == "penalised" else "zeros"
    how = BankTraining(batch_size=48, rungs=(), clip_norm=clip_norm, initial_weights=start)
    [result] = train_bank([one], data, training=how, seed=5)
    weight_CD, bias_C = torch_probe(one, data, how, 5, reference)
    np.testing.assert_allclose(result.head.weight_DC, weight_CD.T, atol=2e-5)
    np.testing.assert_allclose(result.head.bias_C, bias_C, atol=2e-5)


def test_a_penalised_head_is_the_logistic_regression_of_the_same_strength():
    """C = 1 / (penalty x images), the intercept free in both; to 1 % of the largest coefficient."""
    data = draw_data()
    x_ND, targets_NC = training(data)
    standard_ND = (x_ND - x_ND.mean(0)) / x_ND.std(0)
    for penalty in (0.03, 0.3):
        one = config(
            learning_rate=0.1, weight_decay=0.0, l2_penalty=penalty, epochs=1000, normalisation="standardize"
        )
        [result] = train_bank([one], data, training=BankTraining(rungs=()))
        for c in range(4):
            model = LogisticRegression(C=1 / (penalty * len(x_ND)), tol=1e-8)
            model.fit(standard_ND, targets_NC[:, c])
            scale = np.abs(model.coef_).max()
            np.testing.assert_allclose(result.head.weight_DC[:, c], model.coef_[0], atol=0.01 * scale)
            assert result.head.bias_C[c] == pytest.approx(model.intercept_[0], abs=0.01)


def test_centred_features_have_mean_0_and_one_common_scale():
    data = draw_data()
    [result] = train_bank([config(normalisation="center")], data)
    x_ND = (training(data)[0] - result.head.mean_D) / result.head.scale_D
    assert np.abs(x_ND.mean(0)).max() < 1e-5
    assert (x_ND**2).mean() == pytest.approx(1, abs=1e-4)
    assert np.ptp(result.head.scale_D) == 0


def test_one_step_worked_by_hand():
    """Adam's first step is the learning rate against the gradient's sign, after the decay of the weight.

    A positive image with a positive feature: weight and bias rise. From zero both are 0.1 then; of a
    head that begins at w0, w = w0 (1 - 0.1 * 0.5) + 0.1.
    """
    data = probe_data(
        np.array([[2.0]]),
        np.array([[1.0]]),
        np.array([[1.0], [3.0]]),
        np.array([[0.0], [1.0]]),
        val_patients_N=np.array([0, 1]),
        val_folds_N=np.array([0, 1]),
        labels=("mass",),
    )
    searched = config(9, learning_rate=0.1, weight_decay=0.5, epochs=1)
    [result] = train_bank([searched], data)
    assert result.head.weight_DC[0, 0] == pytest.approx(0.1, abs=1e-5)
    [result] = train_bank([searched], data, training=BankTraining(initial_weights="xavier"))
    w0 = np.random.default_rng([0, 0, 9]).uniform(-math.sqrt(3), math.sqrt(3))
    assert result.head.weight_DC[0, 0] == pytest.approx(w0 * 0.95 + 0.1, abs=1e-5)
    assert result.head.bias_C[0] == pytest.approx(0.1, abs=1e-5)


# ---- what is kept of a head ----


@pytest.fixture(scope="module")
def bank():
    data = draw_data(val=120)
    how = BankTraining(batch_size=32, rungs=(1, 2, 4, 8, 16))
    return data, train_bank(mixed_bank(), data, training=how)


def test_the_kept_weights_are_those_of_the_best_evaluation(bank):
    data, results = bank
    val_ND, targets_NC = validation(data)
    for result in results:
        best = max(result.curve, key=lambda point: point["objective"])
        assert (result.objective, result.epoch) == (best["objective"], best["epoch"])
        score = average_precision_score(targets_NC, result.head.logits(val_ND), average="macro")
        assert score == pytest.approx(result.objective, abs=1e-3)
    assert any(result.epoch < result.curve[-1]["epoch"] for result in results)


def test_validation_metrics_agree_with_scikit_learn(bank):
    data, results = bank
    val_ND, targets_NC = validation(data)
    for result in results:
        logits_NC = result.head.logits(val_ND).astype(np.float64)
        probs_NC = 1 / (1 + np.exp(-logits_NC))
        assert result.metrics["val.macro_ap"] == result.objective
        auroc = roc_auc_score(targets_NC, logits_NC, average="macro")
        assert result.metrics["val.macro_auroc"] == pytest.approx(auroc, abs=1e-3)
        losses = [log_loss(targets_NC[:, c], probs_NC[:, c]) for c in range(4)]
        assert result.metrics["val.loss"] == pytest.approx(np.mean(losses), rel=1e-4)
        assert result.metrics["val.labels_averaged"] == 4


def test_the_best_threshold_strategy_is_named_and_thresholds_are_fitted_on_all_of_validation(bank):
    data, results = bank
    val_ND, rows = validation(data)[0], data.judged()
    for result in results:
        probs_NC = 1 / (1 + np.exp(-result.head.logits(val_ND).astype(np.float64)))
        counts = cross_fitted(probs_NC, rows.targets_NC, rows.folds_N, rows.patients_N, shrinkage=5.0)
        for strategy in STRATEGIES:
            value = result.metrics[f"val.macro_f1_{strategy}"]
            assert value == pytest.approx(f1(counts[strategy]).mean(), abs=1e-6)
            assert value <= result.metrics["val.macro_f1"]
        assert result.metrics["val.macro_f1"] == result.metrics[f"val.macro_f1_{result.strategy}"]
        thresholds = fit_thresholds(probs_NC, rows.targets_NC, rows.patients_N, shrinkage=5.0)
        for strategy, values_C in thresholds.by_strategy.items():
            np.testing.assert_allclose(result.thresholds[strategy], values_C, rtol=1e-4)
        np.testing.assert_array_equal(result.few, thresholds.few_C)


@pytest.mark.parametrize(
    ("objective", "metric"), [("macro_auroc", "val.macro_auroc"), ("macro_f1", "val.macro_f1")]
)
def test_another_objective_can_be_chosen(objective, metric):
    data = draw_data()
    how = BankTraining(batch_size=32)
    for result in train_bank(mixed_bank(), data, training=how, objective_name=objective):
        assert result.objective == pytest.approx(result.metrics[metric])
        assert result.objective == max(point["objective"] for point in result.curve)


def test_the_papers_training_looks_at_the_loss_every_epoch_and_keeps_the_lowest():
    [result] = train_bank([Configuration(SPACE, 0, PAPER)], draw_data(), training=PAPER_TRAINING)
    assert [point["epoch"] for point in result.curve] == list(range(1, 11))
    assert result.epoch == min(result.curve, key=lambda point: point["val_loss"])["epoch"]
    assert result.metrics["val.loss"] == min(point["val_loss"] for point in result.curve)


def test_features_that_are_constant_or_zero_do_no_harm():
    data = draw_data()
    features_ND = data.features_ND.copy()
    features_ND[:, 0] = 0.1
    features_ND[::2, 0] = np.nextafter(np.float32(0.1), np.float32(1))  # constant up to rounding
    zero_in_train, zero_in_val = data.training_N()[0], data.judged_N()[0]
    features_ND[[zero_in_train, zero_in_val]] = 0
    features_ND[zero_in_train, 0] = 0.1
    data = replace(data, features_ND=features_ND)
    for normalisation in ("none", "l2", "center", "standardize"):
        [result] = train_bank([config(normalisation=normalisation)], data)
        assert result.state == "COMPLETE"
        assert np.abs(result.head.logits(validation(data)[0])).max() < 100


def test_a_masked_entry_teaches_nothing():
    """Images whose every label is masked leave a head as if they were not there (one batch: no order)."""
    data = draw_data()
    (x_ND, targets_NC), rows = training(data), data.judged()
    padded = probe_data(
        np.concatenate([x_ND, np.full((50, 12), 7.0)]),
        np.concatenate([targets_NC, np.full((50, 4), np.nan)]),
        *validation(data),
        val_patients_N=rows.patients_N,
        val_folds_N=rows.folds_N,
        labels=LABELS,
    )
    configs = [one for one in mixed_bank() if one["normalisation"] in ("none", "l2")]
    for one, other in zip(train_bank(configs, padded), train_bank(configs, data), strict=True):
        assert_same(one, other, 1e-5)


def test_a_label_without_positives_in_training_is_trained_but_left_out_of_the_objective():
    data = draw_data()
    targets_NC = data.targets_NC.copy()
    targets_NC[data.training_N(), 2] = 0
    data = replace(data, targets_NC=targets_NC)
    assert data.scored_C.tolist() == [True, True, False, True]
    [result] = train_bank([config(learning_rate=0.1, epochs=20)], data)
    val_ND, targets_NC = validation(data)
    logits_NC = result.head.logits(val_ND)
    scores = [average_precision_score(targets_NC[:, c], logits_NC[:, c]) for c in (0, 1, 3)]
    assert result.objective == pytest.approx(np.mean(scores), abs=1e-3)
    assert logits_NC[:, 2].mean() < -1
    assert result.metrics["val.labels_averaged"] == 3


# ---- how a head ends ----


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


def test_decay_that_would_overshoot_zero_stops_there():
    """Learning rate times decay above 1: torch's AdamW would oscillate, above 2 explode."""
    [result] = train_bank([config(learning_rate=0.5, weight_decay=100.0, epochs=30)], draw_data())
    assert result.state == "COMPLETE"
    assert np.abs(result.head.weight_DC).max() < 1


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


def test_heads_that_are_not_raced_are_stopped_neither_at_a_rung_nor_between_folds():
    how = BankTraining(rungs=(2,), raced=False)
    earlier = Earlier(prune_below={2: 1.0}, fold_objectives=[[0.9] * 5] * (CONTENDERS + 5))
    for data in (draw_data(), folded()):
        [free] = train_bank([config()], data, training=how)
        [result] = train_bank([config()], data, training=how, earlier=earlier)
        assert (result.state, result.objective) == ("COMPLETE", free.objective)


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


# ---- bad input ----


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"number": -1}, "number must be a whole number from 0, not -1"),
        ({"seed": 0.5}, "seed must be a whole number from 0, not 0.5"),
        ({"learning_rate": 0.0}, "learning_rate must be a number from 1e-08 to 10, not 0.0"),
        ({"learning_rate": math.nan}, "learning_rate must be a number from 1e-08 to 10, not nan"),
        ({"weight_decay": -1e-9}, "weight_decay must be a number from 0 to 10000, not -1e-09"),
        ({"epochs": 0}, "epochs must be a whole number from 1 to 10000, not 0"),
        ({"loss": "hinge"}, "loss must be one of bce, focal, asymmetric, softmax, not 'hinge'"),
        ({"normalisation": None}, "normalisation must be one of none, l2, center, standardize, not None"),
        ({"pos_weight_power": 1.01}, "pos_weight_power must be a number from 0 to 1, not 1.01"),
        ({"focal_gamma": 2.0}, "focal_gamma belongs to the loss focal, not to bce; leave it out"),
    ],
)
def test_a_configuration_outside_its_bounds_is_refused(changes, message):
    with pytest.raises(ValueError) as raised:
        config(**changes)
    assert str(raised.value) == message


def test_params_must_be_exactly_one_whole_configuration():
    with pytest.raises(ValueError, match=r"not dropout$"):
        Configuration(SPACE, 0, PAPER | {"dropout": 0.1})
    with pytest.raises(ValueError, match=r"not one without focal_gamma$"):
        Configuration(SPACE, 0, PAPER | {"loss": "focal"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"rungs": (0,)}, "rungs must be epochs from 1, not (0,)"),
        ({"patience": 0}, "patience must be at least 1 or None, not 0"),
        ({"best_by": "luck"}, "best_by must be objective or loss, not 'luck'"),
        ({"clip_norm": 0.0}, "clip_norm must be positive or None, not 0.0"),
        ({"initial_weights": "ones"}, "initial_weights must be zeros or xavier, not 'ones'"),
    ],
)
def test_ways_of_training_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ValueError) as raised:
        BankTraining(**changes)
    assert str(raised.value) == message


def test_a_published_configuration_is_trained_as_published_and_others_as_the_study_says():
    assert training_of("paper", 256) is PAPER_TRAINING and PAPER_TRAINING.batch_size == 24
    assert training_of("", 32) == BankTraining(batch_size=32)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"earlier": Earlier(prune_below={7: 0.1})},
            "prune_below must speak of the rungs (5, 10, 20, 40), not of 7",
        ),
        (
            {"objective_name": "f1"},
            "objective_name must be one of macro_ap, macro_auroc, macro_f1, not 'f1'",
        ),
    ],
)
def test_an_argument_out_of_its_bounds_is_refused(arguments, message):
    with pytest.raises(ValueError) as raised:
        train_bank([config()], draw_data(), **arguments)
    assert str(raised.value) == message
    with pytest.raises(ValueError, match="at least one head"):
        train_bank([], draw_data())


def test_features_that_the_encoder_lacks_are_refused():
    with pytest.raises(ValueError, match="features must be a kind of projected, not deep"):
        train_bank([config(features="deep")], draw_data())


# ---- cross-validation ----


def folded(seed=0, images=240, width=12, blocks=None) -> ProbeData:
    """The same kind of data in five folds of patients; with `blocks` their columns are deep features."""
    data = replace(draw_data(seed, images // 2, images // 2, width), patients_N=np.arange(images) // 2)
    if blocks:
        whole = FeatureKind("projected", 0, (width,))
        data = replace(data, kinds={"projected": whole, "deep": FeatureKind("deep", 0, blocks)})
    return data.cross_validated(5, seed=0, enough=5)


def as_split(data: ProbeData, fold: int) -> ProbeData:
    """One fold of it as a training and validation split."""
    fold_N = np.where(data.fold_N == fold, 0, -1)
    threshold_fold_N = np.where(fold_N == 0, data.patients_N % 3, -1)
    return replace(data, fold_N=fold_N, threshold_fold_N=threshold_fold_N, inner_fold_N=None)


def test_a_bank_with_folds_equals_its_heads_trained_one_by_one_fold_by_fold():
    """Held-out logits to 1e-5 of their spread, on one footing; the kept head is the average of the folds'
    heads."""
    data, configs = folded(), mixed_bank()[:16]  # so few that none falls behind
    bank = train_bank(configs, data, training=BankTraining(batch_size=32), seed=4)
    assert {result.state for result in bank} == {"COMPLETE"}
    once = BankTraining(batch_size=32, rungs=())  # one look, after the last epoch
    for one, result in list(zip(configs, bank, strict=True))[::5]:
        logits_NC, held_out_NC = [], np.zeros(data.targets_NC.shape)
        for fold in range(5):
            [alone] = train_bank([one], as_split(data, fold), training=once, seed=4)
            logits_NC.append(alone.head.logits(data.features_ND))
            held_out_NC[data.judged_N(fold)] = logits_NC[-1][data.judged_N(fold)]
        spread = np.std(logits_NC)
        np.testing.assert_allclose(
            result.held_out_MC, pooled(held_out_NC, data), rtol=0, atol=1e-5 * spread + 2e-6
        )
        np.testing.assert_allclose(
            result.head.logits(data.features_ND),
            np.mean(logits_NC, axis=0),
            rtol=0,
            atol=1e-5 * spread + 2e-6,
        )


def test_macro_f1_of_folds_has_cross_fitted_thresholds_over_all_and_inside_each():
    """The decisions on a fold use thresholds of the other folds; alone, a fold is judged by thresholds
    that are cross-fitted over its own patients."""
    data = folded()
    for result in train_bank(mixed_bank()[:3], data, objective_name="macro_f1"):
        strength = [result.params["threshold_shrinkage"]]
        (judged,) = judge(result.held_out_MC[None], data.judged(), strength)
        assert result.objective == pytest.approx(judged.metrics["val.macro_f1"])
        for fold, value in enumerate(result.fold_objectives):
            own = data.fold_N == fold
            inner = patient_folds(data.targets_NC[own], data.patients_N[own])
            rows = replace(data.judged(), targets_NC=data.targets_NC[own], patients_N=data.patients_N[own])
            (alone,) = judge(result.held_out_MC[None, own], replace(rows, folds_N=inner), strength)
            assert value == pytest.approx(alone.metrics["val.macro_f1"], abs=0.05)


def test_the_objective_is_that_of_all_folds_held_out_scores_together():
    data = folded()
    for result in train_bank(mixed_bank()[:6], data):
        expected = average_precision_score(data.targets_NC, result.held_out_MC, average="macro")
        assert result.objective == pytest.approx(expected)
        own = data.fold_N == 1
        on_fold = average_precision_score(data.targets_NC[own], result.held_out_MC[own], average="macro")
        assert result.fold_objectives[1] == pytest.approx(on_fold)
        (judged,) = judge(result.held_out_MC[None], data.judged(), [5.0])
        assert result.metrics["val.macro_f1"] == judged.metrics["val.macro_f1"]
        # Of all folds, not of the last one.
        known = ~np.isnan(data.targets_NC)
        loss = log_loss(
            data.targets_NC[known], 1 / (1 + np.exp(-result.held_out_MC[known].astype(float))), labels=[0, 1]
        )
        assert result.metrics["val.loss"] == pytest.approx(loss, rel=1e-5)
        assert result.epoch == result.params["epochs"]


def test_wide_features_are_trained_in_the_span_of_the_images_and_lose_nothing():
    """A penalised head trained long on 300 columns, and on coordinates of 192 images: the same scores to 2 %.

    Coordinates have mean square 1 as standardised columns have, so that there are 300 / rank times as many of
    the latter and a penalty counts so much less.
    """
    data = folded(width=300, blocks=(150, 150))
    rank = min(len(data.training_N(0)) - 1, 300)
    common = {"learning_rate": 0.02, "weight_decay": 0.0, "epochs": 600}
    how = BankTraining(rungs=(), clip_norm=None)
    [wide] = train_bank(
        [config(0, normalisation="standardize", l2_penalty=3.0 * 300 / rank, **common)], data, training=how
    )
    [narrow] = train_bank([config(1, features="deep", l2_penalty=3.0, **common)], data, training=how)
    assert narrow.head.weight_DC.shape == (300, 4)
    spread = wide.held_out_MC.std()
    np.testing.assert_allclose(narrow.held_out_MC, wide.held_out_MC, rtol=0, atol=0.02 * spread)


def anchored(seed=0):
    """Data with text that points where the first labels' evidence lies."""
    data = folded(seed)
    text_CD = np.random.default_rng(seed).normal(size=(4, 12)).astype(np.float32)
    return replace(data, text_CD=text_CD)


@pytest.mark.parametrize("normalisation", ["none", "l2", "center", "standardize"])
def test_a_head_that_may_not_move_is_its_anchor(normalisation):
    """Drawn back with all strength, its scores are products with the text, of the wanted
    deviation on training."""
    data = anchored()
    one = config(
        anchor="zero_shot",
        anchor_strength=2.0,
        learning_rate=1e-6,
        weight_decay=0.0,
        l2_penalty=1.0,
        normalisation=normalisation,
    )
    [result] = train_bank([one], data)
    x_ND = data.features_ND.astype(np.float64)
    if normalisation == "l2":
        x_ND /= np.linalg.norm(x_ND, axis=1, keepdims=True)
    products_NC = x_ND @ data.text_CD.T
    for c in range(4):
        assert np.corrcoef(result.head.logits(data.features_ND)[:, c], products_NC[:, c])[0, 1] > 0.9999
    np.testing.assert_allclose(result.head.logits(data.features_ND).std(axis=0), 2.0, rtol=0.05)


def test_penalty_and_decay_draw_towards_the_anchor():
    """The stronger they are, the nearer is the head to its text; without an anchor to nothing."""
    data = anchored()
    products_NC = data.features_ND @ data.text_CD.T

    def likeness(head):
        return np.mean(
            [np.corrcoef(head.logits(data.features_ND)[:, c], products_NC[:, c])[0, 1] for c in range(4)]
        )

    common = {"anchor": "zero_shot", "anchor_strength": 1.0, "epochs": 60, "normalisation": "standardize"}
    for name, weak, strong in (("l2_penalty", 0.001, 1.0), ("weight_decay", 0.01, 30.0)):
        other = {"weight_decay": 0.0} if name == "l2_penalty" else {"l2_penalty": 0.0}
        near, far = (
            train_bank([config(0, **common, **other, **{name: value}) for value in (strong, weak)][:1], data),
            train_bank([config(1, **common, **other, **{name: weak})], data),
        )
        assert likeness(near[0].head) > 0.95 > likeness(far[0].head)


def test_heads_with_and_without_an_anchor_share_a_bank():
    data = anchored()
    plain = config(0, normalisation="center")
    drawn = config(1, normalisation="center", anchor="zero_shot", anchor_strength=1.0)
    together = train_bank([plain, drawn], data)
    for one, alone in zip(together, [*train_bank([plain], data), *train_bank([drawn], data)], strict=True):
        np.testing.assert_allclose(one.held_out_MC, alone.held_out_MC, atol=1e-5)


def test_an_anchor_without_text_is_refused():
    with pytest.raises(ValueError, match="anchor must be none where data have no text_CD"):
        train_bank([config(anchor="zero_shot", anchor_strength=1.0)], folded())


def test_heads_that_fall_behind_after_a_fold_are_stopped_and_keep_no_weights():
    data = folded()
    strong = [[0.9] * 5] * (CONTENDERS + 5) + [[0.89, 0.9, 0.9, 0.9, 0.91]]
    [result] = train_bank([config()], data, earlier=Earlier(fold_objectives=strong))
    assert result.state == "PRUNED" and result.head is None and result.held_out_MC is None
    assert len(result.fold_objectives) == 1 and result.fold_objectives[0] < 0.89
    # One fold's score is none of the study's objective, that of all folds together.
    assert math.isnan(result.objective) and result.metrics == {}
    assert result.epoch == 6
    assert "over 1 fold is behind that of the best 20" in result.reason


def test_a_head_that_diverges_on_a_later_fold_fails(monkeypatch):
    gradient, steps = BankLoss.gradient, []

    def poison(self, *arguments):
        steps.append(None)
        return gradient(self, *arguments) * (
            math.nan if len(steps) > 15 else 1
        )  # six epochs of one step a fold

    monkeypatch.setattr(BankLoss, "gradient", poison)
    [result] = train_bank([config()], folded())
    assert result.state == "FAIL" and result.reason == "diverged in epoch 4 at learning rate 0.015"
    assert result.head is None and math.isnan(result.objective) and len(result.fold_objectives) == 2


def test_the_deadline_cuts_a_bank_off_between_folds():
    assert train_bank([config(), config(1)], folded(), deadline=time.time()) == []


def test_a_deadline_in_the_last_fold_keeps_what_is_through_all_folds(monkeypatch):
    """The clock runs out while one of two heads still trains on the last fold: the other has its record, the
    same as without a deadline."""
    data, configs = folded(), [config(0, epochs=3), config(1, epochs=9)]
    (whole, _), looks = train_bank(configs, data), []

    def clock():  # nine epochs a fold, asked after each
        looks.append(None)
        return 0.0 if len(looks) <= 4 * 9 + 4 else 2.0

    monkeypatch.setattr(module.time, "time", clock)
    [kept] = train_bank(configs, data, deadline=1.0)
    assert (kept.number, kept.state, kept.objective) == (0, "COMPLETE", whole.objective)
    np.testing.assert_array_equal(kept.held_out_MC, whole.held_out_MC)


@pytest.mark.gpu
def test_an_accelerator_gives_the_same_heads():
    data, configs, how = draw_data(), mixed_bank(), BankTraining(batch_size=32)
    on_gpu = train_bank(configs, data, training=how, device="cuda")
    for one, other in zip(on_gpu, train_bank(configs, data, training=how), strict=True):
        assert_same(one, other, 1e-3)


def test_a_bank_ends_at_its_deadline_and_keeps_the_heads_that_had_ended():
    heads = [config(0, epochs=50), config(1, epochs=1)]
    (record,) = train_bank(heads, draw_data(), deadline=time.time())
    assert (record.number, record.state) == (1, "COMPLETE")
    assert len(train_bank(heads, draw_data(), deadline=time.time() + 600)) == 2


# ---- multiclass labels ----


def draw_classes() -> ProbeData:
    """The same features with the label that they speak for most."""
    data = draw_data(train=300, val=150)
    truth_N = (data.features_ND @ np.random.default_rng(1).standard_normal((12, 4))).argmax(1)
    return replace(data, targets_NC=np.eye(4, dtype=np.float32)[truth_N], multiclass=True)


def test_softmax_reaches_the_multinomial_regression_of_the_same_penalty():
    data = draw_classes()
    (train_ND, train_NC), (val_ND, val_NC) = training(data), validation(data)
    wanted = {"loss": "softmax", "weight_decay": 0.0, "l2_penalty": 1e-2, "normalisation": "standardize"}
    (record,) = train_bank(
        [config(learning_rate=0.1, epochs=800, **wanted)],
        data,
        training=BankTraining(batch_size=300, rungs=()),
    )
    mean_D, scale_D = train_ND.mean(0), train_ND.std(0)
    model = LogisticRegression(C=1 / (1e-2 * len(train_ND)), max_iter=1000)
    model.fit((train_ND - mean_D) / scale_D, train_NC.argmax(1))
    expected_NC = model.predict_log_proba((val_ND - mean_D) / scale_D)
    logits_NC = torch.tensor(record.head.logits(val_ND))
    np.testing.assert_allclose(logits_NC.softmax(-1).numpy(), np.exp(expected_NC), atol=0.01)
    final = log_loss(val_NC.argmax(1), logits_NC.double().softmax(-1).numpy(), labels=range(4))
    assert record.curve[-1]["val_loss"] == pytest.approx(final / 4, rel=0.02)
    assert record.multiclass and record.rule().multiclass


def test_a_mixed_bank_on_multiclass_labels_equals_its_heads_one_by_one():
    data, losses = draw_classes(), ("softmax", "bce", "softmax")
    configs = [
        config(number, loss=loss, pos_weight_power=0.5, epochs=10) for number, loss in enumerate(losses)
    ]
    how = BankTraining(batch_size=32, rungs=(3,))
    for record, one in zip(train_bank(configs, data, training=how), configs, strict=True):
        (alone,) = train_bank([one], data, training=how)
        assert_same(record, alone, 1e-5)
        assert record.curve[-1]["val_loss"] == pytest.approx(alone.curve[-1]["val_loss"], rel=1e-5)


# ---- views ----


def test_views_are_further_rows_of_their_image_and_averaged_in_what_a_head_says():
    """Views that are all the same leave a head as it is, one batch an epoch: each row only counts thrice. The
    first label, half of the images, has a bias without a gradient, whose rounding Adam makes a step of."""
    data = folded()
    same = replace(data, features_ND=np.tile(data.features_ND, (1, 3)), image_views=3)
    configs = [config(0, normalisation="standardize"), config(1, normalisation="center", loss="bce")]
    how = BankTraining(batch_size=10_000)
    for one, other in zip(
        train_bank(configs, same, training=how), train_bank(configs, data, training=how), strict=True
    ):
        spread = other.held_out_MC.std()
        np.testing.assert_allclose(
            one.held_out_MC[:, 1:], other.held_out_MC[:, 1:], rtol=0, atol=1e-4 * spread
        )
        np.testing.assert_allclose(
            one.head.logits(same.features_ND)[:, 1:],
            other.head.logits(data.features_ND)[:, 1:],
            rtol=0,
            atol=1e-4 * spread,
        )


def test_an_image_that_is_held_out_is_held_out_in_every_view():
    data = folded()
    rng = np.random.default_rng(0)
    other_ND = (data.features_ND + rng.normal(0, 0.5, data.features_ND.shape)).astype(np.float32)
    seen = replace(data, features_ND=np.concatenate([data.features_ND, other_ND], axis=1), image_views=2)
    [result] = train_bank([config()], seen)
    moved = seen.features_ND.copy()
    moved[seen.judged_N(0)] += 50  # what fold 0 holds out has no part in the head that judges it
    [again] = train_bank([config()], replace(seen, features_ND=moved))
    own = seen.judged_N(0)
    shift_MC = again.held_out_MC[own] - result.held_out_MC[own]
    assert np.abs(shift_MC - shift_MC[:1]).max() < 1e-2
