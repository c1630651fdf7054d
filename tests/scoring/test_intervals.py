"""Intervals against DeLong's and scipy's standard errors, cases worked by hand, and their own coverage."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from scoring.intervals import average_interval, exact_interval, interval, label_interval, spread
from scoring.metrics import recall
from scoring.resampling import patient_weights, weighted_confusion, weighted_ranking


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
    positive, negative = rng.normal(1.2, 1, 60), rng.normal(0, 1, 300)
    targets_N, scores_N = np.repeat([1.0, 0.0], [60, 300]), np.concatenate([positive, negative])

    def average_precision(positive, negative):
        return sk.average_precision_score(targets_N, np.concatenate([positive, negative]))

    reference = stats.bootstrap(
        (positive, negative),
        average_precision,
        n_resamples=1000,
        vectorized=False,
        method="percentile",
        rng=0,
    ).standard_error
    _, ap_B = weighted_ranking(targets_N, scores_N, np.arange(360), patient_weights(360, 10_000, seed=2))
    assert spread(ap_B, 60) == pytest.approx(reference, rel=0.08)


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


def test_a_perfect_score_gets_the_jeffreys_interval_and_not_a_point():
    assert interval(1.0, 0.0, 9, 10) == pytest.approx((stats.beta.ppf(0.025, 10.5, 0.5), 1.0))
    assert interval(0.0, 0.0, 9, 10) == pytest.approx((0.0, stats.beta.ppf(0.975, 0.5, 10.5)))


def test_below_ten_positive_patients_there_is_no_interval():
    replicates_B = np.random.default_rng(0).normal(0.7, 0.05, 100)
    assert np.isnan(label_interval(0.7, replicates_B, 9)).all()
    assert np.isfinite(label_interval(0.7, replicates_B, 10)).all()


def test_the_average_of_one_label_has_that_labels_interval():
    replicates_CB = np.random.default_rng(0).normal(0.7, 0.05, (1, 5000))
    average = average_interval(np.array([0.7]), replicates_CB, np.array([12]))
    assert average == pytest.approx(label_interval(0.7, replicates_CB[0], 12), rel=1e-9)


def test_independent_labels_of_equal_spread_add_up_their_degrees_of_freedom():
    replicates_CB = np.random.default_rng(0).normal(0.7, 0.05, (4, 200_000))
    low, high = average_interval(np.full(4, 0.7), replicates_CB, np.full(4, 5))
    error = 0.05 / 2 * np.sqrt(6 / 4)
    assert (low, high) == pytest.approx(interval(0.7, error, freedom=16, patients=20), abs=1e-3)


def test_an_average_with_a_label_of_one_positive_patient_has_no_interval():
    replicates_CB = np.random.default_rng(0).normal(0.7, 0.05, (2, 100))
    assert np.isnan(average_interval(np.full(2, 0.7), replicates_CB, np.array([40, 1]))).all()


def covered(positives: int, repeats: int, resamples: int, seed: int) -> dict[str, float]:
    """Share of repeats whose intervals hold the true AUROC (Phi(1 / sqrt 2)) and the true recall (0.5)."""
    rng = np.random.default_rng(seed)
    targets_N = (np.arange(positives + 200) < positives).astype(float)
    rows_N = np.arange(len(targets_N))
    hits = {"auroc": 0, "recall": 0}
    for repeat in range(repeats):
        scores_N = rng.normal(size=len(targets_N)) + targets_N
        weights_RB = np.concatenate(
            [np.ones((len(rows_N), 1)), patient_weights(len(rows_N), resamples, repeat)], 1
        )
        auroc_B, _ = weighted_ranking(targets_N, scores_N, rows_N, weights_RB)
        recall_B = recall(weighted_confusion(targets_N[:, None], scores_N[:, None] >= 1, rows_N, weights_RB))[
            0
        ]
        for name, values_B, truth in (
            ("auroc", auroc_B, stats.norm.cdf(1 / np.sqrt(2))),
            ("recall", recall_B, 0.5),
        ):
            low, high = label_interval(values_B[0], values_B[1:], positives)
            hits[name] += low <= truth <= high
    return {name: count / repeats for name, count in hits.items()}


@pytest.mark.parametrize("positives", [10, 20])
def test_intervals_cover_the_truth_about_as_often_as_they_say(positives):
    # 400 repeats: a true coverage of 95 % shows at 92 % or more in 99 of 100 runs.
    coverage = covered(positives, repeats=400, resamples=400, seed=positives)
    assert coverage["auroc"] >= 0.91 and coverage["recall"] >= 0.91, coverage


@pytest.mark.slow
@pytest.mark.parametrize("positives", [10, 15, 20, 50])
def test_coverage_is_within_two_points_of_nominal_or_on_the_safe_side(positives):
    # Recall is a count of so many positives: no interval of 10 yes-or-no answers covers 95 % exactly.
    coverage = covered(positives, repeats=4000, resamples=1000, seed=positives)
    assert 0.93 <= coverage["auroc"] <= 0.97, coverage
    assert coverage["recall"] >= 0.93, coverage


def test_the_exact_interval_is_scipys_of_a_binomial():
    for hits, patients in ((0, 4), (1, 3), (7, 7), (12, 40)):
        found = exact_interval(hits / patients, patients)
        expected = stats.binomtest(hits, patients).proportion_ci(0.95, method="exact")
        assert found == pytest.approx((expected.low, expected.high))


def test_the_exact_interval_covers_at_any_number_of_patients():
    """Two images a patient that agree more often than not; nominal 95 %."""
    rng = np.random.default_rng(0)
    for patients, share in ((4, 0.3), (12, 0.8), (30, 0.5)):
        first, other = rng.random((2, 2000, patients)) < share
        again = np.where(rng.random((2000, patients)) < 0.5, first, other)
        both = np.concatenate([first, again], axis=1)
        ends = [exact_interval(value, patients) for value in both.mean(axis=1)]
        assert np.mean([low <= share <= high for low, high in ends]) > 0.95
    assert np.isnan(exact_interval(np.nan, 4)).all() and np.isnan(exact_interval(0.5, 0)).all()
