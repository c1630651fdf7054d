"""Intervals of the score table's metrics: how often they hold the truth, and what has none."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit

from scoring.effective_patients import LabelPatients
from scoring.metric_table import METRICS
from scoring.model_output import ModelOutput, Resampled
from scoring.resampling import patient_weights
from scoring.score_intervals import MetricIntervals

BY_NAME = {metric.name: metric for metric in METRICS}


def intervals(name, targets_NC, scores_NC, cut=0.0, rows_N=None, resamples=200, seed=0, **more):
    rows_N = np.arange(len(targets_NC)) if rows_N is None else rows_N
    constant = more.pop("constant", False)
    predictions = ModelOutput(
        targets_NC=targets_NC,
        scores_NC=scores_NC,
        decisions_NC=scores_NC >= cut,
        probs_NC=expit(scores_NC),
        prevalences_C=np.full(targets_NC.shape[1], 0.3),
        **more,
    )
    weights_PB = patient_weights(rows_N.max() + 1, resamples, seed)
    return MetricIntervals(
        metric=BY_NAME[name],
        resampled=Resampled(predictions=predictions, rows_N=rows_N, weights_RB=weights_PB),
        patients=LabelPatients(targets_NC=targets_NC, rows_N=rows_N),
        constant=constant,
    )


def sides(positives, negatives, shift, rng):
    targets_NC = np.repeat([1.0, 0.0], [positives, negatives])[:, None]
    return targets_NC, rng.normal(size=targets_NC.shape) + shift * targets_NC


def covered(name, truth, draw, repeats=250, cut=0.0):
    """Share of repeats whose interval of the only label holds the truth."""
    rng, held = np.random.default_rng(0), []
    for seed in range(repeats):
        low, high = intervals(name, *draw(rng), cut=cut, seed=seed).of_label(0)
        held.append(low <= truth <= high)
    return np.mean(held)


@pytest.mark.parametrize(("positives", "negatives"), [(100, 10), (10, 100), (12, 12)])
def test_auroc_is_covered_with_few_patients_on_either_side(positives, negatives):
    truth = stats.norm.cdf(1 / np.sqrt(2))
    assert covered("auroc", truth, lambda rng: sides(positives, negatives, 1.0, rng)) >= 0.93


def test_mcc_of_decisions_by_chance_is_covered():
    """A decision in fifty images, so that often no positive is decided for: 64 % on the logit scale alone."""
    cut = stats.norm.ppf(0.98)
    assert covered("mcc", 0.0, lambda rng: sides(10, 300, 0.0, rng), cut=cut) >= 0.93


def test_brier_skill_of_almost_perfect_predictions_is_covered_and_at_most_1():
    def draw(rng, images=120):
        targets_NC = (rng.random((images, 1)) < 1 / 6).astype(float)
        return targets_NC, 3.3 * (rng.normal(size=targets_NC.shape) + 3.3 * targets_NC - 1.65) - 1

    endless = intervals("brier_skill", *draw(np.random.default_rng(1), 300_000), resamples=1)
    truth = BY_NAME["brier_skill"].values(endless.resampled.predictions)[0]
    assert truth > 0.7
    assert covered("brier_skill", truth, draw) >= 0.9
    highest = [
        intervals("brier_skill", *draw(np.random.default_rng(n), 60)).of_label(0)[1] for n in range(40)
    ]
    assert np.nanmax(highest) <= 1


@pytest.mark.parametrize("name", ["brier", "precision", "f1", "mcc", "average_precision"])
def test_what_depends_on_the_prevalence_is_covered_where_the_prevalence_is_drawn(name):
    def draw(rng, images=150):
        targets_NC = (rng.random((images, 1)) < 0.3).astype(float)
        return targets_NC, rng.normal(size=targets_NC.shape) + 1.5 * targets_NC - 1

    targets_NC, scores_NC = draw(np.random.default_rng(1), 300_000)
    truth = BY_NAME[name].values(intervals(name, targets_NC, scores_NC, resamples=1).resampled.predictions)[0]
    assert covered(name, truth, draw) >= 0.92


def clustered_classes(rng, patients):
    rows_N = np.repeat(np.arange(patients), rng.integers(1, 11, patients))
    targets_NC = np.eye(4)[rng.choice(4, patients, p=[0.4, 0.3, 0.2, 0.1])[rows_N]]
    of_patient_PC = rng.normal(size=(patients, 4))
    scores_NC = 1.5 * targets_NC + (of_patient_PC[rows_N] + rng.normal(size=targets_NC.shape)) / np.sqrt(2)
    return targets_NC, np.eye(4)[scores_NC.argmax(axis=1)], rows_N


GRADED = ("quadratic_kappa", "mean_absolute_error")


@pytest.mark.parametrize("name", ["precision", "accuracy", "cohen_kappa", "balanced_accuracy", *GRADED])
def test_multiclass_labels_of_patients_with_up_to_ten_images_are_covered(name):
    def found(targets_NC, decided_NC, rows_N):
        return intervals(
            name, targets_NC, decided_NC, 0.5, rows_N, resamples=1, multiclass=True, ordinal=name in GRADED
        )

    rng, held = np.random.default_rng(0), []
    endless = found(*clustered_classes(rng, 20_000))
    truth = np.mean(BY_NAME[name].values(endless.resampled.predictions))
    for _ in range(150):
        one = found(*clustered_classes(rng, 80))
        average = BY_NAME[name].scope in ("label", "class")
        low, high = one.of_average(np.ones(4, dtype=bool)) if average else one.of_all()
        held.append(low <= truth <= high)
    assert np.mean(held) >= 0.91


def test_an_average_with_perfect_labels_is_no_point():
    targets_NC = np.repeat([[1.0, 1.0], [0.0, 0.0]], [12, 40], axis=0)
    both_C = np.ones(2, dtype=bool)
    for name in ("auroc", "average_precision", "precision", "recall", "f1", "mcc"):
        low, high = intervals(name, targets_NC, 2 * targets_NC - 1).of_average(both_C)
        assert low < 0.95 and high == pytest.approx(1), name


def test_the_average_over_one_label_has_the_interval_of_that_label():
    targets_NC, scores_NC = sides(12, 40, 1.0, np.random.default_rng(0))
    for name in BY_NAME:
        if BY_NAME[name].scope == "label":
            found = intervals(name, targets_NC, scores_NC, cut=0.7)
            assert found.of_average(np.ones(1, dtype=bool)) == pytest.approx(found.of_label(0), abs=1e-6), (
                name
            )


def test_the_mean_sensitivity_of_labels_with_few_positives_is_covered():
    """Jeffreys' limits of each do not reach as far as three images may lie from the truth."""
    rng, held = np.random.default_rng(0), []
    targets_NC = np.repeat(np.eye(5)[:, :4], [3, 3, 3, 3, 60], axis=0)
    for _ in range(300):
        found = intervals("recall", targets_NC, rng.normal(size=targets_NC.shape), resamples=1)
        low, high = found.of_average(np.ones(4, dtype=bool))
        held.append(low <= 0.5 <= high)
    assert np.mean(held) >= 0.93


