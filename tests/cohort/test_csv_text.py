"""CSV that a spreadsheet takes for text and numbers."""

import csv
import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohort.csv_text import csv_text

FORMULAS = ("=1+1", "+1", "-1+cmd|' /C calc'!A0", "@SUM(1)", "\t=1", "'=1", '=HYPERLINK("http://x")')


def cells(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


@pytest.mark.parametrize("formula", FORMULAS)
def test_a_text_that_begins_like_a_formula_begins_with_an_apostrophe(formula):
    text = csv_text(pd.DataFrame({formula: [1.5], "label": [formula]}), "%.6g")
    assert cells(text) == [[f"'{formula}", "label"], ["1.5", f"'{formula}"]]


def test_numbers_and_other_words_stay_as_they_are():
    frame = pd.DataFrame(
        {
            "change": [-0.5, np.nan],
            "decision.x": pd.array([1, None], dtype="Int8"),
            "label": ["O'Brien", "'quoted'"],
            "kept": [True, False],
        }
    )
    assert csv_text(frame, "%.6g") == frame.to_csv(index=False, float_format="%.6g")


@given(
    st.lists(st.text(alphabet="=+-@'\ta1", min_size=1).filter(lambda word: not word.isdigit()), min_size=1)
)
def test_no_cell_begins_like_a_formula_and_no_two_texts_become_one(words):
    frame = pd.DataFrame({"word": [f"{word}!" for word in words]})
    text = csv_text(frame, "%.6g")
    assert not any(cell.startswith(("=", "+", "-", "@", "\t")) for row in cells(text) for cell in row)
    assert len({cell for (cell,) in cells(text)[1:]}) == len(set(words))
