"""Counts of patients by hand, and folds that keep patients together."""

import numpy as np
import pytest

from cohort.errors import InputError
from cohort.patients import (
    fewer_patients,
    fewer_side_patients,
    patient_folds,
    positive_patients,
    sides_by_patient,
)


def test_positive_patients_by_hand():
    targets = np.array([[1, 0], [1, np.nan], [0, 1], [0, 0], [1, 1]])
    patients = ["a", "a", "b", "c", "c"]
    assert positive_patients(targets, patients).tolist() == [2, 2]


def test_the_smaller_side_counts_patients_with_both_kinds_on_either_and_masked_images_on_none():
    targets = np.array([[1, 0], [1, np.nan], [0, 1], [1, 1], [1, 1]])
    patients = ["a", "a", "b", "c", "d"]
    # The first label: positive a, c, d; negative b. The second: positive b, c, d; negative a.
    assert fewer_patients(targets, patients).tolist() == [1, 1]
    assert fewer_patients([[1.0], [0.0]], ["a", "a"]).tolist() == [1]


def test_a_patient_may_be_on_both_sides_of_a_label_and_by_a_masked_image_on_none():
    targets = np.array([[1, np.nan], [0, 1], [0, np.nan]])
    positive_PC, negative_PC = sides_by_patient(targets, ["a", "a", "b"])
    assert positive_PC.tolist() == [[True, True], [False, False]]
    assert negative_PC.tolist() == [[True, False], [True, False]]


def test_patients_behind_several_labels_are_counted_once():
    target = np.array([1, 1, 1, 0, np.nan])
    complementary = np.stack([target, 1 - target], axis=1)
    assert fewer_side_patients(complementary, np.arange(5)) == 1
    apart = np.array([[1, 0], [1, 0], [0, 1], [0, 1], [0, 0], [0, 0]])
    assert fewer_side_patients(apart, np.arange(6)) == 4
    assert fewer_side_patients(apart, ["a", "a", "b", "a", "c", "d"]) == 2


def test_a_fold_keeps_patients_together_and_shares_out_rare_positives():
    rng = np.random.default_rng(0)
    patients_N = np.repeat(np.arange(200), rng.integers(1, 5, 200))
    # Label 0: five positive patients; label 1: twelve; label 2: common; label 3: none.
    positive_P4 = np.stack(
        [np.arange(200) < 5, (np.arange(200) % 17) == 3, rng.random(200) < 0.3, np.zeros(200, dtype=bool)],
        axis=1,
    )
    targets_NC = positive_P4[patients_N].astype(np.float32)
    for seed in range(3):
        folds_N = patient_folds(targets_NC, patients_N, folds=5, seed=seed)
        assert folds_N.dtype == np.int64 and set(folds_N) == set(range(5))
        fold_of_P = np.array([set(folds_N[patients_N == patient]) for patient in range(200)])
        assert all(len(folds) == 1 for folds in fold_of_P)
        fold_of_P = np.array([folds.pop() for folds in fold_of_P])
        assert (np.bincount(fold_of_P[positive_P4[:, 0]], minlength=5) == 1).all()
        assert set(np.bincount(fold_of_P[positive_P4[:, 1]], minlength=5)) <= {2, 3}
        assert np.ptp(np.bincount(fold_of_P[positive_P4[:, 2]], minlength=5)) <= 2


def test_folds_follow_the_seed_and_not_the_order_of_the_images():
    rng = np.random.default_rng(0)
    targets_NC = (rng.random((150, 7)) < rng.uniform(0.03, 0.4, 7)).astype(np.float32)
    patients_N = rng.integers(0, 100, 150)
    folds_N = patient_folds(targets_NC, patients_N, seed=0)
    np.testing.assert_array_equal(patient_folds(targets_NC, patients_N, seed=0), folds_N)
    assert (patient_folds(targets_NC, patients_N, seed=1) != folds_N).any()
    shuffle = np.random.default_rng(0).permutation(len(folds_N))
    np.testing.assert_array_equal(patient_folds(targets_NC[shuffle], patients_N[shuffle]), folds_N[shuffle])


def test_more_folds_than_patients_are_refused_in_one_line():
    with pytest.raises(InputError, match=r"^3 patients cannot be split into 5 folds: .*fewer folds.*$"):
        patient_folds(np.zeros((4, 2)), np.array([0, 1, 2, 2]))
