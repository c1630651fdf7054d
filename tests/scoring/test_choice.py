import numpy as np
import pytest
from scipy.stats import ttest_1samp

from scoring.choice import paired_interval


def test_the_interval_over_folds_is_students_widened_for_shared_training_images():
    first_F, second_F = np.array([0.5, 0.7, 0.6, 0.8]), np.array([0.4, 0.5, 0.6, 0.6])
    mean, low, high = paired_interval(first_F, second_F)
    plain = ttest_1samp(first_F - second_F, 0).confidence_interval()
    wider = np.sqrt((1 / 4 + 1 / 3) / (1 / 4))
    assert mean == pytest.approx(0.125)
    assert high - mean == pytest.approx((plain.high - mean) * wider)
    assert mean - low == pytest.approx(high - mean)
