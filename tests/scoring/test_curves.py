"""ROC and precision-recall curves, against scikit-learn and by hand, and their bands."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import precision_recall_curve, roc_auc_score, roc_curve

from scoring.curves import GRID, bands, curves, precision_at, sensitivity_at, share_interval
from scoring.effective_patients import LabelPatients
from scoring.resampling import patient_weights


@pytest.fixture
def drawn():
    """Targets, scores with ties, patients of 300 images."""
    rng = np.random.default_rng(0)
    targets_N = (rng.random(300) < 0.3).astype(float)
    return targets_N, np.round(targets_N + rng.normal(size=300), 1), np.sort(rng.integers(0, 200, 300))


def test_by_hand():
    # Falling: positive, a tie of a positive and a negative, negative; the masked image does not count.
    found = curves(np.array([1.0, 1, 0, 0, np.nan]), np.array([0.9, 0.5, 0.5, 0.1, 0.95]))
    np.testing.assert_allclose(found.sensitivity[:, 0], [0.5, 1, 1])
    np.testing.assert_allclose(found.false_positive_rate[:, 0], [0, 0.5, 1])
    np.testing.assert_allclose(found.precision[:, 0], [1, 2 / 3, 0.5])
    # Half way along the tie: a straight line from (0, 0.5) to (0.5, 1).
    np.testing.assert_allclose(sensitivity_at(found, np.array([0.25, 0.75]))[:, 0], [0.75, 1])
    np.testing.assert_allclose(precision_at(found, np.array([0.5, 0.6]))[:, 0], [1, 2 / 3])


def test_they_are_scikit_learns(drawn):
    targets_N, scores_N, _ = drawn
    found = curves(targets_N, scores_N)
    false_rate_T, sensitivity_T, _ = roc_curve(targets_N, scores_N, drop_intermediate=False)
    np.testing.assert_allclose(found.false_positive_rate[:, 0], false_rate_T[1:])
    np.testing.assert_allclose(found.sensitivity[:, 0], sensitivity_T[1:])
    precision_T, recall_T, _ = precision_recall_curve(targets_N, scores_N)
    np.testing.assert_allclose(found.precision[:, 0], precision_T[-2::-1])
    np.testing.assert_allclose(found.sensitivity[:, 0], recall_T[-2::-1])
    area = np.trapezoid(sensitivity_at(found, np.linspace(0, 1, 5001))[:, 0], np.linspace(0, 1, 5001))
    assert area == pytest.approx(roc_auc_score(targets_N, scores_N), abs=1e-3)


def test_under_weights_they_are_scikit_learns(drawn):
    targets_N, scores_N, patients_N = drawn
    weights_PB = patient_weights(200, 3, seed=1)
    found = curves(targets_N, scores_N, patients_N, weights_PB)
    for b in range(3):
        weight_N = weights_PB[patients_N, b].astype(float)
        options = {"sample_weight": weight_N, "drop_intermediate": False}
        false_rate_T, sensitivity_T, _ = roc_curve(targets_N, scores_N, **options)
        np.testing.assert_allclose(found.false_positive_rate[:, b], false_rate_T[1:], rtol=1e-6)
        np.testing.assert_allclose(found.sensitivity[:, b], sensitivity_T[1:], rtol=1e-6)
        precision_T, _, _ = precision_recall_curve(targets_N, scores_N, sample_weight=weight_N)
        np.testing.assert_allclose(found.precision[:, b], precision_T[-2::-1], rtol=1e-6)


def test_a_band_is_the_interval_of_each_place_by_itself(drawn):
    targets_N, scores_N, patients_N = drawn
    weights_PB = patient_weights(200, 300, seed=1)  # more than are taken at a time
    roc, precision = bands(targets_N, scores_N, patients_N, weights_PB)
    whole, resampled = (curves(targets_N, scores_N, *more) for more in ((), (patients_N, weights_PB)))
    label = LabelPatients(targets_NC=targets_N[:, None], rows_N=patients_N)
    patients, positives = label.effective_C[0], label.sides_2C[0, 0]
    for g in (5, 30):
        place = GRID[g : g + 1]
        found_by_then = GRID[g] * positives
        decided = found_by_then / precision_at(whole, place)[0, 0]
        for band, at, behind, number in (
            (roc, sensitivity_at, patients, positives),
            (precision, precision_at, min(patients, found_by_then), decided),
        ):
            wanted = share_interval(at(whole, place)[0, 0], at(resampled, place)[0], behind, number)
            np.testing.assert_allclose((band.low[g], band.high[g]), wanted)
    known_G = GRID >= 1 / len(np.unique(patients_N[targets_N == 0]))
    np.testing.assert_array_equal(np.isfinite(roc.low), known_G)
    assert (roc.low[known_G] <= roc.high[known_G]).all()
    assert roc.low[known_G].min() >= 0 and roc.high[known_G].max() <= 1


def test_the_precision_has_no_interval_from_the_last_positive_patient_on():
    targets_N = np.repeat([1.0, 0.0], [10, 40])
    scores_N = targets_N + np.random.default_rng(0).normal(size=50)
    _, precision = bands(targets_N, scores_N, np.arange(50), patient_weights(50, 100, seed=0))
    np.testing.assert_array_equal(np.isnan(precision.low), GRID > 0.9)


def test_the_sensitivity_has_no_interval_before_the_first_negative_patient():
    targets_N = np.repeat([1.0, 0.0], [40, 10])
    scores_N = targets_N + np.random.default_rng(0).normal(size=50)
    roc, _ = bands(targets_N, scores_N, np.arange(50), patient_weights(50, 100, seed=0))
    np.testing.assert_array_equal(np.isnan(roc.low), GRID < 0.1)


@pytest.mark.slow
def test_nine_in_ten_places_of_a_curve_lie_in_their_band():
    """Normal scores of known curves, 10 positive patients."""
    rng, covered = np.random.default_rng(0), []
    targets_N = np.repeat([1.0, 0.0], [10, 70])
    apart = 1.2
    false_rate_G = stats.norm.sf(stats.norm.isf(GRID) + apart)
    true_sensitivity_G = stats.norm.sf(stats.norm.isf(GRID) - apart)
    true_precision_G = 10 * GRID / (10 * GRID + 70 * false_rate_G)
    for seed in range(300):
        scores_N = apart * targets_N + rng.normal(size=80)
        roc, precision = bands(targets_N, scores_N, np.arange(80), patient_weights(80, 200, seed))
        covered.append(
            [
                (roc.low <= true_sensitivity_G) & (true_sensitivity_G <= roc.high),
                ~((true_precision_G < precision.low) | (precision.high < true_precision_G)),
            ]
        )
    assert np.mean(covered, axis=0).min() > 0.85


def test_the_interval_of_a_share_is_the_exact_one_of_as_many_images():
    patients, images = 12, 20
    student = stats.norm.ppf(0.975) / stats.t.ppf(0.975, patients - 1)
    for share in (0.05, 0.5, 0.95):
        error = np.sqrt(share * (1 - share) / images) * student
        replicates_B = share + np.array([-1, 1]) * error * np.sqrt((patients - 1) / (patients + 1))
        exact = stats.binomtest(round(share * images), images).proportion_ci()
        np.testing.assert_allclose(share_interval(share, replicates_B, patients, 100), exact)


def test_a_share_that_no_resample_moves_has_the_exact_interval_of_its_patients():
    exact = stats.binomtest(12, 12).proportion_ci()
    np.testing.assert_allclose(share_interval(1.0, np.ones(2), 8, 12), exact)


def test_there_is_no_band_with_nine_negative_patients():
    targets_N = np.repeat([1.0, 0.0], [40, 9])
    roc, precision = bands(targets_N, np.arange(49.0), np.arange(49), patient_weights(49, 100, seed=0))
    assert all(np.isnan(ends).all() for ends in (*roc, *precision))


def test_there_is_no_band_under_ten_positive_patients():
    targets_N = np.repeat([1.0, 0.0], [9, 40])
    roc, precision = bands(targets_N, np.arange(49.0), np.arange(49), patient_weights(49, 100, seed=0))
    assert all(np.isnan(ends).all() for ends in (*roc, *precision))
