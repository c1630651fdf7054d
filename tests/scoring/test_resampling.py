"""Metrics as functions of weights, against scikit-learn and cases worked by hand."""

import numpy as np
import pytest
from sklearn import metrics as sk

from scoring import metrics, resampling
from scoring.metrics import Confusion
from scoring.resampling import (
    patient_weights,
    weighted_confusion,
    weighted_mean,
    weighted_ranking,
    weighted_squared_errors,
)
from tests.scoring.drawn import drawn

DECISION_METRICS = (metrics.f1, metrics.precision, metrics.recall, metrics.mcc)


def ones(rows: int) -> np.ndarray:
    return np.ones((rows, 1))


@pytest.mark.parametrize("seed", range(5))
def test_unit_weights_give_scikit_learns_auroc_and_average_precision_on_ties_and_masks(seed):
    targets_NC, scores_NC, patients_N = drawn(seed)
    for c in range(3):
        known = ~np.isnan(targets_NC[:, c])
        auroc_B, ap_B = weighted_ranking(targets_NC[:, c], scores_NC[:, c], patients_N, ones(50))
        assert auroc_B[0] == pytest.approx(sk.roc_auc_score(targets_NC[known, c], scores_NC[known, c]))
        assert ap_B[0] == pytest.approx(sk.average_precision_score(targets_NC[known, c], scores_NC[known, c]))


def test_ranking_worked_by_hand():
    # Descending: 0.9 (1), 0.8 (0), 0.8 (1), 0.1 (0). Pairs won: 0.9 beats both (2), 0.8 ties one and beats
    # one (1.5): 3.5 of 4. Precision at 0.9 is 1/1, at 0.8 the tie comes in, 2/3.
    targets_N, scores_N = np.array([1, 0, 1, 0.0]), np.array([0.9, 0.8, 0.8, 0.1])
    auroc_B, ap_B = weighted_ranking(targets_N, scores_N, np.arange(4), ones(4))
    assert auroc_B[0] == pytest.approx(3.5 / 4)
    assert ap_B[0] == pytest.approx((1 + 2 / 3) / 2)


def test_weights_count_as_copies_of_a_patients_images():
    targets_NC, scores_NC, patients_N = drawn(7, masked=0)
    copies_R = np.random.default_rng(0).integers(1, 4, 50)
    auroc_B, ap_B = weighted_ranking(
        targets_NC[:, 0], scores_NC[:, 0], patients_N, copies_R[:, None].astype(float)
    )
    target_N, score_N = (
        np.repeat(one_N, copies_R[patients_N]) for one_N in (targets_NC[:, 0], scores_NC[:, 0])
    )
    assert auroc_B[0] == pytest.approx(sk.roc_auc_score(target_N, score_N))
    assert ap_B[0] == pytest.approx(sk.average_precision_score(target_N, score_N))


def test_a_constant_score_keeps_auroc_one_half_and_has_each_resamples_own_prevalence():
    targets_NC, _, patients_N = drawn(3, masked=0)
    weights_RB = patient_weights(50, 200, seed=1)
    auroc_B, ap_B = weighted_ranking(targets_NC[:, 0], np.zeros(80), patients_N, weights_RB)
    np.testing.assert_allclose(auroc_B, 0.5, atol=1e-5)
    np.testing.assert_allclose(ap_B, weighted_mean(targets_NC[:, :1], patients_N, weights_RB)[0], rtol=1e-5)
    assert ap_B.std() > 0.02


