"""Masks as runs, against pycocotools."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco

from cohort.errors import InputError
from cohort.run_lengths import mask_of, runs_of, runs_of_coco, runs_of_siim

MASKS = arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def test_runs_go_down_the_columns_and_begin_outside():
    mask_HW = np.array([[0, 1, 1], [0, 0, 1]], dtype=bool)
    assert runs_of(mask_HW) == [2, 1, 1, 2]
    assert runs_of(~mask_HW) == [0, 2, 1, 1, 2]
    assert runs_of(np.zeros((2, 2), dtype=bool)) == [4]


@given(MASKS)
def test_runs_and_masks_are_inverse_and_those_of_coco(mask_HW):
    runs = runs_of(mask_HW)
    np.testing.assert_array_equal(mask_of(runs, *mask_HW.shape), mask_HW)
    encoded = coco.encode(np.asfortranarray(mask_HW.astype(np.uint8)))
    assert runs_of_coco(encoded["counts"].decode()) == runs


def test_large_runs_of_coco_are_read():
    mask_HW = np.zeros((3000, 2500), dtype=bool)
    mask_HW[1000:2900, 700:1900] = True
    counts = coco.encode(np.asfortranarray(mask_HW.astype(np.uint8)))["counts"].decode()
    np.testing.assert_array_equal(mask_of(runs_of_coco(counts), 3000, 2500), mask_HW)


def test_siims_starts_are_relative():
    assert runs_of_siim("3 2 1 1", 10) == [3, 2, 1, 1, 3]
    assert runs_of_siim("3 7", 10) == [3, 7]


@pytest.mark.parametrize("text", ["1 2 3", "a b", "-1 2", "1 " + "9" * 30, "5 6", "1.5 2"])
def test_what_is_no_pair_of_numbers_or_too_much_is_refused(text):
    with pytest.raises(InputError):
        runs_of_siim(text, 10)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text):
    try:
        runs = runs_of_coco(text)
    except InputError:
        return
    assert all(run >= 0 for run in runs)


@pytest.mark.parametrize("runs", [[3], [5], [-1, 5], [2**40]])
def test_runs_that_do_not_fill_the_image_are_refused(runs):
    with pytest.raises(InputError, match="runs do not fill"):
        mask_of(runs, 2, 2)
