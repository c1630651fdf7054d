"""The energy of maps inside an organ, by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from analysis.inside.saliency.organs import ABOVE_AREA, by_label, scores, sentences
from analysis.inside.saliency.scores import ALL, AREA
from tests.analysis.inside.saliency.regions import pair_of, square

COHORT = SimpleNamespace(label_name=str)
KEY = ("study", "layercam")


def test_the_energy_is_held_against_the_organs_share_of_what_is_seen():
    """An organ of 4 of 64 pixels, of which the encoder sees 32."""
    organ = square(0, 0)
    map_HW = np.ones((8, 8), np.float32)
    map_HW[4:] = np.nan
    map_HW[0, 0] = 5.0
    pairs = [pair_of(n, "A" if n < 10 else "B", organ) for n in range(13)]
    table = scores("lungs", pairs, {KEY: [map_HW] * 13}, ("A", "B"), seed=0)
    assert set(table["organ"]) == {"lungs"}
    values = table.set_index(["metric", "label"])["value"]
    assert values["energy_inside", "A"] == pytest.approx(8 / 36) and values[AREA, "A"] == 4 / 32
    assert values[ABOVE_AREA, ""] == pytest.approx(8 / 36 - 4 / 32)  # of A alone
    assert values["energy_inside", ALL] == pytest.approx(8 / 36)
    said = sentences(table, "lungs", COHORT, KEY)
    assert len(said) == 2 and said[0].startswith("A (10 images of 10 test patients)")
    shown = by_label(table, "lungs", COHORT, [KEY])
    assert [row.cells[0].text for row in shown.rows] == ["A", "B", ALL]
    assert {len(row.cells) for row in shown.rows} == {len(shown.columns)}


def test_a_map_that_is_the_same_everywhere_has_the_organs_area_inside():
    rng = np.random.default_rng(0)
    pairs = [pair_of(n, "A", rng.random((9, 7)) < 0.4) for n in range(10)]
    table = scores("heart", pairs, {KEY: [np.ones((9, 7), np.float32)] * 10}, ("A",), seed=0)
    above = table[(table["metric"] == ABOVE_AREA) & (table["label"] == "A")].iloc[0]
    assert above["value"] == pytest.approx(0, abs=1e-7) and above["low"] == pytest.approx(0, abs=1e-6)
