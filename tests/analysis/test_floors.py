"""Floors against scikit-learn and cases worked by hand."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from analysis import floors
from scoring.judging import JudgedRows


def drawn(seed=0, images=200, features=10, labels=3):
    rng = np.random.default_rng(seed)
    targets_NC = (rng.random((images, labels)) < 0.3).astype(np.float32)
    x_ND = rng.normal(size=(images, features)) * 3 + 5
    x_ND[:, :labels] += 2 * targets_NC
    return x_ND.astype(np.float32), targets_NC


def fitted(x_ND, targets_NC, strengths=(1e-3, 1e-1, 10.0)):
    half = len(x_ND) // 2
    return floors.logreg_floor(
        x_ND[:half],
        targets_NC[:half],
        x_ND[half:],
        JudgedRows(
            targets_NC=targets_NC[half:],
            patients_N=np.arange(len(x_ND) - half),
            folds_N=np.arange(len(x_ND) - half) % 5,
            averaged_C=np.ones(targets_NC.shape[1], bool),
        ),
        objective="macro_ap",
        strengths=strengths,
    )


def test_the_logistic_floor_is_scikit_learns_one_label_against_the_rest_on_standardised_features():
    x_ND, targets_NC = drawn()
    floor = fitted(x_ND, targets_NC, strengths=(0.1,))
    standard_ND = (x_ND[:100] - x_ND[:100].mean(0)) / x_ND[:100].std(0)
    held_ND = (x_ND[100:] - x_ND[:100].mean(0)) / x_ND[:100].std(0)
    for c in range(3):
        model = LogisticRegression(C=0.1, max_iter=500).fit(standard_ND, targets_NC[:100, c])
        np.testing.assert_allclose(
            floor.head.logits(x_ND[100:])[:, c], model.decision_function(held_ND), atol=2e-3
        )


def test_the_strength_with_the_best_validation_objective_is_chosen_and_all_are_reported():
    x_ND, targets_NC = drawn(1)
    floor = fitted(x_ND, targets_NC)
    assert [strength for strength, _ in floor.tried] == [1e-3, 1e-1, 10.0]
    assert floor.objective == max(value for _, value in floor.tried)
    logits_NC = floor.head.logits(x_ND[100:])
    expected = np.mean([average_precision_score(targets_NC[100:, c], logits_NC[:, c]) for c in range(3)])
    assert floor.objective == pytest.approx(expected)


def test_equally_good_strengths_give_the_smaller_one():
    x_ND, targets_NC = drawn(2, features=1, labels=1)
    targets_NC[:, 0] = x_ND[:, 0] > 6  # one feature: every strength ranks it perfectly
    floor = fitted(x_ND, targets_NC, strengths=(1.0, 10.0))
    assert floor.tried[0][1] == floor.tried[1][1] == 1.0
    assert floor.strength == 1.0


def test_masked_entries_drop_out_of_their_own_label_only():
    x_ND, targets_NC = drawn(3)
    masked_NC = targets_NC.copy()
    masked_NC[:40, 1] = np.nan
    whole, partly = fitted(x_ND, targets_NC, (0.1,)).head, fitted(x_ND, masked_NC, (0.1,)).head
    np.testing.assert_array_equal(whole.weight_DC[:, 0], partly.weight_DC[:, 0])
    standard_ND = (x_ND[:100] - x_ND[:100].mean(0)) / x_ND[:100].std(0)
    model = LogisticRegression(C=0.1, max_iter=500).fit(standard_ND[40:], targets_NC[40:100, 1])
    np.testing.assert_allclose(partly.weight_DC[:, 1], model.coef_[0], atol=1e-3)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_label_that_is_all_alike_in_training_gets_its_constant_prevalence(value):
    x_ND, targets_NC = drawn(4)
    targets_NC[:100, 2] = value
    head = fitted(x_ND, targets_NC, (0.1,)).head
    prevalence = (100 * value + 0.5) / 101
    np.testing.assert_allclose(expit(head.logits(x_ND)[:, 2]), prevalence, rtol=1e-5)


def test_a_constant_feature_does_no_harm():
    x_ND, targets_NC = drawn(5)
    x_ND[:, 4] = 7.1
    assert np.isfinite(fitted(x_ND, targets_NC, (0.1,)).head.weight_DC).all()


def test_prevalences_worked_by_hand():
    targets_NC = np.array([[1, 0], [0, 0], [0, np.nan]])
    np.testing.assert_allclose(floors.prevalences(targets_NC), [1.5 / 4, 0.5 / 3])
