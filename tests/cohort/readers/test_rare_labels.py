"""Rare labels, placeholders and levels of names."""

import numpy as np
import pytest

from cohort.errors import InputError
from cohort.readers.rare_labels import LabelCells, at_levels, doubtful_names, without_rare

NAN = np.nan
RAW = np.array([[1, 1, 0], [1, 0, 0], [1, 0, -1], [1, NAN, NAN], [0, 0, 1]], dtype=float)
LABELS, PATIENTS = ["Edema", "Mass", "Hernia"], ["a", "b", "c", "d", "d"]


def cells(raw_NC, labels=LABELS):
    return LabelCells(labels, raw_NC, np.where(raw_NC == -1, NAN, raw_NC))


def test_rare_labels_are_left_out_or_become_one():
    found, (said,) = without_rare(cells(RAW), PATIENTS, 3, "leave-out")
    assert found.labels == ["Edema"] and found.targets_NC.shape == (5, 1)
    assert said == "2 labels of fewer than 3 positive patients are left out (Mass 1, Hernia 1)"
    found, _ = without_rare(cells(RAW), PATIENTS, 3, "other")
    assert found.labels == ["Edema", "other"]
    np.testing.assert_array_equal(found.raw_NC[:, 1], [1, 0, -1, NAN, 1])
    np.testing.assert_array_equal(found.targets_NC[:, 1], [1, 0, NAN, NAN, 1])


def test_patients_are_counted_and_not_images():
    one = cells(np.ones((3, 1)), ["Edema"])
    assert without_rare(one, ["a", "a", "b"], 2, "leave-out") == (one, [])
    with pytest.raises(InputError, match="--min-patients 3: no label has so many patients"):
        without_rare(one, ["a", "a", "b"], 3, "leave-out")


def test_rows_of_a_rare_class_are_not_left_without_one():
    classes = np.eye(3)[[0] * 12 + [1] * 12 + [2]]
    patients = [str(n) for n in range(25)]
    with pytest.raises(InputError, match=r"each row has one label, .* pass --rare other"):
        without_rare(cells(classes), patients, 2, "leave-out")
    assert without_rare(cells(classes), patients, 2, "other")[0].labels[-1] == "other"
    empty = cells(np.eye(3)[[0] * 12 + [1] * 12])
    assert without_rare(empty, patients[:24], 1, "leave-out")[0].labels == ["Edema", "Mass"]


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
