import numpy as np
import pytest
from scipy.stats import ttest_1samp

from scoring.choice import expected_fall, paired_interval


def test_a_single_configuration_does_not_fall():
    assert expected_fall(np.array([[0.4, 0.6, 0.5]])) == 0


def test_the_fall_worked_by_hand():
    """Two configurations on two folds, (0.6, 0.4) and (0.4, 0.6): chosen on the one fold with 0.1 above the
    mean, the best has 0.1 below it on the other."""
    assert expected_fall(np.array([[0.6, 0.4], [0.4, 0.6]])) == pytest.approx(0.2)


def test_one_that_is_better_everywhere_does_not_fall_however_difficult_a_fold_is():
    level_K, difficulty_F = np.array([0.5, 0.4, 0.3]), np.array([0.0, -0.2, 0.1])
    assert expected_fall(level_K[:, None] + difficulty_F) == pytest.approx(0)


def test_the_best_of_many_equals_falls_by_its_luck():
    scores_KF = np.random.default_rng(0).normal(0.5, 0.05, (40, 5))
    # The largest of 40 means of four: about 2.16 standard deviations of 0.025.
    assert expected_fall(scores_KF) == pytest.approx(2.16 * 0.025, abs=0.02)


def test_one_fold_cannot_tell():
    with pytest.raises(ValueError, match="two folds at least, not 1"):
        expected_fall(np.ones((3, 1)))


def test_the_interval_over_folds_is_students_widened_for_shared_training_images():
    first_F, second_F = np.array([0.5, 0.7, 0.6, 0.8]), np.array([0.4, 0.5, 0.6, 0.6])
    mean, low, high = paired_interval(first_F, second_F)
    plain = ttest_1samp(first_F - second_F, 0).confidence_interval()
    wider = np.sqrt((1 / 4 + 1 / 3) / (1 / 4))
    assert mean == pytest.approx(0.125)
    assert high - mean == pytest.approx((plain.high - mean) * wider)
    assert mean - low == pytest.approx(high - mean)
