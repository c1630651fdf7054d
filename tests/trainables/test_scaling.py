"""Logits brought onto one scale, against scikit-learn and by what must not matter."""

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression

from trainables.scaling import affine, temperature


def drawn(images=4000, seed=0):
    rng = np.random.default_rng(seed)
    targets_MC = (rng.random((images, 3)) < [0.5, 0.2, 0.1]).astype(np.float64)
    logits_MC = 5 * (targets_MC + rng.normal(0, 1, targets_MC.shape)) + [3, -2, 0]
    targets_MC[::7, 1] = np.nan
    return logits_MC, targets_MC


def test_candidates_are_put_on_one_scale_by_the_least_cross_entropy():
    """scikit-learn's logistic regression with one slope and an intercept a label, unpenalised."""
    logits_MC, targets_MC = drawn()
    slope, intercept_C = affine(logits_MC, targets_MC)
    known_E = ~np.isnan(targets_MC.ravel())
    design_EF = np.column_stack([logits_MC.ravel(), np.tile(np.eye(3), (4000, 1))])
    model = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-8, max_iter=5000)
    model.fit(design_EF[known_E], targets_MC.ravel()[known_E])
    assert slope == pytest.approx(model.coef_[0, 0], rel=0.01)
    np.testing.assert_allclose(intercept_C, model.coef_[0, 1:], atol=0.03)
    shares_C = np.nanmean(targets_MC, axis=0)
    probs_MC = np.where(np.isnan(targets_MC), np.nan, expit(slope * logits_MC + intercept_C))
    np.testing.assert_allclose(np.nanmean(probs_MC, axis=0), shares_C, atol=2e-3)


def test_logits_that_separate_the_classes_get_a_finite_scale():
    targets_MC = np.repeat([[1.0, 0.0], [0.0, 1.0]], 20, axis=0)
    slope, intercept_C = affine(10 * (2 * targets_MC - 1), targets_MC)
    assert 0.1 < slope < 3 and np.isfinite(intercept_C).all()


@pytest.mark.parametrize("factor", [1e-4, 6e-3, 1.0, 1e4])
@pytest.mark.parametrize("fit", [affine, temperature])
def test_the_scale_of_the_logits_does_not_matter(fit, factor):
    """Deviations of 0.03, as a text-informed candidate has, want a slope of 33 and get it: what is averaged
    is the same."""
    logits_MC, targets_MC = drawn(600)
    if fit is temperature:
        targets_MC = np.eye(3)[np.nan_to_num(targets_MC).argmax(axis=1)]
    slope, intercept_C = fit(logits_MC, targets_MC)
    scaled_slope, scaled_intercept_C = fit(factor * logits_MC, targets_MC)
    assert scaled_slope * factor == pytest.approx(slope, rel=1e-5)
    np.testing.assert_allclose(scaled_intercept_C, intercept_C, rtol=1e-5, atol=1e-6)


def test_logits_that_are_constant_but_for_rounding_are_not_blown_up():
    logits_MC = np.full((200, 2), -2.0)
    logits_MC[::2] += 2e-7
    targets_MC = np.zeros((200, 2))
    targets_MC[::4] = 1
    slope, intercept_C = affine(logits_MC, targets_MC)
    assert 0 < slope <= 2
    np.testing.assert_allclose(expit(slope * logits_MC + intercept_C), 0.25, atol=1e-3)


def test_a_candidate_that_ranks_the_wrong_way_round_is_muted():
    logits_MC, targets_MC = drawn(600)
    slope, _ = affine(-logits_MC, targets_MC)
    assert 0 < slope * logits_MC.std() < 0.01


def test_a_temperature_has_the_least_cross_entropy():
    rng = np.random.default_rng(0)
    truth_M = rng.integers(0, 3, 240)
    logits_MC = 20 * (np.eye(3)[truth_M] + rng.normal(0, 0.8, (240, 3)))
    slope, intercept_C = temperature(logits_MC, np.eye(3)[truth_M])
    losses = [
        -np.log(softmax(factor * slope * logits_MC, axis=1)[np.arange(240), truth_M]).mean()
        for factor in (0.9, 1.0, 1.1)
    ]
    assert losses[1] < min(losses[0], losses[2]) and not intercept_C.any()
