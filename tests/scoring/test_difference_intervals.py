"""Intervals of differences and margins of equivalence, against cases worked by hand and exact limits."""

import numpy as np
import pytest
from scipy import stats

from scoring import metrics
from scoring.difference_intervals import difference, most_by_one_patient, patients_for_equivalence
from scoring.intervals import spread


def nothing(labels=1):
    """Two models that answer alike: no difference in any resample."""
    return np.zeros(labels), np.zeros((labels, 50))


def test_two_models_that_agree_on_few_patients_are_not_known_to_be_equal():
    """By hand: 12 patients, no difference: +- t(11) / 14 = 2.201 / 14."""
    found = difference(*nothing(), np.array([12]), 12, one_patient=1 / 12)
    assert (found.low, found.high) == pytest.approx((-0.1572, 0.1572), abs=1e-4)
    assert found.within == pytest.approx(2.201**2 / 12, abs=1e-3)


def test_an_interval_adds_the_floor_to_the_resamples_error():
    replicates_CB = np.random.default_rng(0).normal(0.1, 0.05, size=(1, 4000))
    found = difference(np.array([0.1]), replicates_CB, np.array([30]), 30, one_patient=1 / 30)
    error = np.hypot(spread(replicates_CB[0], 30), 1 / 32)
    assert found.high - found.value == pytest.approx(stats.t.ppf(0.975, 29) * error)
    assert found.value - found.low == pytest.approx(found.high - found.value)


def test_the_floor_of_an_average_is_that_of_its_labels():
    patients_C = np.array([10, 20])
    found = difference(*nothing(2), patients_C, 30, one_patient=1 / 20)
    floor_C = 1 / (patients_C + 2)
    freedom = (floor_C**2).sum() ** 2 / (floor_C**4 / (patients_C - 1)).sum()
    wanted = stats.t.ppf(0.975, freedom) * np.sqrt((floor_C**2).sum()) / 2
    assert found.high == pytest.approx(wanted)


def test_labels_that_move_together_are_as_uncertain_as_one():
    one_B = np.random.default_rng(1).normal(0, 0.1, size=4000)
    single = difference(np.zeros(1), one_B[None], np.array([25]), 25, 1 / 25)
    both = difference(np.zeros(2), np.stack([one_B, one_B]), np.array([25, 25]), 25, 1 / 25)
    assert both.within == pytest.approx(single.within)


def test_an_interval_stays_within_what_a_difference_can_be_and_needs_two_patients():
    far = difference(np.array([0.9]), np.full((1, 9), 0.9), np.array([3]), 3, 1 / 3)
    assert far.high == 1.0
    lone = difference(*nothing(2), np.array([40, 1]), 41, 1 / 80)
    assert lone.value == 0 and np.isnan([lone.low, lone.high, lone.within]).all()


@pytest.mark.parametrize("events", [0, 1, 3, 8])
def test_the_margin_is_at_least_the_exact_upper_limit_of_so_many_events(events):
    """One model worse on `events` patients of 500, each of whom costs 1 / 500: Poisson's exact limit."""
    patients = 500
    exact = stats.chi2.ppf(0.975, 2 * (events + 1)) / 2 / patients
    fell_P = np.zeros(patients)
    fell_P[:events] = 1
    weights_PB = np.random.default_rng(0).standard_exponential((patients, 4000))
    replicates_CB = (fell_P @ weights_PB / weights_PB.sum(axis=0))[None]
    found = difference(np.array([fell_P.mean()]), replicates_CB, np.array([patients]), patients, 1 / patients)
    assert found.within == pytest.approx(exact, rel=0.07) and found.within > 0.98 * exact


def moved_most(metric, targets_N, worst):
    """How far a metric falls where the scores of `worst` patients become the least favourable."""
    scores_N = targets_N + np.linspace(0, 0.1, len(targets_N))
    return max(
        _of(metric, targets_N, scores_N) - _of(metric, targets_N, _turned(scores_N, targets_N, p))
        for p in worst
    )


def _turned(scores_N, targets_N, patient):
    turned_N = scores_N.copy()
    turned_N[patient] = -9 if targets_N[patient] else 9
    return turned_N


def _of(metric, targets_N, scores_N):
    if metric == "f1":
        return metrics.f1(metrics.confusion(targets_N[:, None], scores_N[:, None] > 0.5))[0]
    return getattr(metrics, metric)(targets_N[:, None], scores_N[:, None])[0]


@pytest.mark.parametrize("metric", ["auroc", "average_precision", "f1"])
@pytest.mark.parametrize(("positives", "negatives"), [(4, 9), (9, 4), (5, 5)])
def test_no_single_patient_moves_a_metric_by_more(metric, positives, negatives):
    targets_N = np.repeat([1.0, 0.0], [positives, negatives])
    bound = most_by_one_patient(metric, targets_N[:, None], np.arange(len(targets_N)))
    moved = moved_most(metric, targets_N, range(len(targets_N)))
    assert moved <= bound + 1e-12
    if metric == "auroc":
        assert moved == pytest.approx(bound)


def test_one_patient_with_all_labels_moves_all_of_them():
    apart_NC = np.array([[1, 0], [0, 1], [0, 0], [0, 0], [0, 0]], dtype=float)
    together_NC = np.array([[1, 1], [0, 0], [0, 0], [0, 0], [0, 0]], dtype=float)
    # By hand: the positive of one label, worth 1, is one of four negatives of the other.
    assert most_by_one_patient("auroc", apart_NC, np.arange(5)) == pytest.approx((1 + 1 / 4) / 2)
    assert most_by_one_patient("auroc", together_NC, np.arange(5)) == 1


def test_complementary_labels_are_as_uncertain_as_each_other():
    targets_N = np.repeat([1.0, 0.0], [39, 9])
    both_NC = np.stack([targets_N, 1 - targets_N], axis=1)
    shares = [
        most_by_one_patient("auroc", both_NC[:, columns], np.arange(48)) for columns in ([0], [1], [0, 1])
    ]
    assert shares == pytest.approx([1 / 9] * 3)


def test_how_many_patients_equivalence_takes():
    """By hand: 20 of 100 patients are positive; 1.96^2 / 0.02 = 192 of them are needed, 961 in all."""
    assert patients_for_equivalence(0.02, 1 / 20, 100) == 961
