"""A bank of linear probes, against itself one head at a time and scikit-learn: what its records say."""

import math
import time
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

from cohort.patients import patient_folds
from scoring.judging import judge
from scoring.metrics import f1
from scoring.thresholds import STRATEGIES, cross_fitted, fit_thresholds
from tests.trainables.drawn_probes import assert_same, config, draw_classes, draw_data, folded, mixed_bank
from tests.trainables.single_split import validation
from trainables import fold_fit as module
from trainables.bank_training import BankTraining
from trainables.linear_probe import train_bank
from trainables.losses import BankLoss
from trainables.pooling import pooled
from trainables.racing import CONTENDERS, Earlier
from trainables.trial_data import ProbeData


def test_a_bank_equals_the_same_heads_trained_one_by_one():
    """To 1e-5 of a head's largest weight: a product of another size sums float32 in another order.

    Adam divides by the gradient's own size and decay pulls two runs together again, so the difference
    stays at rounding instead of growing with the steps.
    """
    data, configs = draw_data(), mixed_bank()
    how = BankTraining(batch_size=80, rungs=(3, 9))
    bank = train_bank(configs, data, training=how, seed=4)
    assert {result.state for result in bank} == {"COMPLETE"}
    for one, result in list(zip(configs, bank, strict=True))[:12]:  # every normalisation under every loss
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


def test_heads_that_are_not_raced_are_stopped_neither_at_a_rung_nor_between_folds():
    how = BankTraining(rungs=(2,), raced=False)
    earlier = Earlier(prune_below={2: 1.0}, fold_objectives=[[0.9] * 5] * (CONTENDERS + 5))
    for data in (draw_data(), folded()):
        [free] = train_bank([config()], data, training=how)
        [result] = train_bank([config()], data, training=how, earlier=earlier)
        assert (result.state, result.objective) == ("COMPLETE", free.objective)


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


def as_split(data: ProbeData, fold: int) -> ProbeData:
    """One fold of it as a training and validation split."""
    fold_N = np.where(data.fold_N == fold, 0, -1)
    threshold_fold_N = np.where(fold_N == 0, data.patients_N % 3, -1)
    return replace(data, fold_N=fold_N, threshold_fold_N=threshold_fold_N, inner_fold_N=None)


def test_a_bank_with_folds_equals_its_heads_trained_one_by_one_fold_by_fold():
    """Held-out logits to 1e-5 of their spread, on one footing; the kept head is the average of the folds'
    heads."""
    data, configs = folded(), mixed_bank()[:16]  # so few that none falls behind
    bank = train_bank(configs, data, training=BankTraining(batch_size=96), seed=4)
    assert {result.state for result in bank} == {"COMPLETE"}
    once = BankTraining(batch_size=96, rungs=())  # one look, after the last epoch
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
