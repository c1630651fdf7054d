"""Intervals, paired tests and Holm's correction against scikit-learn, scipy, DeLong and hand-worked cases."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from analysis import statistics as st


def ones(rows: int) -> np.ndarray:
    return np.ones((rows, 1))


def drawn(seed: int, images: int = 80, labels: int = 3, patients: int = 50, masked: float = 0.1):
    """Targets with masked cells, rounded scores (so that ties occur) and patient codes from 0."""
    rng = np.random.default_rng(seed)
    targets_NC = (rng.random((images, labels)) < 0.3).astype(float)
    scores_NC = np.round(rng.normal(size=(images, labels)) + targets_NC, 1)
    targets_NC[rng.random((images, labels)) < masked] = np.nan
    patients_N = np.concatenate([np.arange(patients), rng.integers(0, patients, images - patients)])
    return targets_NC, scores_NC, patients_N


# ---- metrics as functions of weights ----


@pytest.mark.parametrize("seed", range(5))
def test_unit_weights_give_scikit_learns_auroc_and_average_precision_on_ties_and_masks(seed):
    targets_NC, scores_NC, patients_N = drawn(seed)
    for c in range(3):
        known = ~np.isnan(targets_NC[:, c])
        auroc_B, ap_B = st.weighted_ranking(targets_NC[:, c], scores_NC[:, c], patients_N, ones(50))
        assert auroc_B[0] == pytest.approx(sk.roc_auc_score(targets_NC[known, c], scores_NC[known, c]))
        assert ap_B[0] == pytest.approx(sk.average_precision_score(targets_NC[known, c], scores_NC[known, c]))


def test_ranking_worked_by_hand():
    # Descending: 0.9 (1), 0.8 (0), 0.8 (1), 0.1 (0). Pairs won: 0.9 beats both (2), 0.8 ties one and beats
    # one (1.5): 3.5 of 4. Precision at 0.9 is 1/1, at 0.8 the tie comes in, 2/3.
    targets_N, scores_N = np.array([1, 0, 1, 0.0]), np.array([0.9, 0.8, 0.8, 0.1])
    auroc_B, ap_B = st.weighted_ranking(targets_N, scores_N, np.arange(4), ones(4))
    assert auroc_B[0] == pytest.approx(3.5 / 4)
    assert ap_B[0] == pytest.approx((1 + 2 / 3) / 2)


def test_weights_count_as_copies_of_a_patients_images_at_the_samples_own_prevalence():
    targets_NC, scores_NC, patients_N = drawn(7, masked=0)
    copies_R = np.random.default_rng(0).integers(1, 4, 50)
    auroc_B, ap_B = st.weighted_ranking(
        targets_NC[:, 0], scores_NC[:, 0], patients_N, copies_R[:, None].astype(float)
    )
    weight_N = copies_R[patients_N].astype(float)
    for value in (0, 1):  # keep the total weight of either class at its number of images
        side = targets_NC[:, 0] == value
        weight_N[side] *= side.sum() / weight_N[side].sum()
    assert auroc_B[0] == pytest.approx(
        sk.roc_auc_score(targets_NC[:, 0], scores_NC[:, 0], sample_weight=weight_N)
    )
    expected = sk.average_precision_score(targets_NC[:, 0], scores_NC[:, 0], sample_weight=weight_N)
    assert ap_B[0] == pytest.approx(expected)


def test_a_constant_score_keeps_auroc_one_half_and_the_prevalence_in_every_resample():
    targets_NC, _, patients_N = drawn(3, masked=0)
    weights_RB = st.patient_weights(50, 200, seed=1)
    auroc_B, ap_B = st.weighted_ranking(targets_NC[:, 0], np.zeros(80), patients_N, weights_RB)
    np.testing.assert_allclose(auroc_B, 0.5, atol=1e-5)
    np.testing.assert_allclose(ap_B, targets_NC[:, 0].mean(), atol=1e-5)


def test_resamples_do_not_depend_on_how_they_are_cut_into_chunks(monkeypatch):
    targets_NC, scores_NC, patients_N = drawn(4)
    weights_RB = st.patient_weights(50, 100, seed=1)
    whole = st.weighted_ranking(targets_NC[:, 0], scores_NC[:, 0], patients_N, weights_RB)
    monkeypatch.setattr(st, "_CHUNK", 17)
    for a, b in zip(
        whole, st.weighted_ranking(targets_NC[:, 0], scores_NC[:, 0], patients_N, weights_RB), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_a_label_without_positives_or_without_negatives_is_nan():
    for value in (0.0, 1.0):
        targets_N = np.array([value, value, np.nan])
        auroc_B, ap_B = st.weighted_ranking(targets_N, np.arange(3.0), np.arange(3), ones(3))
        assert np.isnan(auroc_B).all() and np.isnan(ap_B).all()


@pytest.mark.parametrize("seed", range(3))
def test_decision_metrics_equal_scikit_learns(seed):
    targets_NC, scores_NC, patients_N = drawn(seed)
    decisions_NC = scores_NC > 0.4
    ours = st.decision_metrics(*st.weighted_confusion(targets_NC, decisions_NC, patients_N, ones(50)))
    for c in range(3):
        known = ~np.isnan(targets_NC[:, c])
        y, d = targets_NC[known, c], decisions_NC[known, c]
        assert ours["f1"][c, 0] == pytest.approx(sk.f1_score(y, d))
        assert ours["precision"][c, 0] == pytest.approx(sk.precision_score(y, d))
        assert ours["recall"][c, 0] == pytest.approx(sk.recall_score(y, d))
        assert ours["mcc"][c, 0] == pytest.approx(sk.matthews_corrcoef(y, d))


def test_decision_metrics_worked_by_hand():
    # tp 2, fp 1, fn 1, tn 4: F1 4/6, precision and recall 2/3, MCC (8 - 1) / sqrt(3 * 3 * 5 * 5).
    result = st.decision_metrics(*(np.array([x]) for x in (2.0, 1.0, 1.0, 4.0)))
    assert result["f1"][0] == pytest.approx(2 / 3)
    assert result["precision"][0] == result["recall"][0] == pytest.approx(2 / 3)
    assert result["mcc"][0] == pytest.approx(7 / 15)


def test_deciding_for_nothing_scores_zero_and_having_nothing_to_find_is_nan():
    nothing_decided = st.decision_metrics(*(np.array([x]) for x in (0.0, 0.0, 3.0, 5.0)))
    assert {name: value[0] for name, value in nothing_decided.items()} == dict.fromkeys(
        st.DECISION_METRICS, 0
    )
    nothing_there = st.decision_metrics(*(np.array([x]) for x in (0.0, 2.0, 0.0, 5.0)))
    assert all(np.isnan(value[0]) for value in nothing_there.values())


def test_the_brier_score_equals_scikit_learns():
    targets_NC, scores_NC, patients_N = drawn(5)
    probs_NC = 1 / (1 + np.exp(-scores_NC))
    brier_CB = st.weighted_brier(targets_NC, probs_NC, patients_N, ones(50))
    for c in range(3):
        known = ~np.isnan(targets_NC[:, c])
        y, p = targets_NC[known, c], probs_NC[known, c]
        assert brier_CB[c, 0] == pytest.approx(sk.brier_score_loss(y, p))


def test_the_brier_score_of_a_constant_is_the_same_in_every_resample():
    targets_NC, _, patients_N = drawn(5)
    brier_CB = st.weighted_brier(targets_NC, np.full((80, 3), 0.2), patients_N, st.patient_weights(50, 50, 0))
    np.testing.assert_allclose(brier_CB, np.repeat(brier_CB[:, :1], 50, axis=1), rtol=1e-5)


def test_weighted_mean_leaves_out_what_is_nan():
    values_NM = np.array([[1.0], [np.nan], [4.0]])
    weights_RB = np.array([[1.0], [5.0], [2.0]])
    assert st.weighted_mean(values_NM, np.arange(3), weights_RB)[0, 0] == pytest.approx(9 / 3)


# ---- intervals ----


def delong_error(targets_N: np.ndarray, scores_N: np.ndarray) -> float:
    """Standard error of the AUROC of independent images, from placements (DeLong et al. 1988)."""
    positive, negative = scores_N[targets_N == 1], scores_N[targets_N == 0]
    kernel = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    return np.sqrt(kernel.mean(1).var(ddof=1) / len(positive) + kernel.mean(0).var(ddof=1) / len(negative))


def test_the_standard_error_of_auroc_is_delongs():
    rng = np.random.default_rng(1)
    targets_N = (np.arange(300) < 30).astype(float)
    scores_N = rng.normal(size=300) + 1.2 * targets_N
    auroc_B, _ = st.weighted_ranking(
        targets_N, scores_N, np.arange(300), st.patient_weights(300, 10_000, seed=2)
    )
    assert st.spread(auroc_B, 30) == pytest.approx(delong_error(targets_N, scores_N), rel=0.03)


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
    _, ap_B = st.weighted_ranking(
        targets_N, scores_N, np.arange(360), st.patient_weights(360, 10_000, seed=2)
    )
    assert st.spread(ap_B, 60) == pytest.approx(reference, rel=0.08)


def test_more_images_of_the_same_patients_add_no_certainty():
    targets_NC, scores_NC, patients_N = drawn(6, masked=0)
    weights_RB = st.patient_weights(50, 500, seed=0)
    once, _ = st.weighted_ranking(targets_NC[:, 0], scores_NC[:, 0], patients_N, weights_RB)
    thrice, _ = st.weighted_ranking(
        np.repeat(targets_NC[:, 0], 3), np.repeat(scores_NC[:, 0], 3), np.repeat(patients_N, 3), weights_RB
    )
    np.testing.assert_allclose(once, thrice, rtol=1e-4)


def test_interval_worked_by_hand():
    # logit 0.8 = ln 4; 0.1 / (0.8 * 0.2) = 0.625; t(9, 97.5 %) = 2.262157: ln 4 -+ 1.413848.
    low, high = st.interval(0.8, 0.1, freedom=9, patients=10)
    assert low == pytest.approx(1 / (1 + np.exp(-np.log(4) + 1.413848)), abs=1e-6)
    assert high == pytest.approx(1 / (1 + np.exp(-np.log(4) - 1.413848)), abs=1e-6)


def test_an_interval_on_another_range_is_the_same_interval_stretched():
    low, high = st.interval(0.8, 0.1, freedom=9, patients=10)
    assert st.interval(0.6, 0.2, 9, 10, bounds=(-1, 1)) == pytest.approx((2 * low - 1, 2 * high - 1))


def test_an_unbounded_metric_gets_a_symmetric_interval():
    low, high = st.interval(-0.2, 0.1, freedom=9, patients=10, bounds=None)
    assert (low, high) == pytest.approx((-0.2 - 0.2262157, -0.2 + 0.2262157))


def test_a_perfect_score_gets_the_jeffreys_interval_and_not_a_point():
    assert st.interval(1.0, 0.0, 9, 10) == pytest.approx((stats.beta.ppf(0.025, 10.5, 0.5), 1.0))
    assert st.interval(0.0, 0.0, 9, 10) == pytest.approx((0.0, stats.beta.ppf(0.975, 0.5, 10.5)))


def test_below_ten_positive_patients_there_is_no_interval():
    replicates_B = np.random.default_rng(0).normal(0.7, 0.05, 100)
    assert np.isnan(st.label_interval(0.7, replicates_B, 9)).all()
    assert np.isfinite(st.label_interval(0.7, replicates_B, 10)).all()


def test_the_average_of_one_label_has_that_labels_interval():
    replicates_CB = np.random.default_rng(0).normal(0.7, 0.05, (1, 5000))
    average = st.average_interval(np.array([0.7]), replicates_CB, np.array([12]))
    assert average == pytest.approx(st.label_interval(0.7, replicates_CB[0], 12), rel=1e-9)


def test_independent_labels_of_equal_spread_add_up_their_degrees_of_freedom():
    replicates_CB = np.random.default_rng(0).normal(0.7, 0.05, (4, 200_000))
    low, high = st.average_interval(np.full(4, 0.7), replicates_CB, np.full(4, 5))
    error = 0.05 / 2 * np.sqrt(6 / 4)
    assert (low, high) == pytest.approx(st.interval(0.7, error, freedom=16, patients=20), abs=1e-3)


def test_an_average_with_a_label_of_one_positive_patient_has_no_interval():
    replicates_CB = np.random.default_rng(0).normal(0.7, 0.05, (2, 100))
    assert np.isnan(st.average_interval(np.full(2, 0.7), replicates_CB, np.array([40, 1]))).all()


def covered(positives: int, repeats: int, resamples: int, seed: int) -> dict[str, float]:
    """Share of repeats whose intervals hold the true AUROC (Phi(1 / sqrt 2)) and the true recall (0.5)."""
    rng = np.random.default_rng(seed)
    targets_N = (np.arange(positives + 200) < positives).astype(float)
    rows_N = np.arange(len(targets_N))
    hits = {"auroc": 0, "recall": 0}
    for repeat in range(repeats):
        scores_N = rng.normal(size=len(targets_N)) + targets_N
        weights_RB = np.concatenate(
            [np.ones((len(rows_N), 1)), st.patient_weights(len(rows_N), resamples, repeat)], 1
        )
        auroc_B, _ = st.weighted_ranking(targets_N, scores_N, rows_N, weights_RB)
        recall_B = st.decision_metrics(
            *st.weighted_confusion(targets_N[:, None], scores_N[:, None] >= 1, rows_N, weights_RB)
        )["recall"][0]
        for name, values_B, truth in (
            ("auroc", auroc_B, stats.norm.cdf(1 / np.sqrt(2))),
            ("recall", recall_B, 0.5),
        ):
            low, high = st.label_interval(values_B[0], values_B[1:], positives)
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


# ---- paired tests ----


def test_p_values_agree_with_scipys_exact_enumeration():
    rng = np.random.default_rng(5)
    targets_N = np.array([1, 1, 1, 0, 0, 0, 0.0])
    first_N, second_N = rng.normal(size=7) + 2 * targets_N, rng.normal(size=7)
    ranked = [st.midranks(x[:, None], targets_N[:, None])[:, 0] for x in (first_N, second_N)]
    exact = {
        name: stats.permutation_test(
            ranked,
            lambda a, b, f=f: f(targets_N, a) - f(targets_N, b),
            permutation_type="samples",
            vectorized=False,
        ).pvalue
        for name, f in (("auroc", sk.roc_auc_score), ("average_precision", sk.average_precision_score))
    }
    ours = st.paired_permutation(
        targets_N[:, None], first_N[:, None], second_N[:, None], np.arange(7), draws=20_000, seed=0
    )
    for name, (observed_C, null_CB) in ours.items():
        assert st.permutation_p(observed_C[0], null_CB[0]) == pytest.approx(exact[name], abs=0.01)


def test_the_observed_difference_is_the_difference_of_the_two_models_scores():
    targets_NC, scores_NC, patients_N = drawn(8)
    other_NC = scores_NC[::-1].copy()
    result = st.paired_permutation(targets_NC, scores_NC, 100 * other_NC - 7, patients_N, draws=10)
    for c in range(3):
        known = ~np.isnan(targets_NC[:, c])
        y = targets_NC[known, c]
        difference = sk.roc_auc_score(y, scores_NC[known, c]) - sk.roc_auc_score(y, other_NC[known, c])
        assert result["auroc"][0][c] == pytest.approx(difference)


def test_swapped_decisions_worked_by_hand():
    # Two positive patients; the first model finds both, the second none. Recall's difference is 1 unswapped,
    # -1 with both swapped and 0 with one swapped: a quarter, a quarter and half of the draws.
    targets_NC = np.array([[1.0], [1.0], [0.0]])
    first_NC, second_NC = np.array([[True], [True], [False]]), np.zeros((3, 1), dtype=bool)
    result = st.paired_permutation(
        targets_NC, first_NC, second_NC, np.arange(3), draws=4000, kind="decisions"
    )
    observed_C, null_CB = result["recall"]
    assert observed_C[0] == 1
    values, counts = np.unique(null_CB[0], return_counts=True)
    np.testing.assert_array_equal(values, [-1, 0, 1])
    np.testing.assert_allclose(counts / 4000, [0.25, 0.5, 0.25], atol=0.03)


def test_all_images_of_a_patient_are_swapped_together():
    targets_NC = np.array([[1.0], [1.0], [0.0]])
    first_NC, second_NC = np.array([[True], [True], [False]]), np.zeros((3, 1), dtype=bool)
    result = st.paired_permutation(
        targets_NC, first_NC, second_NC, np.array([0, 0, 1]), draws=500, kind="decisions"
    )
    assert set(np.unique(result["recall"][1])) == {-1, 1}


def test_a_model_does_not_differ_from_itself():
    targets_NC, scores_NC, patients_N = drawn(9)
    observed_C, null_CB = st.paired_permutation(targets_NC, scores_NC, scores_NC, patients_N, draws=200)[
        "auroc"
    ]
    assert [st.permutation_p(o, n) for o, n in zip(observed_C, null_CB, strict=True)] == [1.0] * 3


def test_two_equally_good_models_are_rarely_told_apart():
    rng = np.random.default_rng(0)
    targets_NC = (np.arange(120) < 20).astype(float)[:, None]
    rejected = 0
    for repeat in range(300):
        shared_NC = rng.normal(size=(120, 1)) + targets_NC
        first_NC, second_NC = (shared_NC + rng.normal(size=(120, 1)) for _ in range(2))
        observed_C, null_CB = st.paired_permutation(
            targets_NC, first_NC, second_NC, np.arange(120), draws=199, seed=repeat
        )["auroc"]
        rejected += st.permutation_p(observed_C[0], null_CB[0]) <= 0.05
    assert rejected <= 27  # 300 x 5 % = 15, and 27 is the 99.8th percentile of that


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="kind must be 'scores' or 'decisions', not 'logits'"):
        st.paired_permutation(np.ones((2, 1)), np.ones((2, 1)), np.ones((2, 1)), np.arange(2), kind="logits")


def test_the_smallest_p_value_is_one_over_draws_plus_one():
    assert st.permutation_p(5.0, np.zeros(9999)) == pytest.approx(1e-4)
    assert np.isnan(st.permutation_p(np.nan, np.zeros(9)))


# ---- Holm ----


def test_holm_worked_by_hand():
    # Sorted .005 .01 .03 .04 times 4 3 2 1: .02 .03 .06 .04, made monotone: .02 .03 .06 .06.
    np.testing.assert_allclose(st.holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])


def test_holm_leaves_out_what_could_not_be_tested_and_never_exceeds_one():
    np.testing.assert_allclose(st.holm([0.9, np.nan, 0.6]), [1.0, np.nan, 1.0])
    assert st.holm([]).shape == (0,)


def test_holm_of_one_test_changes_nothing():
    np.testing.assert_allclose(st.holm([0.03]), [0.03])
