"""Thresholds at a wanted sensitivity or specificity, against scikit-learn and by hand."""

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from scoring.operating_points import OperatingPoint


def test_by_hand():
    scores_N = np.array([0.9, 0.8, 0.7, 0.6, 0.4, 0.3, 0.1])
    targets_N = np.array([1.0, 0, 1, 1, 0, 1, 0])
    threshold = {
        text: OperatingPoint.parse(text).threshold(targets_N, scores_N)
        for text in ("sensitivity 0.75", "sensitivity 0.76", "specificity 0.66", "specificity 0.67")
    }
    assert threshold["sensitivity 0.75"] == 0.6  # three of four positives
    assert threshold["sensitivity 0.76"] == 0.3  # needs all four
    assert threshold["specificity 0.66"] == 0.6  # spares the negatives at 0.4 and 0.1
    assert threshold["specificity 0.67"] == 0.9  # spares the one at 0.8 too


def test_it_is_the_point_of_scikit_learns_curve():
    rng = np.random.default_rng(0)
    for _ in range(50):
        targets_N = (rng.random(60) < 0.3).astype(float)
        scores_N = np.round(targets_N * 0.5 + rng.normal(size=60), 1)
        false_rate_T, sensitivity_T, threshold_T = roc_curve(targets_N, scores_N, drop_intermediate=False)
        wanted = float(rng.uniform(0.05, 1))
        found = OperatingPoint("sensitivity", wanted).threshold(targets_N, scores_N)
        assert found == threshold_T[sensitivity_T >= wanted].max()
        found = OperatingPoint("specificity", wanted).threshold(targets_N, scores_N)
        assert found == threshold_T[1 - false_rate_T >= wanted].min()


def test_a_share_that_is_met_exactly_is_met():
    scores_N = np.arange(40, dtype=float)
    targets_N = (scores_N >= 20).astype(float)
    assert OperatingPoint.parse("sensitivity 0.95").threshold(targets_N, scores_N) == 21  # 19 of 20
    assert OperatingPoint.parse("specificity 0.9").threshold(targets_N, scores_N) == 18  # 18 of 20


def test_a_specificity_that_only_deciding_for_none_has_is_infinitely_far():
    scores_N, targets_N = np.array([0.9, 0.5]), np.array([0.0, 1.0])
    assert OperatingPoint.parse("specificity 1").threshold(targets_N, scores_N) == np.inf
    assert OperatingPoint.parse("sensitivity 1").threshold(targets_N, scores_N) == 0.5


def test_masked_images_take_no_part_and_one_side_alone_has_no_threshold():
    scores_N = np.array([0.9, 0.8, 0.2])
    point = OperatingPoint.parse("sensitivity 0.5")
    assert point.threshold(np.array([np.nan, 1, 0]), scores_N) == 0.8
    assert np.isnan(point.threshold(np.array([1.0, 1, np.nan]), scores_N))
    assert np.isnan(point.threshold(np.array([0.0, 0, 0]), scores_N))


@pytest.mark.parametrize("text", ["sensitivity 0.95", "specificity 1.0", "sensitivity 1e-05"])
def test_it_is_written_as_it_is_read(text):
    assert str(OperatingPoint.parse(f" {text} ")) == text


@pytest.mark.parametrize(
    "text", ["sensitivity", "recall 0.9", "sensitivity 95", "sensitivity 0", "specificity nan", "0.95", ""]
)
def test_anything_else_is_refused(text):
    with pytest.raises(
        ValueError, match="must be sensitivity or specificity and a number above 0 and at most 1"
    ):
        OperatingPoint.parse(text)