def test_resamples_do_not_depend_on_how_they_are_cut_into_chunks(monkeypatch):
    targets_NC, scores_NC, patients_N = drawn(4)
    weights_RB = patient_weights(50, 100, seed=1)
    whole = weighted_ranking(targets_NC[:, 0], scores_NC[:, 0], patients_N, weights_RB)
    monkeypatch.setattr(resampling, "_CHUNK", 17)
    for a, b in zip(
        whole, weighted_ranking(targets_NC[:, 0], scores_NC[:, 0], patients_N, weights_RB), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_a_label_without_positives_or_without_negatives_is_nan():
    for value in (0.0, 1.0):
        targets_N = np.array([value, value, np.nan])
        auroc_B, ap_B = weighted_ranking(targets_N, np.arange(3.0), np.arange(3), ones(3))
        assert np.isnan(auroc_B).all() and np.isnan(ap_B).all()


@pytest.mark.parametrize("seed", range(3))
def test_decision_metrics_of_unit_weights_equal_scikit_learns(seed):
    targets_NC, scores_NC, patients_N = drawn(seed)
    decisions_NC = scores_NC > 0.4
    counts = weighted_confusion(targets_NC, decisions_NC, patients_N, ones(50))
    for c in range(3):
        known = ~np.isnan(targets_NC[:, c])
        y, d = targets_NC[known, c], decisions_NC[known, c]
        assert metrics.f1(counts)[c, 0] == pytest.approx(sk.f1_score(y, d))
        assert metrics.precision(counts)[c, 0] == pytest.approx(sk.precision_score(y, d))
        assert metrics.recall(counts)[c, 0] == pytest.approx(sk.recall_score(y, d))
        assert metrics.mcc(counts)[c, 0] == pytest.approx(sk.matthews_corrcoef(y, d))


def test_float32_counts_and_whole_ones_give_the_same_metrics():
    # Beyond 2^31 in the product of four: neither integers nor float32 may overflow on the way.
    whole = Confusion(*(np.array([x]) for x in (20_000, 10_000, 10_000, 40_000)))
    weighed = Confusion(*(count.astype(np.float32) for count in whole))
    for metric in DECISION_METRICS:
        assert metric(weighed)[0] == pytest.approx(metric(whole)[0], rel=1e-7)
    assert metrics.mcc(weighed)[0] == pytest.approx(7 / 15)


def test_deciding_for_nothing_scores_zero_and_having_nothing_to_find_is_nan():
    for dtype in (np.int64, np.float32):
        nothing_decided = Confusion(*(np.array([x], dtype) for x in (0, 0, 3, 5)))
        assert [metric(nothing_decided)[0] for metric in DECISION_METRICS] == [0, 0, 0, 0]
        nothing_there = Confusion(*(np.array([x], dtype) for x in (0, 2, 0, 5)))
        assert all(np.isnan(metric(nothing_there)[0]) for metric in DECISION_METRICS)


def test_the_brier_score_equals_scikit_learns():
    targets_NC, scores_NC, patients_N = drawn(5)
    probs_NC = 1 / (1 + np.exp(-scores_NC))
    brier_CB = metrics.brier(weighted_squared_errors(targets_NC, probs_NC, patients_N, ones(50)))
    for c in range(3):
        known = ~np.isnan(targets_NC[:, c])
        y, p = targets_NC[known, c], probs_NC[known, c]
        assert brier_CB[c, 0] == pytest.approx(sk.brier_score_loss(y, p))


def test_weighted_mean_leaves_out_what_is_nan():
    values_NM = np.array([[1.0], [np.nan], [4.0]])
    weights_RB = np.array([[1.0], [5.0], [2.0]])
    assert weighted_mean(values_NM, np.arange(3), weights_RB)[0, 0] == pytest.approx(9 / 3)


def test_more_images_of_the_same_patients_add_no_certainty():
    targets_NC, scores_NC, patients_N = drawn(6, masked=0)
    weights_RB = patient_weights(50, 500, seed=0)
    once, _ = weighted_ranking(targets_NC[:, 0], scores_NC[:, 0], patients_N, weights_RB)
    thrice, _ = weighted_ranking(
        np.repeat(targets_NC[:, 0], 3), np.repeat(scores_NC[:, 0], 3), np.repeat(patients_N, 3), weights_RB
    )
    np.testing.assert_allclose(once, thrice, rtol=1e-4)
