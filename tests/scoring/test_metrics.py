"""Metrics against scikit-learn, and against values worked by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn import metrics as sk

from scoring import metrics
from scoring.label_groups import macro
from scoring.metrics import Confusion, confusion, squared_errors
from tests.scoring.drawn import predictions, random_bank

NAN = math.nan

DECISION_METRICS = {
    "f1": (metrics.f1, lambda y, d: sk.f1_score(y, d, zero_division=0)),
    "precision": (metrics.precision, lambda y, d: sk.precision_score(y, d, zero_division=0)),
    "recall": (metrics.recall, lambda y, d: sk.recall_score(y, d, zero_division=0)),
    "mcc": (metrics.mcc, sk.matthews_corrcoef),
}


def unmasked(targets_NC, *predictions_NC):
    """The unmasked images of each label."""
    for c, targets_N in enumerate(targets_NC.T):
        known_N = ~np.isnan(targets_N)
        yield targets_N[known_N].astype(int), *(p_NC[known_N, c] for p_NC in predictions_NC)


# ---- worked by hand ----


def test_prevalences_worked_by_hand():
    targets_NC = np.array([[1, 0], [0, 0], [0, np.nan]])
    np.testing.assert_allclose(metrics.prevalences(targets_NC), [1.5 / 4, 0.5 / 3])


# One label, by falling score: + - (+ -) -, the third and fourth with one score; and a masked image on top.
RANKED_TARGETS = np.array([[NAN], [1], [0], [1], [0], [0]])
RANKED_SCORES = np.array([[9.0], [5.0], [4.0], [3.0], [3.0], [1.0]])
# One image: labels by falling score + - (+ -), and a masked label on top.
IMAGE_TARGETS = RANKED_TARGETS[:5].T
IMAGE_SCORES = RANKED_SCORES[:5].T


def test_auroc_worked_by_hand():
    # Six pairs: the first positive beats all three negatives; the second loses, ties, wins: 4.5 of 6.
    np.testing.assert_allclose(metrics.auroc(RANKED_TARGETS, RANKED_SCORES), [4.5 / 6])


def test_average_precision_worked_by_hand():
    # Precision at the first positive is 1/1, at the second, with the tie, 2/4.
    np.testing.assert_allclose(metrics.average_precision(RANKED_TARGETS, RANKED_SCORES), [(1 + 2 / 4) / 2])


def test_lrap_coverage_error_and_ranking_loss_worked_by_hand():
    # Rank 1 holds 1 of 1 positives, rank 4 (with the tie) 2 of 4; four labels cover both positives; of four
    # pairs the second positive is behind one negative and tied with the other.
    np.testing.assert_allclose(metrics.lrap(IMAGE_TARGETS, IMAGE_SCORES), [(1 + 2 / 4) / 2])
    np.testing.assert_allclose(metrics.coverage_error(IMAGE_TARGETS, IMAGE_SCORES), [4])
    np.testing.assert_allclose(metrics.ranking_loss(IMAGE_TARGETS, IMAGE_SCORES), [2 / 4])


def test_decision_metrics_worked_by_hand():
    counts = Confusion(*(np.array([count]) for count in (3, 1, 2, 6)))
    np.testing.assert_allclose(metrics.precision(counts), [3 / 4])
    np.testing.assert_allclose(metrics.recall(counts), [3 / 5])
    np.testing.assert_allclose(metrics.f1(counts), [6 / 9])
    np.testing.assert_allclose(metrics.mcc(counts), [(3 * 6 - 1 * 2) / math.sqrt(4 * 5 * 8 * 7)])


def test_exact_match_looks_at_unmasked_labels_only():
    targets_NC = np.array([[1, 0], [1, NAN], [1, NAN], [NAN, NAN]])
    decisions_NC = np.array([[True, True], [True, True], [False, True], [True, True]])
    np.testing.assert_array_equal(metrics.exact_match(targets_NC, decisions_NC), [0, 1, 0, NAN])


def test_brier_and_its_skill_worked_by_hand():
    targets_NC = np.array([[1.0, 0], [0, 0], [0, NAN], [NAN, NAN]])
    probs_NC = np.array([[0.8, 0.1], [0.4, 0.1], [0.0, 0.9], [0.9, 0.9]])
    errors = squared_errors(targets_NC, probs_NC)
    np.testing.assert_allclose(metrics.brier(errors), [(0.04 + 0.16) / 3, 0.01])
    # Always saying 0.5 costs 0.25, always saying 0 costs nothing on the second label: no skill to speak of.
    skill_C = metrics.brier_skill(errors, squared_errors(targets_NC, np.full((4, 2), [0.5, 0.0])))
    np.testing.assert_allclose(skill_C, [1 - 0.2 / 3 / 0.25, NAN])


# ---- against scikit-learn ----


@settings(max_examples=150, deadline=None)
@given(predictions())
def test_ranking_of_images_equals_scikit_learn(drawn):
    targets_NC, scores_NC = drawn
    auroc_C = metrics.auroc(targets_NC, scores_NC)
    ap_C = metrics.average_precision(targets_NC, scores_NC)
    for c, (y, s) in enumerate(unmasked(targets_NC, scores_NC)):
        if len(set(y)) < 2:
            assert np.isnan(auroc_C[c]) and np.isnan(ap_C[c])
        else:
            assert auroc_C[c] == pytest.approx(sk.roc_auc_score(y, s), abs=1e-12)
            assert ap_C[c] == pytest.approx(sk.average_precision_score(y, s), abs=1e-12)


def test_ranking_of_images_without_ties_equals_scikit_learn():
    targets_NC, scores_KNC = random_bank(heads=1)
    results_C = metrics.auroc(targets_NC, scores_KNC[0]), metrics.average_precision(targets_NC, scores_KNC[0])
    for c, (y, s) in enumerate(unmasked(targets_NC, scores_KNC[0])):
        assert results_C[0][c] == pytest.approx(sk.roc_auc_score(y, s), abs=1e-12)
        assert results_C[1][c] == pytest.approx(sk.average_precision_score(y, s), abs=1e-12)


@settings(max_examples=150, deadline=None)
@given(predictions(), st.sampled_from([0.0, 0.5, 0.9, 2.0]))
def test_decision_metrics_equal_scikit_learn(drawn, cut):
    targets_NC, scores_NC = drawn
    decisions_NC = scores_NC >= cut
    counts = confusion(targets_NC, decisions_NC)
    for c, (y, d) in enumerate(unmasked(targets_NC, decisions_NC)):
        for name, (ours, theirs) in DECISION_METRICS.items():
            value = ours(counts)[c]
            if not y.any() or (name == "mcc" and y.all()):
                assert np.isnan(value)
            else:
                assert value == pytest.approx(theirs(y, d), abs=1e-12)


@settings(max_examples=150, deadline=None)
@given(predictions())
def test_ranking_of_labels_and_exact_match_equal_scikit_learn_on_the_unmasked_labels(drawn):
    targets_NC, scores_NC = drawn
    decisions_NC = scores_NC >= 0.5
    lrap_N, coverage_N = metrics.lrap(targets_NC, scores_NC), metrics.coverage_error(targets_NC, scores_NC)
    loss_N, exact_N = (
        metrics.ranking_loss(targets_NC, scores_NC),
        metrics.exact_match(targets_NC, decisions_NC),
    )
    for n, (y, s, d) in enumerate(unmasked(targets_NC.T, scores_NC.T, decisions_NC.T)):
        if len(y):
            assert exact_N[n] == np.array_equal(y == 1, d)
        else:
            assert np.isnan(exact_N[n])
        if not y.any():
            assert np.isnan([lrap_N[n], coverage_N[n], loss_N[n]]).all()
            continue
        if len(y) == 1:  # which scikit-learn does not rank
            assert (lrap_N[n], coverage_N[n]) == (1, 1)
            continue
        assert coverage_N[n] == sk.coverage_error([y], [s])
        assert lrap_N[n] == pytest.approx(sk.label_ranking_average_precision_score([y], [s]), abs=1e-12)
        if y.all():
            assert np.isnan(loss_N[n])
        else:
            assert loss_N[n] == pytest.approx(sk.label_ranking_loss([y], [s]), abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(predictions())
def test_brier_equals_scikit_learn(drawn):
    targets_NC, probs_NC = drawn
    brier_C = metrics.brier(squared_errors(targets_NC, probs_NC))
    for c, (y, p) in enumerate(unmasked(targets_NC, probs_NC)):
        if len(y) == 0:
            assert np.isnan(brier_C[c])
        else:
            assert brier_C[c] == pytest.approx(sk.brier_score_loss(y, p, pos_label=1), abs=1e-12)


# ---- banks and averages ----


@pytest.mark.parametrize("decimals", [1, 12])
def test_a_bank_of_scores_equals_its_heads_one_by_one(decimals):
    targets_NC, scores_KNC = random_bank()
    scores_KNC = expit(scores_KNC).round(decimals)
    for measure in (
        metrics.auroc,
        metrics.average_precision,
        lambda targets_NC, probs: metrics.brier(squared_errors(targets_NC, probs)),
        metrics.lrap,
        metrics.coverage_error,
        metrics.ranking_loss,
    ):
        expected = [measure(targets_NC, scores_NC) for scores_NC in scores_KNC]
        np.testing.assert_array_equal(measure(targets_NC, scores_KNC), expected)
    counts = confusion(targets_NC, scores_KNC > 0.5)
    for head, scores_NC in enumerate(scores_KNC):
        np.testing.assert_array_equal([c[head] for c in counts], confusion(targets_NC, scores_NC > 0.5))
    exact_KN = metrics.exact_match(targets_NC, scores_KNC > 0.5)
    np.testing.assert_array_equal(exact_KN[1], metrics.exact_match(targets_NC, scores_KNC[1] > 0.5))


def test_silence_costs_0_and_missing_positives_cost_nothing():
    targets_NC = np.array([[1.0, 0], [0, 0], [1, 0]])
    counts = confusion(targets_NC, np.zeros((3, 2), dtype=bool))
    for measure in (metrics.f1, metrics.precision, metrics.recall, metrics.mcc):
        np.testing.assert_array_equal(measure(counts), [0, NAN])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.auroc(np.zeros((3, 2)), np.zeros((2, 3))), r"but got \(2, 3\) and \(3, 2\)"),
        (lambda: metrics.auroc(np.zeros((3, 2)), np.full((3, 2), NAN)), "finite predictions"),
        (lambda: confusion(np.zeros((3, 2)), np.full((3, 2), 0.4)), "bool `decisions_NC`, but got float64"),
        (lambda: squared_errors(np.zeros((3, 2)), np.full((3, 2), 1.5)), r"`probs_NC` in \[0, 1\]"),
    ],
)
def test_arguments_that_break_a_rule_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ---- multiclass labels ----


def classes(truth_N, decided_N, labels):
    """Targets and decisions of one label an image."""
    return np.eye(labels)[truth_N], np.eye(labels, dtype=bool)[decided_N]


def test_agreement_of_classes_worked_by_hand():
    # Truth a a a b c, decided a a b b a: three of five right; recalls 2/3, 1, 0. By chance, with a decided 3
    # times, b twice and c never: (3 x 3 + 1 x 2 + 1 x 0) / 25 = 11/25.
    counts = confusion(*classes([0, 0, 0, 1, 2], [0, 0, 1, 1, 0], 3))
    assert metrics.accuracy(counts) == pytest.approx(3 / 5)
    assert macro(metrics.recall(counts)).value == pytest.approx((2 / 3 + 1) / 3)
    assert metrics.cohen_kappa(counts) == pytest.approx((15 / 25 - 11 / 25) / (14 / 25))


@pytest.mark.parametrize("seed", range(5))
def test_agreement_of_classes_equals_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    truth_N, decided_N = rng.choice(4, 60, p=[0.6, 0.3, 0.1, 0]), rng.choice(4, 60)
    decided_N = np.where(rng.random(60) < 0.5, truth_N, decided_N)
    counts = confusion(*classes(truth_N, decided_N, 4))
    assert metrics.accuracy(counts) == pytest.approx(sk.accuracy_score(truth_N, decided_N))
    assert metrics.cohen_kappa(counts) == pytest.approx(sk.cohen_kappa_score(truth_N, decided_N))
    balanced = macro(metrics.recall(counts))
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        assert balanced.value == pytest.approx(sk.balanced_accuracy_score(truth_N, decided_N))
    assert balanced.labels_averaged == 3  # of a label without images nothing is recalled


def test_kappa_is_0_for_a_constant_decision_and_undefined_where_the_truth_is_as_constant():
    assert metrics.cohen_kappa(confusion(*classes([0, 0, 1], [0, 0, 0], 2))) == 0
    assert np.isnan(metrics.cohen_kappa(confusion(*classes([0, 0, 0], [0, 0, 0], 2))))