def test_complementary_labels_have_the_same_auroc_and_the_same_interval():
    rng = np.random.default_rng(0)
    targets_NC, scores_NC = sides(39, 12, 1.0, rng)
    found = intervals("auroc", np.hstack([targets_NC, 1 - targets_NC]), np.hstack([scores_NC, -scores_NC]))
    assert found.of_label(0) == pytest.approx(found.of_label(1), abs=1e-5)


@pytest.mark.parametrize(
    ("positives", "negatives", "known"), [(100, 9, False), (9, 100, False), (10, 10, True)]
)
def test_a_label_has_an_interval_from_ten_patients_on_its_smaller_side_on(positives, negatives, known):
    targets_NC, scores_NC = sides(positives, negatives, 1.0, np.random.default_rng(0))
    for name in ("auroc", "precision", "recall", "mcc", "brier", "brier_skill"):
        ends = intervals(name, targets_NC, scores_NC).of_label(0)
        assert np.isfinite(ends).all() == known


def test_an_average_counts_each_patient_on_the_smaller_sides_once():
    rng = np.random.default_rng(0)
    for negatives, known in ((9, False), (10, True)):
        targets_NC, scores_NC = sides(39, negatives, 1.0, rng)
        both_NC = np.hstack([targets_NC, 1 - targets_NC]), np.hstack([scores_NC, -scores_NC])
        for name in ("auroc", "average_precision", "recall", "mcc"):
            assert np.isfinite(intervals(name, *both_NC).of_average(np.ones(2, dtype=bool))).all() == known
    apart_NC = np.repeat(np.eye(3)[:, :2], [5, 5, 40], axis=0)  # two labels of five other patients each
    found = intervals("auroc", apart_NC, rng.normal(size=apart_NC.shape) + apart_NC)
    assert np.isfinite(found.of_average(np.ones(2, dtype=bool))).all()


def test_of_a_constant_model_only_what_depends_on_the_prevalence_is_uncertain():
    targets_NC, _ = sides(39, 20, 0.0, np.random.default_rng(0))
    ones_NC = np.ones_like(targets_NC)
    for name, value in (("auroc", 0.5), ("recall", 1.0), ("mcc", 0.0)):
        assert intervals(name, targets_NC, ones_NC, constant=True).of_label(0) == (value, value)
    for name in ("precision", "average_precision"):
        low, high = intervals(name, targets_NC, ones_NC, constant=True).of_label(0)
        assert low < 0.6 and high > 0.7
    assert intervals("precision", targets_NC, -ones_NC, constant=True).of_label(0) == (0, 0)


def test_patients_with_ten_like_images_are_no_more_than_patients_with_one():
    targets_NC, scores_NC = sides(20, 60, 1.0, np.random.default_rng(0))
    tenfold = [np.repeat(one_NC, 10, axis=0) for one_NC in (targets_NC, scores_NC)]
    for name in ("auroc", "average_precision", "precision", "f1", "mcc", "brier"):
        once = intervals(name, targets_NC, scores_NC).of_label(0)
        often = intervals(name, *tenfold, rows_N=np.repeat(np.arange(80), 10)).of_label(0)
        assert often == pytest.approx(once, abs=0.02), name


def test_an_average_has_an_interval_by_its_patients_though_few_of_them_have_most_images():
    targets_NC, scores_NC = sides(10, 30, 1.0, np.random.default_rng(0))
    images_P = np.r_[40, np.ones(39, dtype=int)]  # effectively two positive patients
    rows_N = np.repeat(np.arange(40), images_P)
    for name in ("average_precision", "auroc", "brier_skill"):
        found = intervals(name, targets_NC[rows_N], scores_NC[rows_N], rows_N=rows_N)
        assert found.patients.effective_C[0] == 2
        assert np.isfinite(found.of_average(np.ones(1, dtype=bool))).all(), name
