"""Findings exchanged among patients: exact on small cases, and at its level where nothing is known."""

from itertools import permutations

import numpy as np
import pytest

from scoring.permuted_matches import Matches, match_p, permuted_matches


def test_the_distribution_is_that_of_all_permutations():
    """Four patients with an image each: of 24 permutations each is equally likely."""
    fits_SS = np.random.default_rng(0).random((4, 4))
    matches = Matches(fits_SS=fits_SS, patients_S=np.arange(4))
    every = np.array([fits_SS[np.arange(4), list(order)].mean() for order in permutations(range(4))])
    observed, null_B = permuted_matches([matches], [1.0], draws=40_000, seed=0)
    assert observed == pytest.approx(np.diagonal(fits_SS).mean() - every.mean(), abs=2e-3)
    assert null_B.std() == pytest.approx(every.std(), rel=0.02)
    assert len(np.unique(null_B.round(6))) == len(np.unique(every.round(6)))


def test_patients_who_share_all_labels_are_exchanged_together():
    """The second label repeats the first: the sum of both spreads twice as far, not the square root of it."""
    matches = Matches(fits_SS=np.random.default_rng(1).random((6, 6)), patients_S=np.arange(6))
    _, alone_B = permuted_matches([matches], [1.0], draws=2000, seed=0)
    _, both_B = permuted_matches([matches, matches], [1.0, 1.0], draws=2000, seed=0)
    np.testing.assert_allclose(both_B, 2 * alone_B, atol=1e-9)


def test_a_patient_gives_only_what_was_found_on_it_and_keeps_its_own_in_place():
    """Patient 0 has two images, patient 1 one: either all stays or the two are exchanged."""
    fits_SS = np.array([[8.0, 16, 1], [32, 64, 1], [2, 4, 128]])
    matches = Matches(fits_SS=fits_SS, patients_S=np.array([0, 0, 1]))
    observed, null_B = permuted_matches([matches], [3.0], draws=500, seed=0)
    sums = np.unique((null_B - observed + 200).round(6))
    assert sums.tolist() == [1 + 1 + 2, 1 + 1 + 4, 200]  # the other's first or second image
    assert matches.others().tolist() == [1, 1, 3]
    assert np.isnan(Matches(fits_SS=np.ones((2, 2)), patients_S=np.zeros(2, int)).others()).all()


def test_labels_that_few_patients_have_are_permuted_among_these():
    """Of twelve patients three have the label: six permutations, each as often."""
    fits_SS = 2.0 ** np.arange(9).reshape(3, 3)
    matches = Matches(fits_SS=fits_SS, patients_S=np.array([2, 5, 11]))
    _, null_B = permuted_matches([matches], [3.0], draws=6000, seed=0)
    _, counts = np.unique(null_B.round(6), return_counts=True)
    assert len(counts) == 6 and counts.min() > 900


@pytest.mark.parametrize(
    ("width", "shared", "images", "labels"),
    [
        (0.7, 1.0, 6, 4),  # all labels of a patient lie in one place
        (0.7, 0.5, 6, 4),
        (2.5, 0.0, 1, 1),  # nearly all is hit
        (0.3, 0.0, 1, 1),  # nearly nothing is
    ],
)
def test_its_level_where_findings_know_nothing(width, shared, images, labels):
    """Labels of 5 to 12 of 16 patients with 1 to `images` images: how often "more than by chance" is said,
    where 2.5 % may be false."""
    rng = np.random.default_rng(2)
    claims = 0
    for draw in range(200):
        place_P, found_P = shared * rng.normal(size=(2, 16))
        images_P, every = rng.integers(1, images + 1, 16), []
        for usual in rng.normal(size=labels):
            chosen = np.sort(rng.choice(16, rng.integers(5, 13), replace=False))
            patients_S = np.repeat(chosen, images_P[chosen])
            own = np.sqrt(1 - shared**2) * rng.normal(size=(2, 16))[:, patients_S]
            own += 0.3 * rng.normal(size=own.shape)
            truth_S, found_S = usual + np.stack([place_P, found_P])[:, patients_S] + own
            fits_SS = (np.abs(truth_S[:, None] - found_S) < width).astype(float)
            every.append(Matches(fits_SS=fits_SS, patients_S=patients_S))
        weights = [1 / labels] * labels
        observed, _ = permuted_matches(every, weights, draws=199, seed=draw)
        claims += observed > 0 and match_p(every, weights, draws=199, seed=draw) <= 0.05
    assert claims / 200 <= 0.025 + 2 * np.sqrt(0.025 * 0.975 / 200)


def test_it_finds_what_fits():
    """Twelve patients, each found where it is and nowhere near another."""
    matches = Matches(fits_SS=np.eye(12), patients_S=np.arange(12))
    assert match_p([matches], [1.0], draws=2000, seed=0) < 0.005
    assert (
        match_p([Matches(fits_SS=np.ones((12, 12)), patients_S=np.arange(12))], [1.0], draws=99, seed=0) == 1
    )
