"""The judgement of a model, against scikit-learn and one model at a time."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn import metrics as sk

from cohort.patients import patient_folds
from scoring import metrics, multiclass_thresholds, thresholds
from scoring.judging import JudgedRows, Scale, judge, objective
from scoring.objectives import OBJECTIVES
from scoring.thresholds import STRATEGIES, shares_global
from tests.scoring.drawn import multiclass_bank

SHRINKAGE_K = [1.0, 10.0, 100.0]


@pytest.fixture(scope="module")
def problem():
    """Three models of rising skill on 120 images of 60 patients; the last label counts in no average."""
    rng = np.random.default_rng(0)
    targets_NC = (rng.random((120, 4)) < [0.5, 0.3, 0.2, 0.05]).astype(np.float32)
    noise_KNC = rng.normal(size=(3, 120, 4))
    logits_KNC = (noise_KNC + np.array([0.5, 1.0, 3.0])[:, None, None] * targets_NC).astype(np.float32)
    patients_N = np.arange(120) // 2
    rows = JudgedRows(
        targets_NC=targets_NC,
        patients_N=patients_N,
        folds_N=patient_folds(targets_NC, patients_N),
        averaged_C=np.array([True, True, True, False]),
    )
    return logits_KNC, rows


def test_averages_are_scikit_learns_over_the_scored_labels(problem):
    logits_KNC, rows = problem
    for name, metric in (("macro_ap", sk.average_precision_score), ("macro_auroc", sk.roc_auc_score)):
        expected = [
            np.mean([metric(rows.targets_NC[:, c], logits_NC[:, c]) for c in range(3)])
            for logits_NC in logits_KNC
        ]
        np.testing.assert_allclose(objective(name, logits_KNC, rows, SHRINKAGE_K), expected, rtol=1e-6)
        values = [judged.metrics[f"val.{name}"] for judged in judge(logits_KNC, rows, SHRINKAGE_K)]
        np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_a_model_is_judged_as_if_it_were_alone(problem):
    logits_KNC, rows = problem
    together = judge(logits_KNC, rows, SHRINKAGE_K)
    for k, judged in enumerate(together):
        (alone,) = judge(logits_KNC[k : k + 1], rows, SHRINKAGE_K[k : k + 1])
        assert alone.metrics == judged.metrics and alone.strategy == judged.strategy
        for name in STRATEGIES:
            np.testing.assert_array_equal(alone.thresholds[name], judged.thresholds[name])
        for name in OBJECTIVES:
            one = objective(name, logits_KNC[k : k + 1], rows, SHRINKAGE_K[k : k + 1])
            assert one == objective(name, logits_KNC, rows, SHRINKAGE_K)[k]


def test_macro_f1_is_that_of_the_best_cross_fitted_strategy(problem):
    logits_KNC, rows = problem
    for k, judged in enumerate(judge(logits_KNC, rows, SHRINKAGE_K)):
        crossed = thresholds.cross_fitted(
            expit(logits_KNC[k].astype(np.float64)),
            rows.targets_NC,
            rows.folds_N,
            rows.patients_N,
            shrinkage=SHRINKAGE_K[k],
        )
        by_strategy = {name: metrics.f1(crossed[name])[:3].mean() for name in STRATEGIES}
        assert judged.metrics["val.macro_f1"] == pytest.approx(max(by_strategy.values()))
        assert by_strategy[judged.strategy] == max(by_strategy.values())
        assert judged.metrics["val.labels_averaged"] == 3
    f1_K = objective("macro_f1", logits_KNC, rows, SHRINKAGE_K)
    assert f1_K[2] > f1_K[0]


def test_certain_logits_overflow_nothing_and_keep_their_order(problem):
    logits_KNC, rows = problem
    with np.errstate(all="raise"):
        calm, loud = judge(logits_KNC[:1], rows, [10.0]), judge(logits_KNC[:1] * 1000, rows, [10.0])
    assert calm[0].metrics["val.macro_auroc"] == loud[0].metrics["val.macro_auroc"]


def test_the_best_strategy_is_refitted_on_all_rows(problem):
    logits_KNC, rows = problem
    for k, judged in enumerate(judge(logits_KNC, rows, SHRINKAGE_K)):
        fitted = thresholds.fit_thresholds(
            expit(logits_KNC[k].astype(np.float64)),
            rows.targets_NC,
            rows.patients_N,
            shrinkage=SHRINKAGE_K[k],
        )
        for name in STRATEGIES:
            np.testing.assert_array_equal(judged.thresholds[name], fitted.by_strategy[name])


@pytest.mark.parametrize("name", ["macro_ap", "macro_auroc"])
def test_the_objective_averages_its_own_labels_only(name, problem):
    logits_KNC, rows = problem
    value_K = objective(name, logits_KNC, rows, SHRINKAGE_K)
    other_KNC = logits_KNC.copy()
    other_KNC[..., 3] = 0
    np.testing.assert_array_equal(objective(name, other_KNC, rows, SHRINKAGE_K), value_K)


def test_all_labels_fit_the_thresholds_of_which_some_are_averaged(problem):
    logits_KNC, rows = problem
    judged = judge(logits_KNC, rows, SHRINKAGE_K)
    every = judge(logits_KNC, replace(rows, averaged_C=np.ones(4, bool)), SHRINKAGE_K)
    for one, other in zip(judged, every, strict=True):
        for name in STRATEGIES:
            np.testing.assert_array_equal(one.thresholds[name], other.thresholds[name])


def test_scores_that_only_rank_are_judged_alike_on_any_scale_of_theirs(problem):
    logits_KNC, rows = problem
    products_KNC = 40 * logits_KNC[2:] + 300
    near, far = (Scale.standardising(scores_KNC) for scores_KNC in (logits_KNC[2:], products_KNC))
    one = objective("macro_f1", logits_KNC[2:], rows, [10.0], near)
    other = objective("macro_f1", products_KNC, rows, [10.0], far)
    assert other == pytest.approx(one, abs=1e-6)
    # On the scale of logits they saturate, and every threshold but one is lost.
    assert objective("macro_f1", products_KNC, rows, [10.0]) < one - 0.1


def test_labels_share_the_global_threshold_only_under_a_strategy_of_own_thresholds(problem):
    logits_KNC, rows = problem
    targets_NC = rows.targets_NC.copy()
    targets_NC[:, 3] = 0
    targets_NC[5, 3] = 1  # one positive patient
    (judged,) = judge(logits_KNC[2:], replace(rows, targets_NC=targets_NC), [10.0])
    assert judged.few_C.tolist() == [False, False, False, True]
    for strategy, shared in (("fixed", False), ("global", False), ("per_label", True), ("shrunk", True)):
        assert shares_global(strategy, judged.few_C).tolist() == [False, False, False, shared]


def test_a_scale_is_a_sigmoid_in_float64_that_is_exact_far_out():
    np.testing.assert_allclose(Scale().unit(np.array([-800.0, 0.0, 800.0])), [0, 0.5, 1])
    assert Scale().unit(np.array([20.0], np.float32)) < 1
    np.testing.assert_allclose(Scale(centre=2.0, width=4.0).unit(np.array([6.0])), 1 / (1 + np.exp(-1)))
    assert Scale.standardising(np.full((3, 2), 7.0)) == Scale(7.0, 1.0)


def test_an_unknown_objective_is_refused(problem):
    logits_KNC, rows = problem
    with pytest.raises(ValueError, match=r"objective must be one of macro_ap, .*, not 'accuracy'"):
        objective("accuracy", logits_KNC, rows, SHRINKAGE_K)


def test_multiclass_labels_are_judged_by_one_decision_a_row_on_softmax_probabilities():
    targets_NC, probs_KNC, patients_N = multiclass_bank()
    logits_KNC = np.log(np.maximum(probs_KNC, 1e-6))
    rows = JudgedRows(
        targets_NC=targets_NC,
        patients_N=patients_N,
        folds_N=patient_folds(targets_NC, patients_N),
        averaged_C=np.ones(4, dtype=bool),
        multiclass=True,
    )
    f1_K = objective("macro_f1", logits_KNC, rows, SHRINKAGE_K)
    for k, judged in enumerate(judge(logits_KNC, rows, SHRINKAGE_K)):
        crossed = multiclass_thresholds.cross_fitted(
            softmax(logits_KNC[k], axis=1),
            targets_NC,
            rows.folds_N,
            patients_N,
            shrinkage=SHRINKAGE_K[k],
        )
        by_strategy = {name: metrics.f1(counts).mean() for name, counts in crossed.items()}
        assert judged.multiclass and set(judged.thresholds) == {"fixed", "per_label", "shrunk"}
        assert judged.metrics["val.macro_f1"] == f1_K[k] == pytest.approx(max(by_strategy.values()))
        assert "val.macro_f1_global" not in judged.metrics


def test_probabilities_of_multiclass_labels_are_a_softmax_on_the_scale():
    scores_NC = np.array([[4.0, 2.0, 2.0], [800.0, 0.0, 0.0]])
    probs_NC = Scale(centre=2.0, width=2.0).unit(scores_NC, multiclass=True)
    np.testing.assert_allclose(probs_NC[0], np.array([np.e, 1, 1]) / (np.e + 2))
    np.testing.assert_allclose(probs_NC.sum(1), 1)


@pytest.mark.parametrize(
    ("name", "metric"), [("macro_ap", sk.average_precision_score), ("macro_auroc", sk.roc_auc_score)]
)
def test_multiclass_labels_are_ranked_by_their_probabilities(name, metric):
    targets_NC, probs_KNC, patients_N = multiclass_bank()
    targets_NC, probs_KNC = targets_NC.copy(), probs_KNC[:1]
    # A constant on all labels of an image changes no probability, and so must change no rank.
    constant_N1 = np.random.default_rng(1).normal(size=(len(targets_NC), 1)) * 5
    logits_KNC = np.log(np.maximum(probs_KNC, 1e-6)) + constant_N1
    rows = JudgedRows(
        targets_NC=targets_NC,
        patients_N=patients_N,
        folds_N=patient_folds(targets_NC, patients_N),
        averaged_C=np.ones(4, dtype=bool),
        multiclass=True,
    )
    known_N = ~np.isnan(targets_NC).any(1)
    ranked_NC = softmax(logits_KNC[0], axis=1)
    expected = np.mean([metric(targets_NC[known_N, c], ranked_NC[known_N, c]) for c in range(4)])
    assert objective(name, logits_KNC, rows, [1.0])[0] == pytest.approx(expected)
    (judged,) = judge(logits_KNC, rows, [1.0])
    assert judged.metrics[f"val.{name}"] == pytest.approx(expected)
