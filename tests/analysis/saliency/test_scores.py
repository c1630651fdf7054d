"""Scores of maps, counted by hand."""

import numpy as np
import pytest

from analysis.saliency.annotated import Pair
from analysis.saliency.localisation import ATLAS
from analysis.saliency.scores import FOUND, MISSED, scores
from tests.analysis.saliency.regions import spot, square


def test_scores_by_hand():
    """Two labels; the setting hits both pairs of one and one of three of the other, the atlas one of each."""
    pairs = [
        Pair(row=n, label=label, patient=n, mask_HW=square(n, n))
        for n, label in enumerate(["A", "A", "B", "B", "B"])
    ]
    right, wrong = spot(pairs[0].mask_HW), spot(square(6, 0))
    own = [spot(pairs[0].mask_HW), spot(pairs[1].mask_HW), spot(pairs[2].mask_HW), wrong, wrong]
    atlas = [right, wrong, spot(pairs[2].mask_HW), wrong, wrong]
    table = scores(pairs, ["A", "B"], {(ATLAS, ""): atlas, ("study", "layercam"): own}, seed=0)
    values = table.set_index(["setting", "metric", "label"])["value"]
    assert values["study", "hit_rate", "A"] == 1 and values["study", "hit_rate", "B"] == pytest.approx(1 / 3)
    assert values["study", "hit_rate", ""] == pytest.approx((1 + 1 / 3) / 2)
    assert values["study", "above_atlas", ""] == pytest.approx((0.5 + 0) / 2)
    assert values["study", "energy_inside", "A"] == 1 and values["study", "miou", "A"] == 1
    assert values["study", "pointing_game", "B"] == values["study", "hit_rate", "B"]
    assert ("atlas", "above_atlas", "") not in values.index
    counts = table[(table["setting"] == "study") & (table["metric"] == "hit_rate")].set_index("label")
    assert counts.loc["B", ["regions", "patients"]].tolist() == [3, 3]
    assert counts.loc["area: over 5 %", ["regions", "patients"]].tolist() == [5, 5]  # 4 of 64 pixels
    assert "area: below 1 %" not in counts.index
    # One of three patients, Clopper and Pearson.
    assert counts.loc["B", ["low", "high"]].tolist() == pytest.approx([0.0084, 0.9057], abs=1e-4)
    assert counts.loc["one region", "regions"] == 5


def pairs_of(count, label="A"):
    return [Pair(row=n, label=label, patient=n, mask_HW=square(n % 7, n % 7)) for n in range(count)]


def test_what_was_decided_stands_apart():
    pairs = pairs_of(4)
    maps = [spot(pairs[0].mask_HW), spot(pairs[1].mask_HW), spot(square(6, 0)), spot(pairs[3].mask_HW)]
    table = scores(
        pairs,
        ["A"],
        {("study", "layercam"): maps},
        seed=0,
        decided={"study": np.array([True, False, True, True])},
    )
    hit = table[table["metric"] == "hit_rate"].set_index("label")
    assert hit.loc[FOUND, "value"] == pytest.approx(2 / 3) and hit.loc[FOUND, "regions"] == 3
    assert hit.loc[MISSED, "value"] == 1 and hit.loc[MISSED, "regions"] == 1
    assert hit.loc["", "value"] == hit.loc["A", "value"] == 0.75  # in no mean


def test_regions_that_lie_apart_are_counted():
    both = square(0, 0) | square(5, 5)
    pairs = [
        Pair(row=0, label="A", patient=0, mask_HW=both),
        Pair(row=1, label="A", patient=1, mask_HW=square(0, 0) | square(2, 2)),  # they touch at a corner
    ]
    table = scores(pairs, ["A"], {("study", "layercam"): [spot(pair.mask_HW) for pair in pairs]}, seed=0)
    counts = table[table["metric"] == "hit_rate"].set_index("label")["regions"]
    assert counts["one region"] == 1 and counts["two regions or more"] == 1


def test_the_difference_from_the_atlas_is_tested_by_swapping_patients():
    """Eight patients, all hit by the map and none by the atlas: 2 of 256 swaps are as extreme."""
    pairs = pairs_of(8)
    hit, missed = [spot(pair.mask_HW) for pair in pairs], [spot(square(6, 0)) for _ in pairs]
    keys = [("study", "layercam"), ("zero-shot", "layercam")]
    table = scores(pairs, ["A"], {(ATLAS, ""): missed, keys[0]: hit, keys[1]: missed}, seed=0, family=keys)
    above = table[(table["metric"] == "above_atlas") & (table["label"] == "")].set_index("setting")
    assert above.loc["study", "p"] == pytest.approx(2 / 256, abs=0.003)
    assert above.loc["study", "p_holm"] == pytest.approx(2 * above.loc["study", "p"])
    assert above.loc["zero-shot", "p"] == 1
