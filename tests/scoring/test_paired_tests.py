"""Paired permutation tests and Holm's correction against scipy, scikit-learn and cases worked by hand."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from scoring.paired_tests import (
    MOST_DRAWS,
    chance_permutation,
    draws_for,
    holm,
    midranks,
    paired_permutation,
    paired_permutation_f1,
    permutation_p,
    sign_flips,
    smallest_adjusted_p,
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


@pytest.mark.parametrize("family", [1, 91, 504, 4999])
def test_draws_are_raised_until_a_claim_is_possible(family):
    draws = draws_for(family, 1000)
    assert draws >= 1000 and smallest_adjusted_p(family, draws) < 0.05
    best = holm([permutation_p(1.0, np.zeros(draws)), *np.ones(family - 1)])[0]
    assert best == pytest.approx(smallest_adjusted_p(family, draws))


def test_draws_are_not_raised_without_need_nor_without_bound():
    assert smallest_adjusted_p(91, 1000) > 0.05
    assert draws_for(7, 10_000) == 10_000
    assert draws_for(50_000, 1000) == MOST_DRAWS and smallest_adjusted_p(50_000, MOST_DRAWS) > 0.05
    assert draws_for(1, 2 * MOST_DRAWS) == 2 * MOST_DRAWS


def test_a_number_of_draws_beyond_what_lies_in_memory_is_drawn_in_parts():
    targets_NC, scores_NC, patients_N = drawn(8)
    null_CB = paired_permutation(targets_NC, scores_NC, scores_NC[::-1], patients_N, draws=5000)["auroc"][1]
    assert null_CB.shape == (3, 5000)
    assert len(np.unique(null_CB[0][:4096])) > 1 and len(np.unique(null_CB[0][4096:])) > 1
    # Both models are as good under the null, part by part.
    assert abs(null_CB[:, 4096:].mean(axis=1)).max() < 0.02


def test_chance_agrees_with_scipys_exact_enumeration_of_reversals():
    rng = np.random.default_rng(5)
    targets_N = np.array([1, 1, 1, 0, 0, 0, 0.0])
    ranked_N = stats.rankdata(rng.normal(size=7) + targets_N)
    for name, f, nothing in (
        ("auroc", sk.roc_auc_score, 0.5),
        ("average_precision", sk.average_precision_score, 3 / 7),
    ):
        exact = stats.permutation_test(
            (ranked_N, 8 - ranked_N),
            lambda a, _, f=f, nothing=nothing: abs(f(targets_N, a) - nothing),
            permutation_type="samples",
            vectorized=False,
            alternative="greater",
        )
        observed_C, null_CB = chance_permutation(
            targets_N[:, None], ranked_N[:, None], np.arange(7), draws=20_000
        )[name]
        assert abs(observed_C[0]) == pytest.approx(exact.statistic)
        assert permutation_p(observed_C[0], null_CB[0]) == pytest.approx(exact.pvalue, abs=0.01)


def test_what_is_tested_against_chance_is_what_is_shown():
    """Rankings that point the other way: the difference from chance is small or negative, never significant
    to the good, by AUROC and by average precision alike."""
    targets_NC = (np.arange(200) < 20).astype(float)[:, None]
    rng = np.random.default_rng(0)
    for _ in range(20):
        scores_NC = rng.normal(size=(200, 1)) - 0.65 * targets_NC
        found = chance_permutation(targets_NC, scores_NC, np.arange(200), draws=500)
        for observed_C, null_CB in found.values():
            assert not (observed_C[0] > 0 and permutation_p(observed_C[0], null_CB[0]) < 0.05)
    assert found["auroc"][0][0] == pytest.approx(sk.roc_auc_score(targets_NC[:, 0], scores_NC[:, 0]) - 0.5)


def test_complementary_labels_get_the_same_p():
    targets_N = (np.arange(48) < 39).astype(float)
    scores_N = np.random.default_rng(2).normal(size=48) + targets_N
    both = np.stack([targets_N, 1 - targets_N], axis=1), np.stack([scores_N, -scores_N], axis=1)
    observed_C, null_CB = chance_permutation(*both, np.arange(48), draws=500)["auroc"]
    assert observed_C[0] == pytest.approx(observed_C[1])
    assert permutation_p(observed_C[0], null_CB[0]) == permutation_p(observed_C[1], null_CB[1])


def test_scores_without_information_are_rarely_above_chance():
    """Patients of one to three images with a shared effect, 10 of them positive."""
    rng, rejected = np.random.default_rng(0), 0
    for repeat in range(300):
        patients_N = np.repeat(np.arange(80), rng.choice([1, 2, 3], p=[0.7, 0.2, 0.1], size=80))
        scores_NC = (rng.normal(size=80)[patients_N] + rng.normal(size=len(patients_N)))[:, None]
        targets_NC = (patients_N < 10).astype(float)[:, None]
        found = chance_permutation(targets_NC, scores_NC, patients_N, draws=199, seed=repeat)
        observed_C, null_CB = found["average_precision"]
        rejected += permutation_p(observed_C[0], null_CB[0]) <= 0.05
    assert rejected <= 27  # as above


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
