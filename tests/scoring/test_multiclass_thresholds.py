"""Thresholds of multiclass labels against a search of all gaps, cross-fitting against a loop over folds."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.special import expit, logit, softmax
from sklearn.metrics import f1_score

from cohort.patients import patient_folds
from scoring import metrics, multiclass_thresholds
from scoring.label_groups import macro
from scoring.multiclass_thresholds import STRATEGIES, cross_fitted, decide_one, fit_thresholds
from tests.scoring.drawn import multiclass_bank


def macro_f1(probs_NC, offset_C, targets_NC, labels):
    known_N = ~np.isnan(targets_NC).any(1)
    truth_N = targets_NC[known_N].argmax(1)
    decided_N = (np.log(np.maximum(probs_NC[known_N], 1e-300)) + offset_C).argmax(1)
    return f1_score(truth_N, decided_N, labels=labels, average="macro", zero_division=0)


def gaps(probs_NC, offset_C, targets_NC, c):
    """An offset of label c in every gap between two images that it can turn, the others held."""
    logs_NC = np.log(np.maximum(probs_NC[~np.isnan(targets_NC).any(1)], 1e-300)) + offset_C
    rivals_N = np.delete(logs_NC, c, axis=1).max(1)
    turns = np.unique(rivals_N - logs_NC[:, c] + offset_C[c])
    middles = [turns[0] - 1, *((a + b) / 2 for a, b in pairwise(turns)), turns[-1] + 1]
    return [middle for middle in middles if abs(middle) <= 18]


def test_offsets_worked_by_hand():
    # Labels a and b, log-odds of a and truth: 2 a, 0.6 b, 0.4 a, -1 b, -2 b. The F1 of a and b where the
    # first 1, 2, ... images are decided a: 2/3 6/7, 1/2 2/3, 4/5 4/5, 2/3 1/2, 4/7 0. The most probable
    # label, three times a, is the best there is, and no offset moves.
    odds_N = np.array([2, 0.6, 0.4, -1, -2])
    targets_NC = np.array([[1, 0], [0, 1], [1, 0], [0, 1], [0, 1]], dtype=np.float32)
    probs_NC = np.stack([expit(odds_N), expit(-odds_N)], axis=1)
    fitted = fit_thresholds(probs_NC, targets_NC, np.arange(5))
    np.testing.assert_allclose(fitted.by_strategy["per_label"], 0.5)

    # With 1.2 more for a images turn to a at the offsets -3.2, -1.8, -1.6, -0.2 and 0.8: three of them do
    # between -1.6 and -0.2, in the middle -0.9.
    probs_NC = np.stack([expit(odds_N + 1.2), expit(-odds_N - 1.2)], axis=1)
    fitted = fit_thresholds(probs_NC, targets_NC, np.arange(5), shrinkage=2.0)
    np.testing.assert_allclose(logit(fitted.by_strategy["per_label"]), [0.9, 0])
    np.testing.assert_allclose(logit(fitted.by_strategy["shrunk"]), [0.45, 0])  # two positives, strength two
    assert not fitted.few_C.any()
    assert decide_one(probs_NC, fitted.by_strategy["per_label"]).argmax(1).tolist() == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("seed", range(5))
def test_two_labels_have_the_best_offset_of_all(seed):
    targets_NC, probs_KNC, patients_N = multiclass_bank(heads=1, labels=2, images=60, seed=seed)
    fitted = fit_thresholds(probs_KNC[0], targets_NC, patients_N)
    found = macro_f1(probs_KNC[0], -logit(fitted.by_strategy["per_label"]), targets_NC, [0, 1])
    every = [
        macro_f1(probs_KNC[0], np.array([offset, 0]), targets_NC, [0, 1])
        for offset in gaps(probs_KNC[0], np.zeros(2), targets_NC, 0)
    ]
    assert found == pytest.approx(max(every), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_after_enough_rounds_no_labels_offset_can_be_bettered_alone(seed, monkeypatch):
    monkeypatch.setattr(multiclass_thresholds, "ROUNDS", 50)
    targets_NC, probs_KNC, patients_N = multiclass_bank(heads=2, images=80, seed=seed)
    fitted = fit_thresholds(probs_KNC, targets_NC, patients_N)
    enough = np.flatnonzero(~fitted.few_C)
    for probs_NC, thresholds_C in zip(probs_KNC, fitted.by_strategy["per_label"], strict=True):
        offset_C = -logit(thresholds_C)
        found = macro_f1(probs_NC, offset_C, targets_NC, enough)
        assert found >= macro_f1(probs_NC, np.zeros(4), targets_NC, enough)
        for c in enough:
            for other in gaps(probs_NC, offset_C, targets_NC, c):
                moved_C = np.where(np.arange(4) == c, other, offset_C)
                assert macro_f1(probs_NC, moved_C, targets_NC, enough) <= found + 1e-9


def test_exactly_one_label_is_decided_the_first_of_equals():
    probs_NC = np.array([[0.4, 0.4, 0.2], [0.2, 0.4, 0.4], [1.0, 0.0, 0.0]])
    decided_NC = decide_one(probs_NC, np.full(3, 0.5))
    assert decided_NC.tolist() == [[True, False, False], [False, True, False], [True, False, False]]
    lowered_C = np.array([0.5, 0.5, 0.3])
    assert decide_one(probs_NC, lowered_C).argmax(1).tolist() == [2, 2, 0]
    assert decide_one(probs_NC, np.array([1.0, 0.0, 0.5])).sum(1).tolist() == [1, 1, 1]


def test_a_label_with_one_positive_patient_keeps_one_half():
    targets_NC, probs_KNC, patients_N = multiclass_bank(labels=3)
    targets_NC[targets_NC[:, 2] == 1] = [1, 0, 0]
    targets_NC[:2], patients_N[:2] = [0, 0, 1], 1000  # two images, one patient
    fitted = fit_thresholds(probs_KNC, targets_NC, patients_N)
    assert fitted.few_C.tolist() == [False, False, True]
    assert (fitted.by_strategy["per_label"][:, 2] == 0.5).all()
    targets_NC[:] = np.nan
    nothing = fit_thresholds(probs_KNC, targets_NC, patients_N)
    assert all((thresholds_KC == 0.5).all() for thresholds_KC in nothing.by_strategy.values())


def test_masked_images_change_nothing():
    targets_NC, probs_KNC, patients_N = multiclass_bank()
    other_KNC = np.where(np.isnan(targets_NC), probs_KNC[..., ::-1], probs_KNC)
    folds_N = patient_folds(targets_NC, patients_N)
    one, other = (
        fit_thresholds(p, targets_NC, patients_N, shrinkage=3.0).by_strategy for p in (probs_KNC, other_KNC)
    )
    crossed, again = (cross_fitted(p, targets_NC, folds_N, patients_N) for p in (probs_KNC, other_KNC))
    for strategy in STRATEGIES:
        np.testing.assert_array_equal(one[strategy], other[strategy])
        np.testing.assert_array_equal(crossed[strategy], again[strategy])


def test_a_bank_equals_its_heads_one_by_one():
    targets_NC, probs_KNC, patients_N = multiclass_bank(heads=5)
    folds_N = patient_folds(targets_NC, patients_N)
    shrinkage_K = np.linspace(0, 20, 5)
    bank = fit_thresholds(probs_KNC, targets_NC, patients_N, shrinkage=shrinkage_K).by_strategy
    crossed = cross_fitted(probs_KNC, targets_NC, folds_N, patients_N, shrinkage=shrinkage_K)
    for k, (probs_NC, shrinkage) in enumerate(zip(probs_KNC, shrinkage_K, strict=True)):
        alone = fit_thresholds(probs_NC, targets_NC, patients_N, shrinkage=shrinkage).by_strategy
        alone_crossed = cross_fitted(probs_NC, targets_NC, folds_N, patients_N, shrinkage=shrinkage)
        for strategy in STRATEGIES:
            np.testing.assert_array_equal(bank[strategy][k], alone[strategy])
            for counts, expected in zip(crossed[strategy], alone_crossed[strategy], strict=True):
                np.testing.assert_array_equal(counts[k], expected)


def test_cross_fitting_equals_a_loop_over_folds_with_pooled_decisions():
    targets_NC, probs_KNC, patients_N = multiclass_bank(masked=0.0)
    folds_N = patient_folds(targets_NC, patients_N)
    probs_NC = probs_KNC[0]
    crossed = cross_fitted(probs_NC, targets_NC, folds_N, patients_N, shrinkage=4.0)
    for strategy in STRATEGIES:
        decided_N = np.zeros(len(targets_NC), dtype=int)
        for fold in range(5):
            used_N, held_N = folds_N != fold, folds_N == fold
            fitted = fit_thresholds(probs_NC[used_N], targets_NC[used_N], patients_N[used_N], shrinkage=4.0)
            decided_N[held_N] = decide_one(probs_NC[held_N], fitted.by_strategy[strategy]).argmax(1)
        expected = f1_score(targets_NC.argmax(1), decided_N, average="macro", zero_division=0)
        assert macro(metrics.f1(crossed[strategy])).value == pytest.approx(expected)


def test_the_fit_is_worth_it_where_a_class_is_rare_and_harmless_where_probabilities_are_certain():
    rng = np.random.default_rng(0)
    truth_N = rng.choice(3, 600, p=[0.85, 0.1, 0.05])
    targets_NC = np.eye(3, dtype=np.float32)[truth_N]
    logits_NC = rng.normal(size=(600, 3)) + 1.5 * targets_NC + np.log([0.85, 0.1, 0.05])
    probs_NC, folds_N = softmax(logits_NC, axis=1), patient_folds(targets_NC, np.arange(600))
    crossed = cross_fitted(probs_NC, targets_NC, folds_N, np.arange(600), shrinkage=1.0)
    f1 = {name: macro(metrics.f1(counts)).value for name, counts in crossed.items()}
    assert f1["per_label"] > f1["fixed"] + 0.05
    with np.errstate(divide="raise", over="raise", invalid="raise"):
        sure = fit_thresholds(softmax(1e4 * logits_NC, axis=1), targets_NC, np.arange(600))
    assert np.abs(logit(sure.by_strategy["per_label"])).max() <= 18


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probs": np.full((3, 2), 1.5)}, r"`probs` in \[0, 1\]"),
        ({"shrinkage": -1.0}, r"`shrinkage` to be finite and at least 0, but got -1.0"),
        ({"folds_N": np.zeros(3)}, r"two folds or more, but got shape \(3,\) with 1"),
        ({"folds_N": np.array([0, 1, 1])}, "one is in two folds"),
    ],
)
def test_arguments_that_break_a_rule_are_refused(change, message):
    arguments = {
        "probs": np.full((3, 2), 0.5),
        "targets_NC": np.eye(2)[[0, 1, 0]],
        "folds_N": np.array([0, 0, 1]),
        "patients_N": np.array([7, 7, 8]),
    }
    with pytest.raises(ValueError, match=message):
        cross_fitted(**(arguments | change))
