"""Splits: patients stay together, labels are spread, the paper's procedure gives its numbers."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from cohort.errors import InputError
from cohort.labels import NIH_14
from cohort.manifest import SPLITS
from cohort.splits import (
    given_split,
    paper_split,
    stratified_split,
    too_rare_for_three_sides,
)


def draw_cohort(seed, patients, labels, images_a_patient=4):
    """Patients with a random number of images and labels of falling prevalence, some cells masked."""
    rng = np.random.default_rng(seed)
    patients_N = np.repeat(np.arange(patients), rng.integers(1, images_a_patient + 1, patients))
    targets_NC = (rng.random((len(patients_N), labels)) < 0.4 / np.arange(1, labels + 1)).astype(float)
    targets_NC[rng.random(targets_NC.shape) < 0.05] = np.nan
    return targets_NC, patients_N


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    patients=st.integers(3, 60),
    labels=st.integers(1, 6),
    images=st.integers(1, 9),
)
def test_patients_stay_together_and_no_side_is_empty(seed, patients, labels, images):
    targets_NC, patients_N = draw_cohort(seed, patients, labels, images)
    try:
        split = stratified_split(targets_NC, patients_N, seed=seed)
    except InputError:
        assert patients < 12
        return
    assert len(split) == len(patients_N) and set(split) == set(SPLITS)
    assert all(
        len({s for s, p in zip(split, patients_N, strict=True) if p == q}) == 1 for q in set(patients_N)
    )


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_labels_and_images_are_spread_as_asked(seed):
    targets_NC, patients_N = draw_cohort(seed, 300, 8)
    fractions = (0.6, 0.25, 0.15)
    split_N = np.array(stratified_split(targets_NC, patients_N, fractions, seed=seed))
    for side, fraction in zip(SPLITS, fractions, strict=True):
        assert abs((split_N == side).mean() - fraction) < 0.03
        share_C = np.nansum(targets_NC[split_N == side], axis=0) / np.nansum(targets_NC, axis=0)
        assert np.abs(share_C - fraction).max() < 0.12


def test_the_same_seed_gives_the_same_split_and_another_seed_another():
    targets_NC, patients_N = draw_cohort(1, 200, 5)
    assert stratified_split(targets_NC, patients_N) == stratified_split(targets_NC, patients_N, seed=0)
    assert stratified_split(targets_NC, patients_N, seed=1) != stratified_split(targets_NC, patients_N)


def test_patients_may_have_any_names():
    targets_NC, patients_N = draw_cohort(2, 50, 3)
    names = [f"patient {p:03}" for p in patients_N]
    assert stratified_split(targets_NC, names) == stratified_split(targets_NC, patients_N)


def test_a_rare_label_reaches_all_three_sides_when_it_can():
    rng = np.random.default_rng(0)
    targets_NC = np.zeros((300, 3))
    targets_NC[:, 0] = rng.random(300) < 0.4
    targets_NC[:6, 1] = 1  # six patients
    split_N = np.array(stratified_split(targets_NC, np.arange(300)))
    assert set(split_N[:6]) == set(SPLITS)


def test_patients_with_many_images_are_spread_over_all_sides():
    """Ten patients hold half of the images; the sides still come out near their shares."""
    patients_N = np.concatenate([np.repeat(np.arange(10), 40), np.arange(10, 410)])
    split_N = np.array(stratified_split(np.zeros((800, 1)), patients_N))
    for side, fraction in zip(SPLITS, (0.7, 0.15, 0.15), strict=True):
        assert abs((split_N == side).mean() - fraction) < 0.05


def test_real_cohort_is_split_near_the_fractions(real_data):
    table = pd.read_csv(real_data / "nih_cxr64" / "labels.csv")
    split_N = np.array(stratified_split(table[list(NIH_14)].to_numpy(float), table["patient_id"].to_numpy()))
    for side, fraction in zip(SPLITS, (0.7, 0.15, 0.15), strict=True):
        assert abs((split_N == side).mean() - fraction) < 0.04


@pytest.mark.parametrize("fractions", [(0.7, 0.3), (0.7, 0.3, 0.0), (0.7, 0.2, 0.2), (0.7, 0.3, np.nan)])
def test_fractions_must_be_three_positive_numbers_that_sum_to_one(fractions):
    with pytest.raises(InputError, match="three positive numbers that sum to 1"):
        stratified_split(np.zeros((9, 1)), np.arange(9), fractions)


@pytest.mark.parametrize(("patients", "fractions"), [(3, (0.7, 0.15, 0.15)), (10, (0.98, 0.01, 0.01))])
def test_too_few_patients_for_the_fractions_are_refused(patients, fractions):
    with pytest.raises(InputError, match=f"came out empty: {patients} patients are too few"):
        stratified_split(np.ones((patients, 1)), np.arange(patients), fractions)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_is_none_is_refused(seed):
    with pytest.raises(InputError, match="seed of a split must lie in"):
        stratified_split(np.ones((9, 1)), np.arange(9), seed=seed)


def test_fewer_patients_than_sides_are_refused():
    with pytest.raises(InputError, match="at least 3 patients, got 2"):
        stratified_split(np.zeros((9, 1)), np.arange(9) % 2)


def test_the_papers_procedure_is_two_calls_of_scikit_learn_over_distinct_uids():
    uids = [str(n // 2) for n in range(200)]
    split = paper_split(uids)
    distinct = [str(n) for n in range(100)]
    train, rest = train_test_split(distinct, test_size=0.30, random_state=42)
    val, test = train_test_split(rest, test_size=0.50, random_state=42)
    assert {u for u, s in zip(uids, split, strict=True) if s == "val"} == set(val)
    assert {u for u, s in zip(uids, split, strict=True) if s == "test"} == set(test)
    assert Counter(split) == {"train": 2 * len(train), "val": 30, "test": 30}


def test_the_papers_procedure_gives_its_numbers_on_the_real_table(real_data):
    table = pd.read_csv(real_data / "iu_xray" / "indiana_projections.csv")
    uids = table.loc[table["projection"] == "Frontal", "uid"].tolist()
    assert Counter(paper_split(uids)) == {"train": 2670, "val": 575, "test": 573}


def test_a_given_split_is_read_in_its_usual_spellings():
    values = ["Train", "training", "val", "valid", " validation", "TEST", "Testing"]
    expected = ["train", "train", "val", "val", "val", "test", "test"]
    assert given_split(values, list("abcdefg"), "t") == expected


def test_a_given_split_may_lack_sides():
    assert given_split(["test", "Test"], ["a", "b"], "t") == ["test", "test"]


def test_a_given_split_with_another_value_is_refused():
    with pytest.raises(InputError, match=r"^t: image 2 has the split 'reserve'; it must be train, val"):
        given_split(["train", "reserve"], ["a", "b"], "t")


def test_a_given_split_with_a_patient_on_two_sides_is_refused():
    with pytest.raises(
        InputError, match="patient 'a' lies in 'train' and in 'test'; a patient must be on one"
    ):
        given_split(["train", "val", "test"], ["a", "b", "a"], "t")


def test_labels_too_rare_for_three_sides_are_named_with_the_patients_of_that_side():
    targets_NC = np.zeros((8, 4))
    targets_NC[:2, 0], targets_NC[:, 1], targets_NC[:7, 2] = 1, 1, 1
    targets_NC[::2, 3] = 1
    labels, patients = ["few", "all", "nearly all", "half"], list("abcdefgh")
    assert too_rare_for_three_sides(targets_NC, patients, labels) == [
        "nearly all: 1 negative patients, too few for three sides",
        "few: 2 positive patients, too few for three sides",
    ]
    of_one = ["a"] * 7 + ["b"]
    assert too_rare_for_three_sides(targets_NC[:, :1], of_one, ["few"])[0].startswith("few: 1 positive")
