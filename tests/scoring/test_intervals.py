"""Intervals against DeLong's and scipy's standard errors, cases worked by hand, and their own coverage."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from scoring.effective_patients import effective_number
from scoring.intervals import (
    average_interval,
    correlations,
    exact_interval,
    interval,
    label_interval,
    mean_limits,
    spread,
)
from scoring.resampling import patient_weights, weighted_ranking


def delong_error(targets_N: np.ndarray, scores_N: np.ndarray) -> float:
    """Standard error of the AUROC of independent images, from placements (DeLong et al. 1988)."""
    positive, negative = scores_N[targets_N == 1], scores_N[targets_N == 0]
    kernel = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    return np.sqrt(kernel.mean(1).var(ddof=1) / len(positive) + kernel.mean(0).var(ddof=1) / len(negative))


def test_the_standard_error_of_auroc_is_delongs():
    rng = np.random.default_rng(1)
    targets_N = (np.arange(300) < 30).astype(float)
    scores_N = rng.normal(size=300) + 1.2 * targets_N
    auroc_B, _ = weighted_ranking(targets_N, scores_N, np.arange(300), patient_weights(300, 10_000, seed=2))
    assert spread(auroc_B, 30) == pytest.approx(delong_error(targets_N, scores_N), rel=0.03)


def test_the_standard_error_of_average_precision_is_that_of_scipys_bootstrap():
    rng = np.random.default_rng(3)
    targets_N = np.repeat([1.0, 0.0], [60, 300])
    scores_N = np.concatenate([rng.normal(1.2, 1, 60), rng.normal(0, 1, 300)])
    reference = stats.bootstrap(
        (targets_N, scores_N),
        sk.average_precision_score,
        paired=True,  # images are drawn, so that the number of positives varies
        n_resamples=500,
        vectorized=False,
        method="percentile",
        rng=0,
    ).standard_error
    _, ap_B = weighted_ranking(targets_N, scores_N, np.arange(360), patient_weights(360, 10_000, seed=2))
    assert spread(ap_B, 60) == pytest.approx(reference, rel=0.1)


def test_interval_worked_by_hand():
    # logit 0.8 = ln 4; 0.1 / (0.8 * 0.2) = 0.625; t(9, 97.5 %) = 2.262157: ln 4 -+ 1.413848.
    low, high = interval(0.8, 0.1, freedom=9, patients=10)
    assert low == pytest.approx(1 / (1 + np.exp(-np.log(4) + 1.413848)), abs=1e-6)
    assert high == pytest.approx(1 / (1 + np.exp(-np.log(4) - 1.413848)), abs=1e-6)


def test_an_interval_on_another_range_is_the_same_interval_stretched():
    low, high = interval(0.8, 0.1, freedom=9, patients=10)
    assert interval(0.6, 0.2, 9, 10, bounds=(-1, 1)) == pytest.approx((2 * low - 1, 2 * high - 1))


def test_an_unbounded_metric_gets_a_symmetric_interval():
    low, high = interval(-0.2, 0.1, freedom=9, patients=10, bounds=None)
    assert (low, high) == pytest.approx((-0.2 - 0.2262157, -0.2 + 0.2262157))


def test_with_an_upper_bound_alone_the_interval_is_symmetric_in_the_logarithm_of_the_distance():
    """By hand: at 0.8 a distance of 0.2, and a reach of 2.262157 x 0.1 = 1.131079 times that."""
    low, high = interval(0.8, 0.1, freedom=9, patients=10, bounds=(-np.inf, 1.0))
    assert (1 - low, 1 - high) == pytest.approx((0.2 * np.exp(1.131079), 0.2 / np.exp(1.131079)), rel=1e-6)
    assert np.isnan(interval(1.0, 0.0, freedom=9, patients=10, bounds=(-np.inf, 1.0))).all()


def test_a_perfect_score_gets_the_jeffreys_interval_and_not_a_point():
    assert interval(1.0, 0.0, 9, 10) == pytest.approx((stats.beta.ppf(0.025, 10.5, 0.5), 1.0))
    assert interval(0.0, 0.0, 9, 10) == pytest.approx((0.0, stats.beta.ppf(0.975, 0.5, 10.5)))


def test_below_ten_patients_there_is_no_interval():
    replicates_B = np.random.default_rng(0).normal(0.7, 0.05, 100)
    assert np.isnan(label_interval(0.7, replicates_B, 9)).all()
    assert np.isfinite(label_interval(0.7, replicates_B, 10)).all()


def test_the_average_of_one_label_has_that_labels_interval():
    replicates_CB = np.random.default_rng(0).normal(0.7, 0.05, (1, 5000))
    average = average_interval(np.array([0.7]), replicates_CB, np.array([12]), 12)
    assert average == pytest.approx(label_interval(0.7, replicates_CB[0], 12), rel=1e-9)


def test_independent_labels_of_equal_spread_add_up_their_degrees_of_freedom():
    replicates_CB = np.random.default_rng(0).normal(0.7, 0.05, (4, 200_000))
    low, high = average_interval(np.full(4, 0.7), replicates_CB, np.full(4, 5), 20)
    error = 0.05 / 2 * np.sqrt(6 / 4)
    assert (low, high) == pytest.approx(interval(0.7, error, freedom=16, patients=20), abs=1e-3)


def test_an_average_with_a_label_of_one_positive_patient_has_no_interval():
    replicates_CB = np.random.default_rng(0).normal(0.7, 0.05, (2, 100))
    assert np.isnan(average_interval(np.full(2, 0.7), replicates_CB, np.array([40, 1]), 41)).all()


def test_the_average_of_complementary_labels_rests_on_the_patients_of_one():
    one_B = np.random.default_rng(0).normal(0.7, 0.05, 5000)
    both = np.full(2, 0.7), np.stack([one_B, one_B])
    assert average_interval(*both, np.full(2, 12), 12) == pytest.approx(label_interval(0.7, one_B, 12))
    assert np.isnan(average_interval(*both, np.full(2, 9), 9)).all()


def test_the_mean_of_independent_limits_adds_their_squares():
    values_C, low_C, high_C = np.array([0.2, 0.6]), np.array([0.17, 0.56]), np.array([0.26, 0.68])
    ends = mean_limits(values_C, low_C, high_C, np.eye(2))
    assert ends == pytest.approx((0.4 - 0.05 / 2, 0.4 + 0.1 / 2))
    # Of what moves together the distances themselves add up.
    assert mean_limits(values_C, low_C, high_C, np.ones((2, 2))) == pytest.approx((0.4 - 0.035, 0.4 + 0.07))


def test_correlations_are_numpys_and_none_with_what_does_not_vary():
    replicates_CB = np.random.default_rng(0).normal(size=(2, 50))
    found_CC = correlations(np.vstack([replicates_CB, np.full(50, 0.7)]))
    np.testing.assert_allclose(found_CC[:2, :2], np.corrcoef(replicates_CB))
    np.testing.assert_array_equal(found_CC[2], [0, 0, 1])


def test_the_exact_interval_is_scipys_of_a_binomial():
    for hits, patients in ((0, 4), (1, 3), (7, 7), (12, 40)):
        found = exact_interval(hits / patients, patients)
        expected = stats.binomtest(hits, patients).proportion_ci(0.95, method="exact")
        assert found == pytest.approx((expected.low, expected.high))


def test_the_exact_interval_covers_where_few_patients_have_most_images():
    """40 patients, heavy tails, every image of a patient alike: nominal 95 %, and 75 % as if all patients
    counted alike."""
    rng, held = np.random.default_rng(0), []
    for _ in range(500):
        images_P = np.minimum(np.ceil(rng.pareto(1.2, 40)), 80)
        hits_P = images_P * (rng.random(40) < 0.7)
        value = hits_P.sum() / images_P.sum()
        ends = [exact_interval(value, number) for number in (effective_number(images_P), 40)]
        held.append([low <= 0.7 <= high for low, high in ends])
    in_use, of_patients = np.mean(held, axis=0)
    assert in_use >= 0.93 and of_patients < 0.85


def test_without_a_value_or_an_entry_there_is_no_exact_interval():
    assert np.isnan(exact_interval(np.nan, 4)).all() and np.isnan(exact_interval(0.5, 0)).all()
