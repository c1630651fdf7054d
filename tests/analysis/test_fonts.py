"""Names in any script: in a font that has their letters, or told apart in plain letters."""

import logging
import warnings

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.font_manager import get_font
from PIL import Image

from analysis.figures import STYLE, new_figure, write
from analysis.fonts import FIRST, as_drawn, bold_file, drawable, families
from analysis.inside.overlays import overlays

ELSEWHERE = "\u20dd"
"""COMBINING ENCLOSING CIRCLE: DejaVu Sans has none, STIXGeneral does, and matplotlib brings both along."""
NOWHERE = "\U000f1234\U000f1235"
"""Letters for private use, which no font has."""


def drawn(text: str, tmp_path) -> np.ndarray:
    with mpl.rc_context(STYLE):
        figure = new_figure(3, 2)
        axes = figure.subplots()
        axes.barh([text], [1])
        axes.set_title(text)
    svg = write(figure, tmp_path / "drawn.png", "what")
    assert f"{text}</text>" in svg  # a browser has its own fonts
    with Image.open(tmp_path / "drawn.png") as image:
        return np.asarray(image)


def test_a_letter_is_looked_for_in_every_font_here():
    assert families("Pleural Effusion") == families("Größe −1") == [FIRST]
    found = families(f"a{ELSEWHERE}")
    assert found[0] == FIRST and len(found) == 2
    assert drawable(f"a{ELSEWHERE}") and as_drawn(f"a{ELSEWHERE}") == f"a{ELSEWHERE}"
    assert ord(ELSEWHERE) in get_font(bold_file(ELSEWHERE)).get_charmap()


def test_what_no_font_has_is_written_by_its_number_so_that_two_names_differ():
    assert not drawable(NOWHERE) and bold_file(NOWHERE) is None and families(NOWHERE) == [FIRST]
    assert as_drawn(f"left {NOWHERE} (n = 3)") == "left U+F1234 U+F1235 (n = 3)"
    assert as_drawn(NOWHERE * 4).endswith("U+F1235…")


@pytest.mark.parametrize("text", [f"a{ELSEWHERE}", NOWHERE])
def test_a_figure_has_no_boxes_and_no_library_speaks(tmp_path, text, caplog):
    caplog.set_level(logging.WARNING)
    with warnings.catch_warnings(action="error"):
        drawn(text, tmp_path)
    assert caplog.records == []


def test_two_names_without_letters_are_drawn_differently(tmp_path):
    one, other = (drawn(letter, tmp_path) for letter in NOWHERE)
    assert (one != other).any()


def test_no_boxes_are_burned_into_images():
    found = [one.text for one in overlays([("a", NOWHERE), ("b", "Edema")]) if one.label]
    assert found == ["Edema"]
