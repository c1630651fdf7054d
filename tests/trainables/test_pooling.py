"""Held-out scores of several folds on one footing.

Shape legend: N images, D features, C labels.
"""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import f1_score

from tests.trainables.single_split import probe_data
from trainables.baselines.base import chosen
from trainables.baselines.logistic import train_logistic
from trainables.pooling import pooled
from trainables.trial_data import ProbeData


def of_patients(x_ND, targets_NC, patients_N, multiclass=False) -> ProbeData:
    """As development rows in five folds of patients."""
    labels = tuple(f"label {c}" for c in range(targets_NC.shape[1]))
    first = len(x_ND) // 2
    data = probe_data(
        x_ND[:first],
        targets_NC[:first],
        x_ND[first:],
        targets_NC[first:],
        val_patients_N=np.arange(len(x_ND) - first),
        val_folds_N=np.arange(len(x_ND) - first) % 5,
        labels=labels,
    )
    return replace(data, patients_N=patients_N, multiclass=multiclass).cross_validated(5, 0, 2)


def in_folds(fold_N, targets_NC) -> ProbeData:
    images = len(fold_N)
    return ProbeData(
        rows_N=np.arange(images),
        targets_NC=np.array(targets_NC, dtype=np.float32),
        patients_N=np.arange(images),
        fold_N=np.array(fold_N),
        threshold_fold_N=np.array(fold_N),
        labels=("a", "b"),
        objective_labels_C=np.array([True, True]),
        features_ND=np.ones((images, 2), np.float32),
    )


def test_each_fold_gets_the_labels_overall_mean_worked_by_hand():
    """Label a: 1 and 3 on the first fold, 10 and 16 on the second; mean 7.5. Label b is level."""
    data = in_folds([0, 0, 1, 1], [[0, 1], [1, 0], [0, 1], [1, 0]])
    logits_MC = np.array([[1, 0], [3, 2], [10, 2], [16, 0]])
    expected_MC = [[6.5, 0], [8.5, 2], [4.5, 2], [10.5, 0]]
    np.testing.assert_allclose(pooled(logits_MC, data), expected_MC)
    np.testing.assert_allclose(pooled(np.stack([logits_MC, -logits_MC]), data)[1], np.negative(expected_MC))


def test_a_label_is_centred_by_the_images_on_which_it_is_known():
    """Where none of a fold is, by all of them."""
    nan = np.nan
    data = in_folds([0, 0, 0, 1, 1], [[0, 1], [1, 0], [nan, 0], [0, nan], [1, nan]])
    logits_MC = np.array([[1, 0], [3, 0], [50, 3], [4, 7], [8, 9]])
    together_MC = pooled(logits_MC, data)
    np.testing.assert_allclose(together_MC[:, 0], [3, 5, 52, 2, 6])
    np.testing.assert_allclose(together_MC[:, 1], [2.8, 2.8, 5.8, 2.8, 4.8], rtol=1e-6)


def test_a_single_split_stays_as_it_is():
    data = in_folds([-1, -1, 0, 0], [[0, 1], [1, 0], [0, 1], [1, 0]])
    logits_MC = np.random.default_rng(0).normal(size=(2, 2)).astype(np.float32)
    np.testing.assert_array_equal(pooled(logits_MC, data), logits_MC)


def drawn(rng, signal, prevalence, features=8, patients=60, labels=3):
    """1 to 3 images a patient, alike in features and in labels, which a few patients bear."""
    patients_N = np.repeat(np.arange(patients), rng.integers(1, 4, patients))

    def level(width):
        return 0.8 * rng.normal(size=(patients, width))[patients_N] + 0.6 * rng.normal(
            size=(len(patients_N), width)
        )

    x_ND, evidence_NC = level(features), level(labels)
    evidence_NC[:, :labels] += signal * x_ND[:, :labels]
    targets_NC = evidence_NC > np.quantile(evidence_NC, 1 - prevalence, axis=0)
    return x_ND.astype(np.float32), targets_NC.astype(np.float32), patients_N


@pytest.mark.parametrize("multiclass", [False, True])
def test_regressions_on_noise_have_no_score_below_chance(multiclass):
    """Strongly penalised, they are their intercepts, which are the lower the more positives are held out:
    ranked together as they are, a macro AUROC of 0.4 and less."""
    found = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        x_ND, targets_NC, patients_N = drawn(rng, signal=0, prevalence=0.12)
        if multiclass:
            classes = np.where(targets_NC.any(axis=1), targets_NC.argmax(axis=1), 2)
            targets_NC = np.eye(3, dtype=np.float32)[classes]
        data = of_patients(x_ND, targets_NC, patients_N, multiclass)
        found.append(chosen(train_logistic(data, objective_name="macro_auroc", strengths=(1e-3,))).objective)
    assert np.mean(found) == pytest.approx(0.5, abs=0.04)


def test_thresholds_found_on_pooled_scores_fit_the_exported_head():
    """The average of the folds' heads on new images of many new patients: macro-F1 within 0.05 of that of
    thresholds chosen on those images themselves."""
    lost = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        x_ND, targets_NC, patients_N = drawn(rng, signal=2, prevalence=0.25, patients=650)
        own = patients_N < 150
        data = of_patients(x_ND[own], targets_NC[own], patients_N[own])
        record = chosen(train_logistic(data, objective_name="macro_ap", strengths=(0.1,)))
        thresholds_C = record.rule().thresholds_C
        probs_NC = 1 / (1 + np.exp(-record.head.logits(x_ND[~own]).astype(float)))
        truth_NC = targets_NC[~own]
        reached = f1_score(truth_NC, probs_NC >= thresholds_C, average="macro")
        possible = np.mean(
            [
                max(f1_score(truth_NC[:, c], probs_NC[:, c] >= cut) for cut in np.linspace(0.04, 0.96, 24))
                for c in range(3)
            ]
        )
        lost.append(possible - reached)
    assert np.mean(lost) < 0.05
