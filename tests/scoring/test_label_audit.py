"""Confident learning, by hand and on labels that were flipped on purpose."""

import numpy as np
import pytest

from scoring.label_audit import contradictions

NAN = np.nan


def test_a_label_worked_by_hand():
    """Positives have 0.9, 0.7 and 0.2, so 0.6 on average; negatives 0.1, 0.3 and 0.8, absent with 0.6 on
    average. The positive of 0.2 is absent with 0.8 and the negative of 0.8 present: both are contradicted."""
    targets_NC = np.array([[1], [1], [1], [0], [0], [0]], dtype=float)
    probs_NC = np.array([[0.9], [0.7], [0.2], [0.1], [0.3], [0.8]])
    found = contradictions(targets_NC, probs_NC)
    assert found.contradicted_NC[:, 0].tolist() == [False, False, True, False, False, True]
    np.testing.assert_allclose(found.quality_NC[:, 0], [0.9, 0.7, 0.2, 0.9, 0.7, 0.2])
    # Those that say present: 0.9, 0.7, 0.8; absent: 0.2, 0.1, 0.3.
    assert found.expected_C[0] == pytest.approx(0.1 + 0.3 + 0.2 + 0.2 + 0.1 + 0.3)


def test_what_is_likelier_as_given_is_not_contradicted():
    """The label's images have 0.02 on average, and the fourth 0.03, more than they: an absent label all the
    same, as the probability itself says. The fifth is present and 0.005."""
    targets_NC = np.array([[1], [1], [0], [0], [1], [0], [0]], dtype=float)
    probs_NC = np.array([[0.02], [0.03], [0.001], [0.03], [0.005], [0.002], [0.003]])
    found = contradictions(targets_NC, probs_NC)
    assert np.flatnonzero(found.contradicted_NC[:, 0]).tolist() == [4]
    # Of those as surely absent as the absent ones are on average, 0.991.
    assert found.expected_C[0] == pytest.approx(0.001 + 0.005 + 0.002 + 0.003)
    # Of multiclass labels the likeliest is the given one.
    targets_NC = np.eye(2)[[0, 0, 0, 1]]
    probs_NC = np.array([[0.99, 0.01], [0.8, 0.2], [0.9, 0.1], [0.9, 0.1]])
    found = contradictions(targets_NC, probs_NC, multiclass=True)
    assert not found.contradicted_NC[:3].any()


def test_masked_entries_and_images_without_a_score_take_no_part():
    targets_NC = np.array([[1.0], [0.0], [NAN], [0.0]])
    probs_NC = np.array([[0.9], [0.1], [0.99], [NAN]])
    found = contradictions(targets_NC, probs_NC)
    assert not found.contradicted_NC.any()
    assert np.isnan(found.quality_NC[2:]).all()


def test_a_label_without_positives_is_never_contradicted():
    assert not contradictions(np.zeros((4, 1)), np.array([[0.1], [0.9], [0.5], [0.2]])).contradicted_NC.any()


def drawn(flips, seed=0, images=4000):
    """Calibrated probabilities, labels drawn from them, some of them flipped afterwards."""
    rng = np.random.default_rng(seed)
    probs_NC = 1 / (1 + np.exp(-(rng.normal(size=(images, 2)) * 3 - 1)))
    right_NC = (rng.random(probs_NC.shape) < probs_NC).astype(float)
    flipped_NC = np.zeros(probs_NC.shape, dtype=bool)
    for c in range(2):
        flipped_NC[rng.choice(images, flips, replace=False), c] = True
    return np.where(flipped_NC, 1 - right_NC, right_NC), probs_NC, flipped_NC


def test_flipped_labels_are_among_the_first():
    """Of the hundred least believed labels nearly all were flipped, where one in twenty would
    be by chance."""
    targets_NC, probs_NC, flipped_NC = drawn(flips=200)
    found = contradictions(targets_NC, probs_NC)
    for c in range(2):
        first = np.argsort(found.quality_NC[:, c])[:50]
        assert flipped_NC[first, c].mean() > 0.6
    assert found.contradicted_NC[flipped_NC].mean() > 0.5 > found.contradicted_NC[~flipped_NC].mean() * 8


def test_of_right_labels_as_many_are_contradicted_as_is_expected():
    targets_NC, probs_NC, _ = drawn(flips=0)
    found = contradictions(targets_NC, probs_NC)
    np.testing.assert_allclose(found.contradicted_NC.sum(axis=0), found.expected_C, rtol=0.25)
    assert (found.expected_C > 20).all()


def test_a_multiclass_image_is_contradicted_in_the_given_and_the_suggested_label():
    targets_NC = np.eye(3)[[0, 0, 1, 1, 2, 2]]
    probs_NC = np.array(
        [[0.9, 0.05, 0.05], [0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.2, 0.7, 0.1], [0, 0.1, 0.9], [0.1, 0.2, 0.7]]
    )
    found = contradictions(targets_NC, probs_NC, multiclass=True)
    assert np.argwhere(found.contradicted_NC).tolist() == [[1, 0], [1, 1]]
