"""Intervals of shares against scipy's, by hand, and their coverage where patients have several images."""

import numpy as np
import pytest
from scipy import stats

from scoring.intervals import correlations
from scoring.shares import Shares, beta_limits


def of_patients(hits_P, entries_P, whole=True):
    columns = (np.array(one, dtype=float)[:, None] for one in (hits_P, entries_P))
    return Shares(**dict(zip(("hits_PC", "entries_PC"), columns, strict=True)), whole=whole)


@pytest.mark.parametrize(("hits", "entries"), [(2, 2), (0, 2), (0, 200), (7, 30), (29, 30), (1, 1)])
def test_with_one_entry_a_patient_it_is_scipys_exact_interval(hits, entries):
    shares = of_patients(np.arange(entries) < hits, np.ones(entries))
    exact = stats.binomtest(hits, entries).proportion_ci(0.95, method="exact")
    assert np.array(shares.exact())[:, 0] == pytest.approx([exact.low, exact.high])


def test_precision_one_from_two_decisions_is_0_158_to_1():
    low_C, high_C = of_patients([1, 1, 0], [1, 1, 0]).exact()
    assert low_C[0] == pytest.approx(0.158, abs=5e-4) and high_C[0] == 1


def test_without_an_entry_nothing_is_known():
    shares = of_patients([0, 0], [0, 0])
    assert (shares.value_C[0], *np.array(shares.exact())[:, 0]) == (0, 0, 1)


def test_jeffreys_limits_are_those_of_the_beta_distribution():
    low, high = beta_limits(np.array([0.3, 0.0]), np.array([10.0, 10.0]), exact=False)
    assert low == pytest.approx([stats.beta.ppf(0.025, 3.5, 7.5), 0])
    assert high == pytest.approx([stats.beta.ppf(0.975, 3.5, 7.5), stats.beta.ppf(0.975, 0.5, 10.5)])


def test_where_all_are_hits_the_entries_of_a_patient_count_as_alike():
    # 4 + 1 + 1 entries, all hits: Kish's (6)^2 / (16 + 1 + 1) = 2.
    assert of_patients([4, 1, 1], [4, 1, 1]).effective_C[0] == pytest.approx(2)


def test_the_design_effect_by_hand():
    # 8 patients with 2 entries, 4 of them all hits and 4 none: every estimate and the worst case are 2.
    assert of_patients([2, 2, 2, 2, 0, 0, 0, 0], np.full(8, 2)).effective_C[0] == pytest.approx(8)
    # Each has one hit and one miss: no variance, so 1 where 8 patients show it, 2 of the weight of ten.
    expected = 16 / ((8 * 1 + 10 * 2) / 18)
    assert of_patients(np.ones(8), np.full(8, 2)).effective_C[0] == pytest.approx(expected)


def test_hits_in_part_vary_less_than_yes_and_no_and_have_a_shorter_interval():
    parts_P = np.random.default_rng(0).uniform(0.1, 0.3, 300)
    (low,), (high,) = of_patients(parts_P, np.ones(300), whole=False).exact()
    error = parts_P.std() / np.sqrt(300)
    exact = stats.binomtest(60, 300).proportion_ci()
    assert 2 * 1.96 * error < high - low < 0.5 * (exact.high - exact.low)


def test_shares_of_the_same_images_are_correlated_as_their_means():
    rng = np.random.default_rng(0)
    first = rng.random(400) < 0.4
    second = np.where(rng.random(400) < 0.5, first, rng.random(400) < 0.4)
    both_NC = np.column_stack([first, second, np.ones(400)])
    found_CC = correlations(Shares.of_images(both_NC, np.ones((400, 3)), np.arange(400)).residual_PC.T)
    assert found_CC[0, 1] == pytest.approx(np.corrcoef(first, second)[0, 1])
    np.testing.assert_array_equal(found_CC[2], [0, 0, 1])


SIZES = {
    "1 to 10": lambda rng, patients: rng.integers(1, 11, patients),
    "heavy tails": lambda rng, patients: np.minimum(np.ceil(rng.pareto(1.5, patients)), 60).clip(1),
}


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("alike", [0.3, 1.0])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_clustered_shares_are_covered(sizes, alike, share):
    """40 patients, entries alike within a patient to some degree; 300 repeats at 95 % show 92 % or more."""
    rng, held = np.random.default_rng(0), []
    for _ in range(300):
        entries_P = SIZES[sizes](rng, 40).astype(int)
        spread = max(1 / alike - 1, 1e-6)
        own_P = rng.beta(share * spread, (1 - share) * spread, 40)
        own_P = np.where(own_P > 0, own_P, 0)
        low_C, high_C = of_patients(rng.binomial(entries_P, own_P), entries_P).exact()
        held.append(low_C[0] <= share <= high_C[0])
    assert np.mean(held) >= 0.92
