"""Neighbours, votes and regressions, against scikit-learn and Newton's step written out."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import NearestNeighbors

from scoring.held_out_answers import (
    balanced_accuracy,
    first_newton_step,
    neighbours,
    standardised_folds,
    votes,
)


def test_neighbours_are_scikit_learns_among_other_patients():
    x_ND = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    found = neighbours(x_ND, np.arange(40), 5)
    nearest = NearestNeighbors(n_neighbors=6, metric="cosine").fit(x_ND).kneighbors(return_distance=False)
    np.testing.assert_array_equal(found, nearest[:, :5])
    patients_N = np.arange(40) // 2
    found = neighbours(x_ND, patients_N, 5)
    assert not (patients_N[found] == patients_N[:, None]).any()
    among_N = np.arange(40) < 10
    assert neighbours(x_ND, patients_N, 5, among_N).max() < 10
    assert neighbours(x_ND, np.zeros(40, dtype=int), 5).shape == (40, 0)


def test_votes_do_not_ask_whom_nobody_knows():
    near_Nk = np.array([[1, 2], [2, 3], [3, 0], [0, 1]])
    targets_NK = np.array([[1.0], [0], [np.nan], [np.nan]])
    np.testing.assert_allclose(votes(near_Nk, targets_NK)[:, 0], [0, 0.5, 1, 0.5])


def test_balanced_accuracy_is_scikit_learns():
    rng = np.random.default_rng(0)
    y_N, decided_N = rng.integers(0, 2, 50), rng.integers(0, 2, 50)
    weights_N = rng.exponential(size=50)
    found = balanced_accuracy(
        np.stack([decided_N, decided_N], 1) == 1,
        np.stack([y_N, weights_N * y_N], 1),
        np.stack([1 - y_N, weights_N * (1 - y_N)], 1),
    )
    expected = [
        balanced_accuracy_score(y_N, decided_N),
        balanced_accuracy_score(y_N, decided_N, sample_weight=weights_N),
    ]
    np.testing.assert_allclose(found, expected)


def test_the_first_newton_step_is_newtons():
    rng = np.random.default_rng(0)
    x_ND, folds_N = rng.normal(size=(60, 4)), np.arange(60) % 3
    y_N = (rng.random(60) < 0.3).astype(float)
    y_N[5] = np.nan
    found_N = first_newton_step(x_ND, y_N[:, None], folds_N, 0.1)[:, 0]
    for fold in range(3):
        fitted, held = folds_N != fold, folds_N == fold
        mean, scale = x_ND[fitted].mean(0), x_ND[fitted].std(0)
        z, zh = (x_ND[fitted] - mean) / scale, (x_ND[held] - mean) / scale
        known = ~np.isnan(y_N[fitted])
        p = y_N[fitted][known].mean()
        gradient = z[known].T @ (y_N[fitted][known] - p)
        weight = np.linalg.solve(p * (1 - p) * known.mean() * z.T @ z + 10 * np.eye(4), gradient)
        np.testing.assert_allclose(found_N[held], zh @ weight, rtol=1e-3, atol=1e-5)


def test_masked_images_add_nothing_to_the_step():
    """Every image has three copies whose label nobody knows."""
    rng = np.random.default_rng(0)
    x_ND, folds_N = rng.normal(size=(60, 4)), np.arange(60) % 3
    y_NK = (rng.random((60, 2)) < 0.3).astype(float)
    alone_NK = first_newton_step(x_ND, y_NK, folds_N, 0.1)
    unknown_NK = np.full((180, 2), np.nan)
    copied_NK = first_newton_step(
        np.tile(x_ND, (4, 1)), np.concatenate([y_NK, unknown_NK]), np.tile(folds_N, 4), 0.1
    )
    np.testing.assert_allclose(copied_NK, np.tile(alone_NK, (4, 1)), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("images", "width"), [(300, 40), (120, 200)])
def test_on_labels_without_a_meaning_the_step_is_the_regression(images, width):
    rng = np.random.default_rng(0)
    x_ND, folds_N = rng.normal(size=(images, width)), np.arange(images) % 5
    steps, fits = [], []
    y_ND = (rng.random((images, 40)) < 0.3).astype(float)
    step_ND = first_newton_step(x_ND, y_ND, folds_N, 0.01)
    for k in range(40):
        logits_N = np.zeros(images)
        for fitted, held, x_MR, held_HR in standardised_folds(x_ND, folds_N):
            model = LogisticRegression(C=0.01, max_iter=500).fit(x_MR, y_ND[fitted, k])
            share = y_ND[fitted, k].mean()
            logits_N[held] = model.decision_function(held_HR) - np.log(share / (1 - share))
        fits.append(balanced_accuracy_score(y_ND[:, k], logits_N > 0))
        steps.append(balanced_accuracy_score(y_ND[:, k], step_ND[:, k] > 0))
        assert np.corrcoef(logits_N, step_ND[:, k])[0, 1] > 0.99
    assert np.mean(steps) == pytest.approx(np.mean(fits), abs=0.01)
    assert np.std(steps) == pytest.approx(np.std(fits), rel=0.2)
