"""Newcombe's interval of an AUROC: by hand, by its own equation, and its coverage close to 1."""

import numpy as np
import pytest
from scipy import optimize, stats

from scoring.auroc_interval import auroc_limits, newcombe_variance

Z = stats.norm.ppf(0.975)


def test_the_variance_by_hand():
    # 0.9 * 0.1 / (4 * 6) * (1 + 4 * 0.1 / 1.1 + 4 * 0.9 / 1.9)
    assert newcombe_variance(0.9, 4, 6) == pytest.approx(0.00375 * (1 + 0.4 / 1.1 + 3.6 / 1.9))


def test_with_as_many_on_both_sides_it_is_hanley_and_mcneils():
    value, n = 0.8, 15
    q1, q2 = value / (2 - value), 2 * value**2 / (1 + value)
    expected = (value * (1 - value) + (n - 1) * (q1 + q2 - 2 * value**2)) / n**2
    assert newcombe_variance(value, n, n) == pytest.approx(expected)


@pytest.mark.parametrize("value", [0.5, 0.9, 0.99])
def test_limits_lie_as_many_errors_off_as_their_own_error_says(value):
    # The bootstrap's error is Newcombe's here, so that the reach is Student's quantile.
    student = 2.2
    error = np.sqrt(newcombe_variance(value, 12, 40))
    for limit in auroc_limits(value, error, 12, 40, student):
        assert abs(limit - value) == pytest.approx(
            student * np.sqrt(newcombe_variance(limit, 12, 40)), rel=1e-6
        )


def test_a_perfect_ranking_has_newcombes_lower_limit_and_not_a_point():
    # 1 - x = z^2 x (1 + 9 (1 - x) / (2 - x) + 9 x / (1 + x)) / 100
    def equation(x):
        return 1 - x - Z**2 * x * (1 + 9 * (1 - x) / (2 - x) + 9 * x / (1 + x)) / 100

    low, high = auroc_limits(1.0, 0.0, 10, 10, 2.26)
    assert high == 1 and low == pytest.approx(optimize.brentq(equation, 0.5, 1), abs=1e-6)
    assert auroc_limits(0.0, 0.0, 10, 10, 2.26) == pytest.approx((0, 1 - low), abs=1e-6)


def test_one_negative_patient_leaves_nearly_everything_open():
    low, high = auroc_limits(1.0, 0.0, 12, 1, 12.7)
    assert low < 0.5 and high == 1


@pytest.mark.parametrize(("positives", "negatives", "shift"), [(10, 200, 3.3), (20, 40, 3.3), (12, 12, 4.0)])
def test_an_almost_perfect_auroc_is_covered(positives, negatives, shift):
    rng, truth = np.random.default_rng(0), stats.norm.cdf(shift / np.sqrt(2))
    held = []
    for _ in range(400):
        above = rng.normal(shift, 1, positives)[:, None] > rng.normal(size=negatives)
        error = np.sqrt(above.mean(1).var(ddof=1) / positives + above.mean(0).var(ddof=1) / negatives)
        student = stats.t.ppf(0.975, min(positives, negatives) - 1)
        low, high = auroc_limits(above.mean(), error, positives, negatives, student)
        held.append(low <= truth <= high)
    assert np.mean(held) >= 0.93
