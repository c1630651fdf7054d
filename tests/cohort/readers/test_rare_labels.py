"""Rare labels, placeholders and levels of names."""

import numpy as np
import pytest

from cohort.errors import InputError
from cohort.readers.rare_labels import at_levels, doubtful_names, without_rare

NAN = np.nan
RAW = np.array([[1, 1, 0], [1, 0, 0], [1, 0, -1], [1, NAN, NAN], [0, 0, 1]], dtype=float)
LABELS, PATIENTS = ["Edema", "Mass", "Hernia"], ["a", "b", "c", "d", "d"]


def test_rare_labels_are_left_out_or_become_one():
    cells, labels, (said,) = without_rare(RAW, LABELS, PATIENTS, 3, "leave-out")
    assert labels == ["Edema"] and cells.shape == (5, 1)
    assert said == "2 labels of fewer than 3 positive patients are left out (Mass 1, Hernia 1)"
    cells, labels, _ = without_rare(RAW, LABELS, PATIENTS, 3, "other")
    assert labels == ["Edema", "other"]
    np.testing.assert_array_equal(cells[:, 1], [1, 0, -1, NAN, 1])


def test_patients_are_counted_and_not_images():
    assert without_rare(np.ones((3, 1)), ["Edema"], ["a", "a", "b"], 2, "leave-out")[1:] == (["Edema"], [])
    with pytest.raises(InputError, match="--min-patients 3: no label has so many patients"):
        without_rare(np.ones((3, 1)), ["Edema"], ["a", "a", "b"], 3, "leave-out")


def test_placeholders_and_levels_are_pointed_out():
    first, second = doubtful_names(["todo", "Pneumonia/Viral/COVID-19", "Pneumonia/Bacterial"], False)
    assert "('todo'): pass --missing todo" in first
    assert second.startswith("2 labels have levels ('Pneumonia/Viral/COVID-19'): pass --label-levels all")
    assert doubtful_names(["Nodule/Mass", "Edema", "Pneumonia/Viral"], False) == []


@pytest.mark.parametrize(
    ("levels", "names"), [("all", ["A", "A/B", "A/B/C"]), ("1", ["A"]), ("2", ["A/B"]), ("9", ["A/B/C"])]
)
def test_a_name_gives_a_label_of_each_level_or_of_the_first(levels, names):
    assert at_levels("A/ B/C", levels) == names
