"""Images that stand in a cohort under several ids: pairs of them, and what they join."""

import numpy as np

from cohort.duplicates import Pair, across, described, find_duplicates, first_pairs, joined, positives

NAN = np.nan


def pairs_of(pixels):
    """Of images whose thumbnails are all noise, so that their digests alone decide."""
    rng = np.random.default_rng(0)
    return find_duplicates(list(pixels), rng.integers(0, 256, (len(pixels), 64, 64), dtype=np.uint8))


def test_images_without_a_copy_are_no_duplicates():
    assert pairs_of("abc") == []


def test_images_without_a_digest_are_not_the_same():
    assert pairs_of(["", "", "a"]) == []


def test_a_group_is_as_many_pairs_as_join_it():
    assert pairs_of("abaab") == [Pair(0, 2, None), Pair(0, 3, None), Pair(1, 4, None)]


def test_an_image_like_a_copy_is_paired_with_one_of_the_copies():
    thumbnails_NHW = np.random.default_rng(0).integers(0, 250, (3, 64, 64), dtype=np.uint8)
    thumbnails_NHW[1] = thumbnails_NHW[0]
    thumbnails_NHW[2] = thumbnails_NHW[0] + 5
    same, near = find_duplicates(["a", "a", "b"], thumbnails_NHW)
    assert same == Pair(0, 1, None) and near[:2] == (0, 2) and near.correlation > 0.999


def test_what_lies_across_values_is_what_differs():
    pairs = [Pair(0, 1, None), Pair(0, 2, 0.995)]
    assert across(pairs, ["train", "train", "test"]) == [Pair(0, 2, 0.995)]


def test_pairs_in_words():
    images = ["a", "b"]
    assert described(Pair(0, 1, None), images) == "a = b"
    assert described(Pair(0, 1, 0.99999), images, ["p", "q"]) == "a (p) ~ b (q), 0.999"
    assert first_pairs(["a", "b"]) == "a; b" and first_pairs(list("abcd")) == "a; b; c; ..."


def test_joined_names_are_one_group_and_others_keep_their_order():
    assert joined(["q", "p", "r", "q"], []).tolist() == [1, 0, 2, 1]
    assert joined(["q", "p", "r", "q"], [(3, 2)]).tolist() == [1, 0, 1, 1]


def test_positive_labels_in_words():
    targets_NC = np.array([[1, NAN], [1, 1], [0, 0], [NAN, NAN]])
    assert positives(targets_NC, ["A", "B"]) == ["A", "A + B", "none", "masked"]
