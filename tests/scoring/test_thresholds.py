"""Thresholds against exhaustive search over every cut, and cross-fitting against a loop over folds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import f1_score

from cohort.patients import patient_folds
from scoring import metrics
from scoring.label_groups import macro
from scoring.thresholds import STRATEGIES, cross_fitted, fit_thresholds, shares_global

# Few distinct values, 0 and 1 among them, so that ties and saturated probabilities are the rule.
PROBS = st.sampled_from([0.0, 1e-30, 0.01, 0.2, 0.25, 0.5, 0.75, 0.99, 1.0])


def logit(p):
    return np.log(p) - np.log1p(-p)


def f1(targets_N, decisions_N):
    counted_N = ~np.isnan(targets_N)
    tp = np.sum(decisions_N & (targets_N == 1))
    return 2 * tp / max(1, np.sum(targets_N == 1) + np.sum(decisions_N & counted_N))


def macro_f1(targets_NC, probs_NC, threshold, labels):
    return np.mean([f1(targets_NC[:, c], probs_NC[:, c] >= threshold) for c in labels])


@st.composite
def cohorts(draw, min_images=2, max_images=24, max_labels=4):
    images = draw(st.integers(min_images, max_images))
    shape = (images, draw(st.integers(1, max_labels)))
    targets_NC = draw(arrays(np.float32, shape, elements=st.sampled_from([0.0, 1.0, np.nan])))
    probs_NC = draw(arrays(np.float64, shape, elements=PROBS))
    patients_N = draw(arrays(np.int64, images, elements=st.integers(0, images)))
    return targets_NC, probs_NC, patients_N


def random_cohort(images=150, labels=7, heads=3, seed=0):
    rng = np.random.default_rng(seed)
    prevalence_C = rng.uniform(0.03, 0.4, labels)
    targets_NC = (rng.random((images, labels)) < prevalence_C).astype(np.float32)
    logits_KNC = rng.normal(size=(heads, images, labels)) + 1.5 * targets_NC + logit(prevalence_C)
    targets_NC[rng.random((images, labels)) < 0.05] = np.nan
    probs_KNC = (1 / (1 + np.exp(-logits_KNC))).round(2)
    return targets_NC, probs_KNC, rng.integers(0, images * 2 // 3, images)


def test_thresholds_worked_by_hand():
    # Label 0, by falling probability: + - + + - -. F1 after each: 2/4, 2/5, 4/6, 6/7, 6/8, 6/9: cut at four.
    # Label 1, by falling probability: - + - - - +. F1 after each: 0, 2/4, 2/5, 2/6, 2/7, 4/8: the second wins
    # the tie with the sixth.
    # Together in falling order, labels 1 0 0 1 0 1 0 ...: the macro-F1 is highest after label 0's fourth.
    targets_NC = np.array([[1, 0, 1, 1, 0, 0], [0, 1, 0, 0, 0, 1]], dtype=np.float32).T
    probs_NC = np.array([[0.9, 0.8, 0.7, 0.6, 0.2, 0.1], [0.95, 0.75, 0.65, 0.3, 0.15, 0.05]]).T
    fitted = fit_thresholds(probs_NC, targets_NC, np.arange(6), shrinkage=3.0)
    between = logit(np.array([0.6, 0.2])).mean(), logit(np.array([0.75, 0.65])).mean()
    common = logit(np.array([0.6, 0.3])).mean()
    np.testing.assert_allclose(fitted.by_strategy["fixed"], 0.5)
    np.testing.assert_allclose(logit(fitted.by_strategy["per_label"]), between)
    np.testing.assert_allclose(logit(fitted.by_strategy["global"]), common)
    # 3 and 2 positive patients: the global threshold weighs 3/6 and 3/5.
    shrunk = (between[0] + common) / 2, 0.4 * between[1] + 0.6 * common
    np.testing.assert_allclose(logit(fitted.by_strategy["shrunk"]), shrunk)
    assert not fitted.few_C.any()


@settings(max_examples=300, deadline=None)
@given(cohorts())
def test_every_optimum_equals_exhaustive_search(cohort):
    targets_NC, probs_NC, patients_N = cohort
    fitted = fit_thresholds(probs_NC, targets_NC, patients_N)
    positive_patients_C = [len(set(patients_N[positive_N])) for positive_N in targets_NC.T == 1]
    enough = [c for c, count in enumerate(positive_patients_C) if count >= 2]
    np.testing.assert_array_equal(np.flatnonzero(~fitted.few_C), enough)

    common_C = fitted.by_strategy["global"]
    assert (common_C == common_C[0]).all()
    if not enough:
        assert all((thresholds_C == 0.5).all() for thresholds_C in fitted.by_strategy.values())
        return
    cuts = np.unique(probs_NC[:, enough][~np.isnan(targets_NC[:, enough])])
    best = max(macro_f1(targets_NC, probs_NC, cut, enough) for cut in cuts)
    assert macro_f1(targets_NC, probs_NC, common_C[0], enough) == pytest.approx(best, abs=1e-11)
    for c, threshold in enumerate(fitted.by_strategy["per_label"]):
        if c not in enough:
            assert threshold == common_C[0]
            continue
        cuts = np.unique(probs_NC[~np.isnan(targets_NC[:, c]), c])
        scores = [f1(targets_NC[:, c], probs_NC[:, c] >= cut) for cut in cuts]
        assert f1(targets_NC[:, c], probs_NC[:, c] >= threshold) == max(scores)
        # The highest of the best cuts, placed in the gap below it.
        highest = np.flatnonzero(np.array(scores) == max(scores))[-1]
        assert threshold <= cuts[highest]
        assert highest == 0 or threshold > cuts[highest - 1]


@settings(max_examples=100, deadline=None)
@given(cohorts(), st.floats(0, 50))
def test_the_shrunk_threshold_lies_between_its_own_and_the_global_one(cohort, shrinkage):
    targets_NC, probs_NC, patients_N = cohort
    thresholds = fit_thresholds(probs_NC, targets_NC, patients_N, shrinkage=shrinkage).by_strategy
    ends = np.sort([thresholds["per_label"], thresholds["global"]], axis=0)
    assert (thresholds["shrunk"] >= ends[0] * (1 - 1e-9)).all()
    assert (thresholds["shrunk"] <= ends[1] * (1 + 1e-9)).all()
    if shrinkage == 0:
        np.testing.assert_array_equal(thresholds["shrunk"], thresholds["per_label"])


def test_masked_entries_change_nothing():
    targets_NC, probs_KNC, patients_N = random_cohort()
    masked_NC = np.isnan(targets_NC)
    other_KNC = np.where(masked_NC, 1 - probs_KNC, probs_KNC)
    folds_N = patient_folds(targets_NC, patients_N)
    one, other = (fit_thresholds(p, targets_NC, patients_N, shrinkage=2.0) for p in (probs_KNC, other_KNC))
    for strategy in STRATEGIES:
        np.testing.assert_array_equal(one.by_strategy[strategy], other.by_strategy[strategy])
    one, other = (cross_fitted(p, targets_NC, folds_N, patients_N) for p in (probs_KNC, other_KNC))
    for strategy in STRATEGIES:
        np.testing.assert_array_equal(one[strategy], other[strategy])


def test_a_bank_equals_its_heads_one_by_one():
    targets_NC, probs_KNC, patients_N = random_cohort(heads=11)
    folds_N = patient_folds(targets_NC, patients_N)
    shrinkage_K = np.linspace(0, 20, 11)
    bank = fit_thresholds(probs_KNC, targets_NC, patients_N, shrinkage=shrinkage_K).by_strategy
    crossed = cross_fitted(probs_KNC, targets_NC, folds_N, patients_N, shrinkage=shrinkage_K)
    for head, (probs_NC, shrinkage) in enumerate(zip(probs_KNC, shrinkage_K, strict=True)):
        alone = fit_thresholds(probs_NC, targets_NC, patients_N, shrinkage=shrinkage).by_strategy
        alone_crossed = cross_fitted(probs_NC, targets_NC, folds_N, patients_N, shrinkage=shrinkage)
        for strategy in STRATEGIES:
            np.testing.assert_array_equal(bank[strategy][head], alone[strategy])
            for counts, expected in zip(crossed[strategy], alone_crossed[strategy], strict=True):
                np.testing.assert_array_equal(counts[head], expected)


def test_cross_fitting_equals_a_loop_over_folds_with_pooled_counts():
    targets_NC, probs_KNC, patients_N = random_cohort()
    targets_NC[:, 2] = np.where(np.isnan(targets_NC[:, 2]), np.nan, 0)  # a label without positives
    targets_NC[:, 3] = 0
    targets_NC[[5, 90], 3] = 1  # a label with two positive patients: each fold's fit sees one
    patients_N[[5, 90]] = [200, 201]
    folds_N = patient_folds(targets_NC, patients_N)
    probs_NC = probs_KNC[0]
    crossed = cross_fitted(probs_NC, targets_NC, folds_N, patients_N, shrinkage=4.0)
    for strategy in STRATEGIES:
        decisions_NC = np.zeros(targets_NC.shape, dtype=bool)
        for fold in range(5):
            held_N, used_N = folds_N == fold, folds_N != fold
            fitted = fit_thresholds(probs_NC[used_N], targets_NC[used_N], patients_N[used_N], shrinkage=4.0)
            decisions_NC[held_N] = probs_NC[held_N] >= fitted.by_strategy[strategy]
        scores = []
        for c in range(targets_NC.shape[1]):
            counted_N = ~np.isnan(targets_NC[:, c])
            y_N, d_N = targets_NC[counted_N, c] == 1, decisions_NC[counted_N, c]
            assert tuple(count[c] for count in crossed[strategy]) == (
                np.sum(y_N & d_N),
                np.sum(~y_N & d_N),
                np.sum(y_N & ~d_N),
                np.sum(~y_N & ~d_N),
            )
            f1_C = metrics.f1(crossed[strategy])
            if c == 2:
                assert np.isnan(f1_C[c])
                continue
            scores.append(f1_score(y_N, d_N, zero_division=0))
            assert f1_C[c] == pytest.approx(scores[-1])
        assert macro(f1_C) == (pytest.approx(np.mean(scores)), 6)


def test_without_any_positive_the_threshold_is_one_half_and_the_f1_undefined():
    targets_NC, probs_NC = np.zeros((10, 2), dtype=np.float32), np.full((10, 2), 0.7)
    fitted = fit_thresholds(probs_NC, targets_NC, np.arange(10))
    assert all((thresholds_C == 0.5).all() for thresholds_C in fitted.by_strategy.values())
    crossed = cross_fitted(probs_NC, targets_NC, np.arange(10) % 2, np.arange(10))
    assert np.isnan(metrics.f1(crossed["per_label"])).all()


def test_labels_share_the_global_threshold_only_where_labels_have_thresholds_of_their_own():
    few_C = np.array([True, False, True])
    shared = {strategy: shares_global(strategy, few_C).tolist() for strategy in STRATEGIES}
    assert shared["per_label"] == shared["shrunk"] == [True, False, True]
    assert shared["fixed"] == shared["global"] == [False, False, False]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probs": np.full((3, 2), 1.5)}, r"`probs` in \[0, 1\]"),
        ({"probs": np.full((3, 2), np.nan)}, r"`probs` in \[0, 1\]"),
        ({"probs": np.full((2, 3), 0.5)}, r"for targets of shape \(3, 2\), but got \(2, 3\)"),
        ({"shrinkage": -1.0}, r"`shrinkage` to be finite and at least 0, but got -1.0"),
        ({"shrinkage": np.inf}, r"`shrinkage` to be finite"),
        ({"folds_N": np.zeros(3)}, r"two folds or more, but got shape \(3,\) with 1"),
        ({"folds_N": np.array([0, 1, 1])}, "one is in two folds"),
    ],
)
def test_arguments_that_break_a_rule_are_refused(change, message):
    arguments = {
        "probs": np.full((3, 2), 0.5),
        "targets_NC": np.zeros((3, 2)),
        "folds_N": np.array([0, 0, 1]),
        "patients_N": np.array([7, 7, 8]),
    }
    with pytest.raises(ValueError, match=message):
        cross_fitted(**(arguments | change))
