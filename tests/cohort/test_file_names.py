"""Texts of strangers as names of files: one part of a path, short, and different where the texts are."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohort.file_names import LONGEST, file_name, file_names


def test_ordinary_names_stay_as_they_are():
    for name in ("Pleural Effusion", "a_b-c.d", "Müller", "肺炎", "निमोनिया", "p000-1"):
        assert file_name(name) == name


@pytest.mark.parametrize(
    "text, name",
    [
        ("a/b", "a_b"),
        ("a\\b", "a_b"),
        ("C:", "C_"),
        ("../../PWNED", "_.._PWNED"),
        ("a\0b", "a_b"),
        (".", "_"),
        ("", "_"),
        (" .hidden. ", "hidden"),
        ("CON", "_CON"),
        ("nul.tar.gz", "_nul.tar.gz"),
        ("COM¹", "_COM¹"),
        ("Contrast", "Contrast"),
        ("Mu\u0308ller", "Müller"),
        ("\ud800", "_"),
        ("a\u200bb", "a_b"),
    ],
)
def test_a_name_is_one_part_of_a_path(text, name):
    assert file_name(text) == name


def test_a_long_name_is_cut_by_bytes_and_between_letters():
    assert file_name("肺" * 90) == "肺" * (LONGEST // 3)


def test_names_that_would_be_the_same_are_numbered():
    assert file_names(["a/b", "a_b", "A:B", "c"]) == ["a_b", "a_b_2", "A_B_3", "c"]
    assert file_names(["x_2", "x", "X"]) == ["x_2", "x", "X_3"]
    long = ["肺" * 90 + "1", "肺" * 90 + "2"]
    first, second = file_names(long)
    assert first != second and len(second.encode()) <= LONGEST


@given(st.lists(st.text(st.characters(), max_size=60), max_size=8))
def test_whatever_the_texts_are_the_names_are_fit_and_different(texts):
    names = file_names(texts)
    assert len(names) == len(texts) and len({name.casefold() for name in names}) == len(names)
    for name in names:
        assert 0 < len(name.encode()) <= LONGEST and os.path.basename(name) == name
        assert name not in (".", "..") and name == name.strip(" .") and "\\" not in name
        assert name.isprintable() and name.split(".")[0].upper() not in ("CON", "NUL", "AUX", "PRN", "COM1")


def test_many_labels_of_one_beginning_are_named_in_a_time_linear_in_them():
    assert len(set(file_names([f"{'肺' * 60}{i}" for i in range(20_000)]))) == 20_000
