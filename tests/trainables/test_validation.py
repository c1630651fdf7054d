"""The look at validation, against scikit-learn and one model at a time."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import expit
from sklearn import metrics as sk

from cohort.patients import patient_folds
from trainables import thresholds
from trainables.thresholds import STRATEGIES
from trainables.validation import OBJECTIVES, judge, objective

SHRINKAGE_K = [1.0, 10.0, 100.0]


@pytest.fixture(scope="module")
def problem():
    """Three models of rising skill on 120 images of 60 patients; the last label counts in no average."""
    rng = np.random.default_rng(0)
    targets_NC = (rng.random((120, 4)) < [0.5, 0.3, 0.2, 0.05]).astype(np.float32)
    noise_KNC = rng.normal(size=(3, 120, 4))
    logits_KNC = (noise_KNC + np.array([0.5, 1.0, 3.0])[:, None, None] * targets_NC).astype(np.float32)
    patients_N = np.arange(120) // 2
    data = SimpleNamespace(
        val_targets_NC=targets_NC,
        val_patients_N=patients_N,
        val_folds_N=patient_folds(targets_NC, patients_N),
        scored_C=np.array([True, True, True, False]),
    )
    return logits_KNC, data


def test_averages_are_scikit_learns_over_the_scored_labels(problem):
    logits_KNC, data = problem
    for name, metric in (("macro_ap", sk.average_precision_score), ("macro_auroc", sk.roc_auc_score)):
        expected = [
            np.mean([metric(data.val_targets_NC[:, c], logits_NC[:, c]) for c in range(3)])
            for logits_NC in logits_KNC
        ]
        np.testing.assert_allclose(objective(name, logits_KNC, data, SHRINKAGE_K), expected, rtol=1e-6)
        values = [judged.metrics[f"val.{name}"] for judged in judge(logits_KNC, data, SHRINKAGE_K)]
        np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_a_model_is_judged_as_if_it_were_alone(problem):
    logits_KNC, data = problem
    together = judge(logits_KNC, data, SHRINKAGE_K)
    for k, judged in enumerate(together):
        (alone,) = judge(logits_KNC[k : k + 1], data, SHRINKAGE_K[k : k + 1])
        assert alone.metrics == judged.metrics and alone.strategy == judged.strategy
        for name in STRATEGIES:
            np.testing.assert_array_equal(alone.thresholds[name], judged.thresholds[name])
        for name in OBJECTIVES:
            one = objective(name, logits_KNC[k : k + 1], data, SHRINKAGE_K[k : k + 1])
            assert one == objective(name, logits_KNC, data, SHRINKAGE_K)[k]


def test_macro_f1_is_that_of_the_best_cross_fitted_strategy(problem):
    logits_KNC, data = problem
    for k, judged in enumerate(judge(logits_KNC, data, SHRINKAGE_K)):
        crossed = thresholds.cross_fitted(
            expit(logits_KNC[k].astype(np.float64)),
            data.val_targets_NC,
            data.val_folds_N,
            data.val_patients_N,
            shrinkage=SHRINKAGE_K[k],
        )
        by_strategy = {name: crossed[name].f1[:3].mean() for name in STRATEGIES}
        assert judged.metrics["val.macro_f1"] == pytest.approx(max(by_strategy.values()))
        assert by_strategy[judged.strategy] == max(by_strategy.values())
        assert judged.metrics["val.labels_averaged"] == 3
    f1_K = objective("macro_f1", logits_KNC, data, SHRINKAGE_K)
    assert f1_K[2] > f1_K[0]


def test_certain_logits_overflow_nothing_and_keep_their_order(problem):
    logits_KNC, data = problem
    with np.errstate(all="raise"):
        calm, loud = judge(logits_KNC[:1], data, [10.0]), judge(logits_KNC[:1] * 1000, data, [10.0])
    assert calm[0].metrics["val.macro_auroc"] == loud[0].metrics["val.macro_auroc"]
