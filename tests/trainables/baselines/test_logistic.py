"""The logistic regression, against scikit-learn and cases worked by hand."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score

from scoring.judging import SHRINKAGE, judge
from tests.trainables.single_split import probe_data
from trainables.baselines import logistic
from trainables.baselines.base import chosen
from trainables.baselines.logistic import STRENGTHS, GivenUp, train_logistic
from trainables.pooling import pooled
from trainables.records import TrialRecord
from vlm.feature_kinds import FeatureKind

TRAIN = 100


def drawn(seed=0, images=200, features=10, labels=3):
    rng = np.random.default_rng(seed)
    targets_NC = (rng.random((images, labels)) < 0.3).astype(np.float32)
    x_ND = rng.normal(size=(images, features)) * 3 + 5
    x_ND[:, :labels] += 2 * targets_NC
    return x_ND.astype(np.float32), targets_NC


def split(x_ND, targets_NC, counted_C=None):
    """The first half is trained on, the second judged, each image of its own patient."""
    return probe_data(
        x_ND[:TRAIN],
        targets_NC[:TRAIN],
        x_ND[TRAIN:],
        targets_NC[TRAIN:],
        val_patients_N=np.arange(len(x_ND) - TRAIN),
        val_folds_N=np.arange(len(x_ND) - TRAIN) % 5,
        labels=tuple("abc")[: targets_NC.shape[1]],
        objective_labels_C=counted_C,
    )


def fitted(x_ND, targets_NC, strengths=(1e-3, 1e-1, 10.0), counted_C=None, **options) -> TrialRecord:
    data = split(x_ND, targets_NC, counted_C)
    return chosen(train_logistic(data, **{"objective_name": "macro_ap"} | options, strengths=strengths))


def test_it_is_scikit_learns_one_label_against_the_rest_on_standardised_features():
    x_ND, targets_NC = drawn()
    record = fitted(x_ND, targets_NC, strengths=(0.1,))
    standard_ND = (x_ND[:TRAIN] - x_ND[:TRAIN].mean(0)) / x_ND[:TRAIN].std(0)
    held_ND = (x_ND[TRAIN:] - x_ND[:TRAIN].mean(0)) / x_ND[:TRAIN].std(0)
    for c in range(3):
        model = LogisticRegression(C=0.1, max_iter=500).fit(standard_ND, targets_NC[:TRAIN, c])
        np.testing.assert_allclose(
            record.head.logits(x_ND[TRAIN:])[:, c], model.decision_function(held_ND), atol=2e-3
        )


def test_the_strength_with_the_best_validation_objective_is_chosen_and_all_are_reported():
    x_ND, targets_NC = drawn(1)
    grid = train_logistic(split(x_ND, targets_NC), objective_name="macro_ap", strengths=(1e-3, 1e-1, 10.0))
    assert [record.params["C"] for record in grid] == [1e-3, 1e-1, 10.0]
    assert chosen(grid).objective == max(record.objective for record in grid)
    for record in grid:
        logits_NC = record.head.logits(x_ND[TRAIN:])
        scores = [average_precision_score(targets_NC[TRAIN:, c], logits_NC[:, c]) for c in range(3)]
        assert record.objective == pytest.approx(np.mean(scores))
        np.testing.assert_allclose(record.held_out_MC, logits_NC, rtol=1e-5)


def test_equally_good_strengths_give_the_smaller_one():
    x_ND, targets_NC = drawn(2, features=1, labels=1)
    targets_NC[:, 0] = x_ND[:, 0] > 6  # one feature: every strength ranks it perfectly
    record = fitted(x_ND, targets_NC, strengths=(1.0, 10.0))
    assert record.objective == 1.0
    assert record.params == {"C": 1.0, "features": "projected"}


def test_masked_entries_drop_out_of_their_own_label_only():
    x_ND, targets_NC = drawn(3)
    masked_NC = targets_NC.copy()
    masked_NC[:40, 1] = np.nan
    whole, partly = fitted(x_ND, targets_NC, (0.1,)).head, fitted(x_ND, masked_NC, (0.1,)).head
    np.testing.assert_array_equal(whole.weight_DC[:, 0], partly.weight_DC[:, 0])
    standard_ND = (x_ND[:TRAIN] - x_ND[:TRAIN].mean(0)) / x_ND[:TRAIN].std(0)
    model = LogisticRegression(C=0.1, max_iter=500).fit(standard_ND[40:], targets_NC[40:TRAIN, 1])
    np.testing.assert_allclose(partly.weight_DC[:, 1], model.coef_[0], atol=1e-3)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_label_that_is_all_alike_in_training_gets_its_constant_prevalence(value):
    x_ND, targets_NC = drawn(4)
    targets_NC[:TRAIN, 2] = value
    head = fitted(x_ND, targets_NC, (0.1,)).head
    prevalence = (TRAIN * value + 0.5) / (TRAIN + 1)
    np.testing.assert_allclose(expit(head.logits(x_ND)[:, 2]), prevalence, rtol=1e-5)


def test_a_constant_feature_does_no_harm():
    x_ND, targets_NC = drawn(5)
    x_ND[:, 4] = 7.1
    x_ND[::2, 4] = np.nextafter(np.float32(7.1), np.float32(8))  # constant up to rounding
    head = fitted(x_ND, targets_NC, (0.1,)).head
    assert head.scale_D[4] == 1
    np.testing.assert_allclose(head.weight_DC[4], 0, atol=1e-5)


def test_a_common_scale_divides_all_features_by_one_number():
    """Root of the mean variance, so that a feature that hardly varies is not blown up."""
    x_ND, targets_NC = drawn(6)
    x_ND[:, 4] = 7 + x_ND[:, 4] / 1000
    own, common = (fitted(x_ND, targets_NC, (0.1,), common_scale=scale).head for scale in (False, True))
    np.testing.assert_allclose(own.scale_D, x_ND[:TRAIN].std(0), rtol=1e-5)
    np.testing.assert_allclose(common.scale_D, np.sqrt(x_ND[:TRAIN].var(0).mean()), rtol=1e-5)
    assert own.scale_D[4] < 0.01 < 1 < common.scale_D[4]
    np.testing.assert_array_equal(own.mean_D, common.mean_D)


@pytest.mark.parametrize(
    ("name", "metric"), [("macro_ap", average_precision_score), ("macro_auroc", roc_auc_score)]
)
def test_the_objective_averages_the_labels_that_count_only(name, metric):
    x_ND, targets_NC = drawn(7)
    record = fitted(x_ND, targets_NC, counted_C=np.array([True, False, True]), objective_name=name)
    logits_NC = record.head.logits(x_ND[TRAIN:])
    expected = np.mean([metric(targets_NC[TRAIN:, c], logits_NC[:, c]) for c in (0, 2)])
    assert record.objective == pytest.approx(expected)
    assert record.metrics["val.labels_averaged"] == 2


def test_an_unknown_objective_is_refused():
    with pytest.raises(
        ValueError, match="objective must be one of macro_ap, macro_auroc, macro_f1, not 'accuracy'"
    ):
        fitted(*drawn(), objective_name="accuracy")


def test_the_record_is_no_trial_and_judged_as_every_other_head():
    x_ND, targets_NC = drawn(8)
    data = split(x_ND, targets_NC)
    grid = train_logistic(data, objective_name="macro_f1")
    assert [one.params["C"] for one in grid] == list(STRENGTHS)
    record = chosen(grid)
    assert (record.number, record.preset, record.state, record.reason) == (-1, "", "COMPLETE", "")
    assert record.precision == data.precision
    logits_NC = record.head.logits(data.features_ND[data.judged_N()])
    (judged,) = judge(logits_NC[None], data.judged(), [SHRINKAGE])
    assert record.metrics == judged.metrics and record.strategy == judged.strategy
    assert record.objective == judged.metrics["val.macro_f1"]
    assert record.thresholds == {name: values_C.tolist() for name, values_C in judged.thresholds.items()}
    assert record.few == judged.few_C.tolist()


def test_regressions_that_do_not_converge_are_counted_in_one_line(monkeypatch):
    x_ND, targets_NC = drawn()
    assert fitted(x_ND, targets_NC).warnings == []
    monkeypatch.setattr(logistic, "STEPS", 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        record = fitted(x_ND, targets_NC)
    assert record.warnings == ["3 of 3 regressions stopped after 1 steps, before they converged"]


def test_it_is_given_up_between_two_regressions():
    asked = iter([False, False, True])
    with pytest.raises(GivenUp):
        fitted(*drawn(), given_up=lambda: next(asked))
    assert next(asked, "all asked") == "all asked"


# ---- folds, and wide features ----


def folded(seed=11, images=240, features=10, blocks=None):
    """Three labels, two images a patient, five folds."""
    x_ND, targets_NC = drawn(seed, images, features)
    half = images // 2
    data = probe_data(
        x_ND[:half],
        targets_NC[:half],
        x_ND[half:],
        targets_NC[half:],
        val_patients_N=np.arange(half) // 2,
        val_folds_N=np.arange(half) // 2 % 5,
        labels=tuple("abc"),
    )
    kinds = {"deep": FeatureKind("deep", 0, blocks)} if blocks else None
    return replace(data, kinds=kinds).cross_validated(5, seed=0, enough=5)


def test_on_folds_each_image_is_scored_by_what_did_not_see_it_and_the_head_is_the_folds_average():
    data = folded()
    record = chosen(train_logistic(data, objective_name="macro_ap", strengths=(0.1,)))
    heads = []
    for fold in range(5):
        train_N = data.training_N(fold)
        mean_D, scale_D = data.features_ND[train_N].mean(0), data.features_ND[train_N].std(0)
        logits_NC = []
        for c in range(3):
            model = LogisticRegression(C=0.1, tol=1e-8, max_iter=5000)
            model.fit((data.features_ND[train_N] - mean_D) / scale_D, data.targets_NC[train_N, c])
            logits_NC.append(model.decision_function((data.features_ND - mean_D) / scale_D))
        heads.append(np.stack(logits_NC, axis=1))
    held_out_MC = np.stack(heads)[data.fold_N, np.arange(len(data.fold_N))]
    np.testing.assert_allclose(record.held_out_MC, pooled(held_out_MC, data), atol=5e-3)
    np.testing.assert_allclose(record.head.logits(data.features_ND), np.mean(heads, axis=0), atol=5e-3)
    scores = average_precision_score(data.targets_NC, record.held_out_MC, average=None)
    assert record.objective == pytest.approx(np.mean(scores))
    assert len(record.fold_objectives) == 5
    own = data.fold_N == 2
    on_fold = [average_precision_score(data.targets_NC[own, c], record.held_out_MC[own, c]) for c in range(3)]
    assert record.fold_objectives[2] == pytest.approx(np.mean(on_fold))


def test_wide_features_fitted_in_the_span_of_the_training_images_lose_nothing():
    """300 features of 192 training images: the penalised optimum lies in their span. Each block is divided by
    the root of its width and all by one number, so that C stands for the same as with 192 features."""
    data = folded(features=300, blocks=(100, 200))
    record = chosen(train_logistic(data, objective_name="macro_ap", kind="deep", strengths=(0.01,)))
    width_D = np.repeat([100, 200], [100, 200])
    for fold in (0, 3):
        train_N, held_N = data.training_N(fold), data.judged_N(fold)
        mean_D, scale_D = (
            data.features_ND[train_N].mean(0),
            data.features_ND[train_N].std(0) * np.sqrt(width_D),
        )
        x_ND = (data.features_ND - mean_D) / scale_D
        rank = np.linalg.matrix_rank(x_ND[train_N])
        x_ND *= np.sqrt(rank * len(train_N) / np.square(x_ND[train_N]).sum())
        for c in range(3):
            model = LogisticRegression(C=0.01, tol=1e-8, max_iter=5000)
            model.fit(x_ND[train_N], data.targets_NC[train_N, c])
            expected_N = model.decision_function(x_ND[held_N])
            found_N = record.held_out_MC[held_N, c]
            np.testing.assert_allclose(found_N - found_N.mean(), expected_N - expected_N.mean(), atol=0.02)


# ---- multiclass labels ----


def classes(labels=3, seed=0):
    """Data whose first features tell the classes."""
    rng = np.random.default_rng(seed)
    truth_N = rng.choice(labels, 200, p=[0.6, *np.full(labels - 1, 0.4 / (labels - 1))])
    targets_NC = np.eye(labels, dtype=np.float32)[truth_N]
    x_ND = rng.normal(size=(200, 6))
    x_ND[:, :labels] += 1.5 * targets_NC
    return replace(split(x_ND.astype(np.float32), targets_NC), multiclass=True), truth_N


@pytest.mark.parametrize("labels", [2, 3])
def test_multiclass_labels_get_one_multinomial_regression_scikit_learns(labels):
    data, truth_N = classes(labels)
    record = chosen(train_logistic(data, objective_name="macro_ap", strengths=(0.1,)))
    train_ND, held_ND = data.features_ND[:TRAIN], data.features_ND[TRAIN:]
    model = LogisticRegression(C=0.1, max_iter=500).fit(
        (train_ND - train_ND.mean(0)) / train_ND.std(0), truth_N[:TRAIN]
    )
    expected_NC = model.predict_proba((held_ND - train_ND.mean(0)) / train_ND.std(0))
    probs_NC = softmax(record.head.logits(held_ND).astype(np.float64), axis=1)
    np.testing.assert_allclose(probs_NC, expected_NC, atol=2e-3)
    assert record.multiclass and record.rule().multiclass
    assert set(record.thresholds) == {"fixed", "per_label", "shrunk"}


def test_a_masked_image_drops_out_and_a_class_without_training_image_is_hardly_ever_decided():
    data, truth_N = classes()
    targets_NC = data.targets_NC.copy()
    targets_NC[:TRAIN][truth_N[:TRAIN] == 2] = np.nan
    record = chosen(
        train_logistic(replace(data, targets_NC=targets_NC), objective_name="macro_ap", strengths=(0.1,))
    )
    logits_NC = record.head.logits(data.features_ND[TRAIN:])
    known = np.sum(truth_N[:TRAIN] != 2)
    np.testing.assert_allclose(logits_NC[:, 2], np.log(0.5 / (known + 1)), rtol=1e-6)
    assert (logits_NC.argmax(1) != 2).all()
