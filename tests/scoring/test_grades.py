"""Decisions for grades: by hand, and against scikit-learn."""

import numpy as np
import pytest
import sklearn.metrics as sk

from scoring.grades import grade_error, quadratic_kappa, squared_grade_error_by_chance
from scoring.metrics import confusion


def graded(truth_N, decided_N, grades):
    return np.eye(grades)[truth_N], np.eye(grades, dtype=bool)[decided_N]


def test_disagreement_worked_by_hand():
    # Truth 0 0 1 2, decided 0 1 1 0: off by 0, 1, 0, 2, squared 0, 1, 0, 4, on average 5/4. Two are decided
    # to be 0 and two to be 1; held against these, each 0 costs 0 + 0 + 1 + 1, that of 1 as much, that
    # of 2 4 + 4 + 1 + 1: by chance (2 x 2 + 2 + 10) / 16 = 1.
    targets_NC, decisions_NC = graded([0, 0, 1, 2], [0, 1, 1, 0], 3)
    assert grade_error(targets_NC, decisions_NC).tolist() == [0, 1, 0, 2]
    assert squared_grade_error_by_chance(confusion(targets_NC, decisions_NC)) == 1
    assert quadratic_kappa(targets_NC, decisions_NC) == pytest.approx(1 - 5 / 4)


@pytest.mark.parametrize("seed", range(5))
def test_it_is_scikit_learns_weighted_kappa_and_mean_absolute_error(seed):
    rng = np.random.default_rng(seed)
    truth_N = rng.choice(5, 80, p=[0.6, 0.2, 0.1, 0.1, 0])
    decided_N = np.clip(truth_N + rng.integers(-1, 3, 80), 0, 4)
    made = graded(truth_N, decided_N, 5)
    assert quadratic_kappa(*made) == pytest.approx(
        sk.cohen_kappa_score(truth_N, decided_N, weights="quadratic")
    )
    assert grade_error(*made).mean() == pytest.approx(sk.mean_absolute_error(truth_N, decided_N))


def test_a_masked_image_has_no_grade():
    targets_NC, decisions_NC = graded([0, 1, 2], [0, 2, 0], 3)
    targets_NC[2] = np.nan
    assert np.isnan(grade_error(targets_NC, decisions_NC)).tolist() == [False, False, True]
    assert quadratic_kappa(targets_NC, decisions_NC) == quadratic_kappa(targets_NC[:2], decisions_NC[:2])


def test_kappa_is_0_for_a_constant_decision_and_undefined_where_the_truth_is_as_constant():
    assert quadratic_kappa(*graded([0, 0, 1], [0, 0, 0], 2)) == 0
    assert np.isnan(quadratic_kappa(*graded([0, 0, 0], [0, 0, 0], 2)))
