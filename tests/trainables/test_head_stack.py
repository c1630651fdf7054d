"""The steps of a head, against torch's own AdamW, scikit-learn and by hand.

Shape legend: N images, D features, C labels.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from torch.nn.functional import binary_cross_entropy_with_logits
from torchvision.ops import sigmoid_focal_loss

from search_spaces.configuration import Configuration
from tests.trainables.drawn_probes import anchored, config, draw_classes, draw_data, folded
from tests.trainables.single_split import probe_data, training, validation
from trainables.bank_training import BankTraining
from trainables.linear_probe import train_bank
from trainables.trial_data import ProbeData


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


def test_decay_that_would_overshoot_zero_stops_there():
    """Learning rate times decay above 1: torch's AdamW would oscillate, above 2 explode."""
    [result] = train_bank([config(learning_rate=0.5, weight_decay=100.0, epochs=30)], draw_data())
    assert result.state == "COMPLETE"
    assert np.abs(result.head.weight_DC).max() < 1


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
