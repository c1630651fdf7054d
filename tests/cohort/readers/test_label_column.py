"""Labels that look like several in one."""

import pytest

from cohort.readers.label_column import missed_separator


@pytest.mark.parametrize("mark", [",", ";", "/", "+", "&"])
def test_a_part_that_is_a_label_too_shows_the_mark_between_them(mark):
    labels = ["Edema", f"Edema{mark} Mass", "Normal"]
    warning = missed_separator(labels, "|")
    assert f"1 of 3 labels look like several in one ('Edema{mark} Mass')" in warning
    assert f"pass --label-separator {mark!r}" in warning


def test_names_in_a_list_show_it_although_none_of_them_is_a_label_too():
    labels = ["COVID-19, ARDS", "Pneumonia/Viral/COVID-19", "SARS"]
    assert "1 of 3 labels look like several in one ('COVID-19, ARDS')" in missed_separator(labels, "/")


def test_the_first_few_are_shown():
    labels = [f"A,{c}" for c in "BCDE"]
    assert "4 of 4 labels look like several in one ('A,B', 'A,C', 'A,D', ...)" in missed_separator(
        labels, "|"
    )


def test_a_mark_within_a_name_is_no_separator():
    assert missed_separator(["melanoma, in situ", "nevus", "other/unknown", "HER2+"], "|") is None


def test_the_separator_that_was_cut_at_is_not_advised():
    assert missed_separator(["a|b", "a"], ";") is not None and missed_separator(["a", "b"], "|") is None
