"""Image files that are the same under several ids."""

import numpy as np

from cohort.duplicates import find_duplicates, first_pairs

NAN = np.nan


def found(digests, splits="train", patients="p", targets_NC=None):
    count = len(digests)
    return find_duplicates(
        [f"i{n}" for n in range(count)],
        list(digests),
        splits.split() if " " in splits else [splits] * count,
        patients.split() if " " in patients else [patients] * count,
        np.zeros((count, 2)) if targets_NC is None else np.array(targets_NC),
        ["A", "B"],
    )


def test_images_without_a_copy_are_no_duplicates():
    none = found("abc")
    assert none.images == 0 and none.pairs == none.across_splits == none.across_labels == []


def test_files_that_are_missing_are_not_the_same():
    assert found(["", "", "a"]).pairs == []


def test_each_group_is_named_once_by_its_first_two():
    three_and_two = found("abaab")
    assert three_and_two.images == 5 and three_and_two.pairs == ["i0 = i2", "i1 = i4"]
    assert three_and_two.across_splits == three_and_two.across_patients == []


def test_a_pair_across_splits_or_patients_is_the_first_that_differs():
    across = found("aaa", "train train test", "p q q")
    assert across.across_splits == ["i0 (train) = i2 (test)"]
    assert across.across_patients == ["i0 (patient p) = i1 (patient q)"]


def test_labels_differ_where_the_positive_ones_do():
    assert found("aa", targets_NC=[[1, 0], [1, NAN]]).across_labels == []
    assert found("aa", targets_NC=[[1, 1], [0, 0]]).across_labels == ["i0 (A + B) = i1 (none)"]
    assert found("aa", targets_NC=[[0, 1], [NAN, NAN]]).across_labels == ["i0 (B) = i1 (masked)"]


def test_only_the_first_few_are_listed():
    assert first_pairs(["a", "b"]) == "a; b" and first_pairs(list("abcd")) == "a; b; c; ..."
