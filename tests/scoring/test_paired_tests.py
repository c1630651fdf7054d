"""Paired permutation tests and Holm's correction against scipy, scikit-learn and cases worked by hand."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from scoring.paired_tests import (
    holm,
    midranks,
    paired_permutation,
    paired_permutation_f1,
    permutation_p,
    sign_flips,
)
from tests.scoring.drawn import drawn


def test_p_values_agree_with_scipys_exact_enumeration():
    rng = np.random.default_rng(5)
    targets_N = np.array([1, 1, 1, 0, 0, 0, 0.0])
    first_N, second_N = rng.normal(size=7) + 2 * targets_N, rng.normal(size=7)
    ranked = [midranks(x[:, None], targets_N[:, None])[:, 0] for x in (first_N, second_N)]
    exact = {
        name: stats.permutation_test(
            ranked,
            lambda a, b, f=f: f(targets_N, a) - f(targets_N, b),
            permutation_type="samples",
            vectorized=False,
        ).pvalue
        for name, f in (("auroc", sk.roc_auc_score), ("average_precision", sk.average_precision_score))
    }
    ours = paired_permutation(
        targets_N[:, None], first_N[:, None], second_N[:, None], np.arange(7), draws=20_000, seed=0
    )
    for name, (observed_C, null_CB) in ours.items():
        assert permutation_p(observed_C[0], null_CB[0]) == pytest.approx(exact[name], abs=0.01)


def test_the_observed_difference_is_the_difference_of_the_two_models_scores():
    targets_NC, scores_NC, patients_N = drawn(8)
    other_NC = scores_NC[::-1].copy()
    result = paired_permutation(targets_NC, scores_NC, 100 * other_NC - 7, patients_N, draws=10)
    for c in range(3):
        known = ~np.isnan(targets_NC[:, c])
        y = targets_NC[known, c]
        difference = sk.roc_auc_score(y, scores_NC[known, c]) - sk.roc_auc_score(y, other_NC[known, c])
        assert result["auroc"][0][c] == pytest.approx(difference)


def test_swaps_worked_by_hand():
    # Two positive patients above and two below: the first model ranks them so, the second the other way
    # round, so the AUROC's difference is 1 unswapped and -1 with all four swapped.
    targets_NC = np.array([[1.0], [1.0], [0.0], [0.0]])
    first_NC = np.array([[4.0], [3.0], [2.0], [1.0]])
    observed_C, null_CB = paired_permutation(targets_NC, first_NC, -first_NC, np.arange(4), draws=4000)[
        "auroc"
    ]
    assert observed_C[0] == 1
    # By symmetry each of the sixteen patterns of swaps has its opposite.
    values, counts = np.unique(null_CB[0], return_counts=True)
    np.testing.assert_allclose(values, -values[::-1])
    assert values[[0, -1]].tolist() == [-1, 1]
    np.testing.assert_allclose(counts / 4000, counts[::-1] / 4000, atol=0.03)


def test_f1_agrees_with_scikit_learn_and_its_p_with_scipys_exact_enumeration():
    rng = np.random.default_rng(3)
    targets_N = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0.0])
    first_N, second_N = (rng.random(9) < 0.15 + 0.6 * targets_N), rng.random(9) < 0.5
    exact = stats.permutation_test(
        (first_N, second_N),
        lambda a, b: sk.f1_score(targets_N, a) - sk.f1_score(targets_N, b),
        permutation_type="samples",
        vectorized=False,
    )
    observed_C, null_CB = paired_permutation_f1(
        targets_N[:, None], first_N[:, None], second_N[:, None], np.arange(9), draws=20_000, seed=0
    )
    assert observed_C[0] == pytest.approx(exact.statistic)
    assert permutation_p(observed_C[0], null_CB[0]) == pytest.approx(exact.pvalue, abs=0.01)


def test_swapped_decisions_worked_by_hand():
    # One patient of two images, one positive: the first model finds it alone, F1 = 1, the second decides for
    # both images, F1 = 2 / 3. Swapped together the difference changes its sign and nothing else.
    targets_NC = np.array([[1.0], [0.0], [np.nan]])
    first_NC, second_NC = np.array([[True], [False], [True]]), np.array([[True], [True], [False]])
    observed_C, null_CB = paired_permutation_f1(
        targets_NC, first_NC, second_NC, np.array([0, 0, 1]), draws=200
    )
    assert observed_C[0] == pytest.approx(1 / 3)
    np.testing.assert_allclose(np.unique(np.round(null_CB[0], 6)), [-0.333333, 0.333333])


def test_all_images_of_a_patient_are_swapped_together():
    # Of two patients, one with both positives: the difference is whole or none, whichever are swapped.
    targets_NC = np.array([[1.0], [1.0], [0.0], [0.0]])
    first_NC = np.array([[4.0], [3.0], [2.0], [1.0]])
    result = paired_permutation(targets_NC, first_NC, -first_NC, np.array([0, 0, 1, 1]), draws=500)
    apart = paired_permutation(targets_NC, first_NC, -first_NC, np.arange(4), draws=500)
    assert len(np.unique(result["auroc"][1])) < len(np.unique(apart["auroc"][1]))
    assert set(np.unique(result["auroc"][1])) == {-1, 0, 1}


def test_a_model_does_not_differ_from_itself():
    targets_NC, scores_NC, patients_N = drawn(9)
    observed_C, null_CB = paired_permutation(targets_NC, scores_NC, scores_NC, patients_N, draws=200)["auroc"]
    assert [permutation_p(o, n) for o, n in zip(observed_C, null_CB, strict=True)] == [1.0] * 3


def test_two_equally_good_models_are_rarely_told_apart():
    rng = np.random.default_rng(0)
    targets_NC = (np.arange(120) < 20).astype(float)[:, None]
    rejected = 0
    for repeat in range(300):
        shared_NC = rng.normal(size=(120, 1)) + targets_NC
        first_NC, second_NC = (shared_NC + rng.normal(size=(120, 1)) for _ in range(2))
        observed_C, null_CB = paired_permutation(
            targets_NC, first_NC, second_NC, np.arange(120), draws=199, seed=repeat
        )["auroc"]
        rejected += permutation_p(observed_C[0], null_CB[0]) <= 0.05
    assert rejected <= 27  # 300 x 5 % = 15, and 27 is the 99.8th percentile of that


def test_the_smallest_p_value_is_one_over_draws_plus_one():
    assert permutation_p(5.0, np.zeros(9999)) == pytest.approx(1e-4)
    assert np.isnan(permutation_p(np.nan, np.zeros(9)))


def test_holm_worked_by_hand():
    # Sorted .005 .01 .03 .04 times 4 3 2 1: .02 .03 .06 .04, made monotone: .02 .03 .06 .06.
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])


def test_holm_leaves_out_what_could_not_be_tested_and_never_exceeds_one():
    np.testing.assert_allclose(holm([0.9, np.nan, 0.6]), [1.0, np.nan, 1.0])
    assert holm([]).shape == (0,)


def test_holm_of_one_test_changes_nothing():
    np.testing.assert_allclose(holm([0.03]), [0.03])


def test_swapping_patients_is_scipys_permutation_of_paired_samples():
    """One difference a patient; all 512 sign flips against ours, drawn."""
    difference = np.random.default_rng(3).normal(0.5, 1, 9)
    observed, null_B = sign_flips(difference, np.arange(9), draws=20_000, seed=0)
    exact = stats.permutation_test(
        (difference, np.zeros(9)),
        lambda a, b, axis: (a - b).sum(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    )
    assert observed == pytest.approx(exact.statistic)
    assert permutation_p(observed, null_B) == pytest.approx(exact.pvalue, abs=0.01)
    # A patient's images go together: two patients of many images have no more than four outcomes.
    _, null_B = sign_flips(np.ones(10), np.repeat([0, 1], 5), draws=200, seed=0)
    assert set(null_B.tolist()) == {-10.0, 0.0, 10.0}
