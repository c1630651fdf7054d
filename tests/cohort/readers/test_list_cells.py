"""Cells that hold a list."""

import pytest

from cohort.errors import InputError
from cohort.readers.list_cells import are_lists, list_items


@pytest.mark.parametrize(
    ("cell", "items"),
    [
        ("['pulmonary fibrosis', 'kyphosis']", ["pulmonary fibrosis", "kyphosis"]),
        ("['normal', ' ', ' costophrenic angle blunting']", ["normal", "costophrenic angle blunting"]),
        ('["Eczema", "Crohn\'s disease", null]', ["Eczema", "Crohn's disease"]),
        ("['mass, left', nan]", ["mass, left"]),
        (r"['Crohn\'s', 'a\u00e9']", ["Crohn's", "a\u00e9"]),
        ("['a' 'b'\n 'c']", ["a", "b", "c"]),
        ("('a',)", ["a"]),
        ("{'a', 'b'}", ["a", "b"]),
        ("[edema, mass]", ["edema", "mass"]),
        ("[1, 2]", ["1", "2"]),
        ("[]", []),
    ],
)
def test_a_list_of_python_json_or_numpy_is_its_texts(cell, items):
    assert are_lists([cell, None]) and list_items(cell, "t.csv, row 2") == items


@pytest.mark.parametrize("cell", ["['a", "[['a'], 'b']", "[__import__('os')]", "['a',, 'b']", "edema", "[["])
def test_what_is_no_list_of_texts_is_refused_by_its_row(cell):
    with pytest.raises(InputError, match=r"t\.csv, row 2: expected a list of texts"):
        list_items(cell, "t.csv, row 2")


@pytest.mark.parametrize("cells", [["edema", "(edema)"], ["[sic] edema"], [None], ["a", "[redacted]"]])
def test_brackets_in_names_make_no_lists(cells):
    assert not are_lists(cells)


def test_one_list_among_names_makes_the_column_one_of_lists():
    assert are_lists(["edema", "['mass']"])


def test_a_hostile_cell_takes_no_longer_than_its_length():
    with pytest.raises(InputError):
        list_items("[" + "'a' " * 20_000 + "(]", "row 2")
