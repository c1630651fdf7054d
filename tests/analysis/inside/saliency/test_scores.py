"""Scores of maps, counted by hand."""

import numpy as np
import pytest

from analysis.inside.saliency.localisation import ATLAS
from analysis.inside.saliency.scores import ALL, FOUND, MISSED, scores
from tests.analysis.inside.saliency.regions import pair_of, spot, square


def test_scores_by_hand():
    """Two labels of ten patients and one of two: the setting hits all of A, a fifth of B, the atlas half of A
    and a fifth of B."""
    pairs = [pair_of(n, "A" if n < 10 else "B" if n < 20 else "C", square(n % 6, n % 6)) for n in range(22)]
    right, wrong = [spot(pair.mask()) for pair in pairs], spot(square(6, 0))
    own = [one if n < 12 else wrong for n, one in enumerate(right)]
    atlas = [one if n < 5 or 10 <= n < 12 else wrong for n, one in enumerate(right)]
    table = scores(pairs, ["A", "B", "C"], {(ATLAS, ""): atlas, ("study", "layercam"): own}, seed=0)
    values = table.set_index(["setting", "metric", "label"])["value"]
    assert values["study", "hit_rate", "A"] == 1 and values["study", "hit_rate", "B"] == pytest.approx(0.2)
    assert values["study", "hit_rate", ""] == pytest.approx((1 + 0.2) / 2)  # C has two patients
    assert values["study", "hit_rate", ALL] == pytest.approx(12 / 22)
    assert values["study", "above_atlas", ""] == pytest.approx((0.5 + 0) / 2)
    assert values["study", "energy_inside", "A"] == 1 and values["study", "miou", "A"] == 1
    assert values["study", "area", "A"] == 4 / 64
    assert values["study", "pointing_game", "B"] == values["study", "hit_rate", "B"]
    assert ("atlas", "above_atlas", "") not in values.index
    counts = table[(table["setting"] == "study") & (table["metric"] == "hit_rate")].set_index("label")
    assert counts.loc["", ["regions", "patients"]].tolist() == [20, 20]
    assert counts.loc["area: over 5 %", ["regions", "patients"]].tolist() == [22, 22]  # 4 of 64 pixels
    assert "area: below 1 %" not in counts.index
    # Two of ten patients, Clopper and Pearson.
    assert counts.loc["B", ["low", "high"]].tolist() == pytest.approx([0.0252, 0.5561], abs=1e-4)
    assert counts.loc["one region", "regions"] == 22


def test_nothing_is_averaged_without_a_label_of_ten_patients():
    pairs = pairs_of(9)
    table = scores(pairs, ["A"], {("study", "layercam"): [spot(pair.mask()) for pair in pairs]}, seed=0)
    assert "" not in set(table["label"]) and {"A", ALL} <= set(table["label"])


def pairs_of(count, label="A"):
    return [pair_of(n, label, square(n % 7, n % 7)) for n in range(count)]


def test_what_was_decided_stands_apart():
    pairs = pairs_of(4)
    maps = [spot(pair.mask()) if n != 2 else spot(square(6, 0)) for n, pair in enumerate(pairs)]
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
    assert hit.loc["A", "value"] == 0.75


def test_regions_that_lie_apart_are_counted():
    both = square(0, 0) | square(5, 5)
    pairs = [
        pair_of(0, "A", both),
        pair_of(1, "A", square(0, 0) | square(2, 2)),  # they touch at a corner
    ]
    table = scores(pairs, ["A"], {("study", "layercam"): [spot(pair.mask()) for pair in pairs]}, seed=0)
    counts = table[table["metric"] == "hit_rate"].set_index("label")["regions"]
    assert counts["one region"] == 1 and counts["two regions or more"] == 1


def test_the_difference_from_the_atlas_is_tested_by_swapping_patients():
    """Ten patients, all hit by the map and none by the atlas: 2 of 1,024 swaps are as extreme."""
    pairs = pairs_of(10)
    hit, missed = [spot(pair.mask()) for pair in pairs], [spot(square(6, 0)) for _ in pairs]
    keys = [("study", "layercam"), ("zero-shot", "layercam")]
    table = scores(pairs, ["A"], {(ATLAS, ""): missed, keys[0]: hit, keys[1]: missed}, seed=0, family=keys)
    above = table[(table["metric"] == "above_atlas") & (table["label"] == "")].set_index("setting")
    assert above.loc["study", "p"] == pytest.approx(2 / 1024, abs=0.001)
    assert above.loc["study", "p_holm"] == pytest.approx(2 * above.loc["study", "p"])
    assert above.loc["zero-shot", "p"] == 1
