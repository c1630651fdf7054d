"""What chance gives: permutations that keep patients together, p-values by hand and by simulation."""

import numpy as np
import pytest

from scoring.chance import adjusted_p, chance_p, shuffled_rows


def test_dealing_labels_anew_keeps_patients_together_and_counts_where_it_can():
    rng = np.random.default_rng(0)
    single_N = rng.permutation(30)
    rows_ND = shuffled_rows(single_N, 200, seed=0)
    np.testing.assert_array_equal(np.sort(rows_ND, axis=0), np.arange(30)[:, None].repeat(200, 1))
    assert len({tuple(column) for column in rows_ND.T}) == 200
    patients_N = np.repeat(np.arange(60), rng.integers(1, 6, 60))
    rng.shuffle(patients_N)
    rows_ND = shuffled_rows(patients_N, 50, seed=0)
    sizes = np.bincount(patients_N)
    for column in rows_ND.T:
        sources = [np.unique(patients_N[column[patients_N == patient]]) for patient in range(60)]
        assert all(len(one) == 1 for one in sources)  # all labels of a patient come from one other
        assert sorted(int(one[0]) for one in sources) == list(range(60))  # and each patient gives once
        moved = np.array([sizes[one[0]] for one in sources])
        assert np.abs(moved - sizes).mean() < 1  # to one of about as many images
    assert (shuffled_rows(patients_N, 3, seed=1) == shuffled_rows(patients_N, 3, seed=1)).all()


def test_labels_are_stretched_over_another_number_of_images():
    patients_N = np.array([0, 0, 0, 0, 1, 1])
    found = {tuple(column) for column in shuffled_rows(patients_N, 40, seed=0).T}
    assert found == {(0, 1, 2, 3, 4, 5), (4, 4, 5, 5, 0, 2)}


def test_a_p_value_by_hand():
    null_B = np.array([0.1, 0.2, 0.3, np.nan, 0.4])
    assert chance_p(0.3, null_B) == pytest.approx(3 / 5)
    assert chance_p(0.5, null_B) == pytest.approx(1 / 5)
    assert np.isnan(chance_p(np.nan, null_B)) and np.isnan(chance_p(0.1, null_B[3:4]))


def test_adjusted_p_holds_each_label_against_the_largest_of_all():
    null_CB = np.array([[0.0, 1, 2, 3], [30.0, 20, 10, 0]])
    # Both have the chances -1.34, -0.45, 0.45, 1.34 in their own units, in opposite order.
    found = adjusted_p(np.array([5.0, 15.0]), null_CB)
    np.testing.assert_allclose(found, [1 / 5, 1.0])
    assert np.isnan(adjusted_p(np.array([np.nan]), null_CB[:1]))[0]


def test_one_false_claim_among_many_labels_is_as_rare_as_it_says():
    rng = np.random.default_rng(0)
    claims = []
    for _ in range(300):
        draws_CB = rng.normal(size=(12, 201))
        claims.append(adjusted_p(draws_CB[:, 0], draws_CB[:, 1:]).min() <= 0.05)
    assert 0.02 < np.mean(claims) < 0.09
