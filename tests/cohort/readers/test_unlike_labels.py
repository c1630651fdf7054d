"""Columns that hold something else than labels."""

import pytest

from cohort.readers.unlike_labels import unlike_labels


@pytest.mark.parametrize(
    ("named", "looks"),
    [
        (["-1"] * 40 + [f"{n} 12 400 {n} 9 5" for n in range(18)], "run lengths"),
        (["normal"] * 9 + [f"{n} " + "The heart is large. " * 9 for n in range(12)], "free text"),
        ([f"{n}.5" for n in range(30)] * 4, "measured or counted"),
        ([f"1.2.840.{n}" for n in range(40)], "ids or free text, for 40 of 40"),
        (["Normal"] * 3 + [f"Opacity/lung/{n}" for n in range(37)], "ids or free text, for 38 of 40"),
    ],
)
def test_what_is_no_label_is_said_by_its_look(named, looks):
    assert looks in unlike_labels(named)


@pytest.mark.parametrize(
    "named",
    [
        ["Edema", "Mass", "Nodule"],
        ["0", "1", "2", "3", "4"] * 5,
        [f"finding {n}" for n in range(170)] * 3,
        ["0 1 2"],
    ],
)
def test_labels_and_grades_are_labels(named):
    assert unlike_labels(named) is None
