"""Sides and thirds of maps against what reports say."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from analysis.inside.saliency.localisation import ATLAS
from analysis.inside.saliency.scores import ALL
from analysis.inside.saliency.sides import (
    ABOVE_CHANCE,
    BY_CHANCE,
    SIDE,
    ZONE,
    Statement,
    fewer_sided,
    scores,
    side_of,
    statements,
    zone_of,
)
from cohort.labels import CHEXPERT_14
from cohort.readers.mesh import read_mesh
from sample.phantoms import draw_cohort


def cohort_of(sites, labels=("A", "B")):
    return SimpleNamespace(
        labels=labels,
        present=SimpleNamespace(column_names=["keep.sites"]),
        column=lambda name: sites,
        patients_N=lambda: np.arange(len(sites)),
    )


def test_only_one_side_and_only_of_that_label_is_a_statement():
    sites = [
        "A:left:lower;B:right:",
        "A:left:;A:right:",  # both
        "A:bilateral:upper",
        "A::lower",  # no side
        "A:left:upper;A:left:lower",  # two zones
        "A:left:hilum",
        "C:left:lower",  # no label of the cohort
        "nonsense;A:left",
        "",
        None,
    ]
    found = statements(cohort_of(sites), np.arange(10))
    assert [(one.row, one.label, one.side, one.zone) for one in found] == [
        (0, "A", "left", "lower"),
        (0, "B", "right", ""),
        (4, "A", "left", ""),
        (5, "A", "left", ""),
    ]
    assert statements(cohort_of(sites), np.array([8])) == []


def test_the_patients_right_is_the_images_left():
    map_HW = np.zeros((10, 4), np.float32)
    map_HW[7, 0] = 1
    assert side_of(map_HW) == "right" and zone_of(map_HW) == "lower"
    map_HW[1, 3] = 2
    assert side_of(map_HW) == "left" and zone_of(map_HW) == "upper"  # (7.5 + 2 x 1.5) / 3 of 10
    map_HW[5, 0] = 4
    assert zone_of(map_HW) == "middle"
    assert side_of(np.ones((9, 4))) == ""  # on neither
    assert side_of(np.full((9, 4), np.nan)) == zone_of(np.full((9, 4), np.nan)) == ""


def test_shares_by_hand():
    right = np.zeros((3, 4), np.float32)
    right[0, 0] = 1  # the patient's right, the upper third

    def said(patient, side, zone, label="A"):
        return Statement(row=patient, label=label, patient=patient, side=side, zone=zone)

    stated = [
        said(0, "right", "upper"),
        said(1, "right", "lower"),
        said(2, "left", ""),
        said(3, "left", "upper"),
    ]
    development = [said(7, "left", "lower"), said(8, "left", "upper"), said(9, "right", "upper")]
    table = scores(stated, development, {("study", "layercam"): [right] * 4}, ("A", "B"), seed=0)
    values = table.set_index(["setting", "metric", "label"])
    assert values.loc[("study", SIDE, "A"), "value"] == values.loc[("study", SIDE, ALL), "value"] == 0.5
    assert values.loc[("study", BY_CHANCE, "A"), "value"] == 0.5  # it is always on the right
    assert values.loc[("study", ZONE, "A"), ["value", "regions"]].tolist() == pytest.approx([2 / 3, 3])
    assert values.loc[(ATLAS, SIDE, "A"), "value"] == 0.5  # left is more common on others: 2 of 4
    assert values.loc[(ATLAS, ZONE, "A"), "value"] == pytest.approx(2 / 3)
    assert "B" not in values.index.get_level_values("label")


def forty_statements(left):
    return [
        Statement(row=n, label="A", patient=n, side="left" if n < left else "right", zone="")
        for n in range(40)
    ]


def side_maps(sides):
    return [np.tile(np.array([1.0, 0]) if side == "right" else [0, 1.0], (3, 1)) for side in sides]


def against_chance(stated, maps):
    table = scores(stated, [], {("study", "layercam"): maps}, ("A",), seed=0, family=[("study", "layercam")])
    return table[table["label"] == ALL].set_index(["setting", "metric"]).loc["study"]


def test_a_map_that_is_always_on_the_commoner_side_knows_nothing():
    """Three of four statements name the left: so often is a map right that never leaves it."""
    found = against_chance(forty_statements(30), side_maps(["left"] * 40))
    assert found.loc[SIDE, "value"] == 0.75 and found.loc[SIDE, "low"] > 0.5
    assert found.loc[BY_CHANCE, "value"] == pytest.approx(0.75)
    assert found.loc[ABOVE_CHANCE, ["value", "p_holm"]].tolist() == pytest.approx([0, 1])


def test_a_map_that_follows_the_statements_is_more_than_chance():
    stated = forty_statements(30)
    found = against_chance(stated, side_maps([one.side for one in stated]))
    # A left one meets 29 left ones of 39 others, a right one 9.
    assert found.loc[BY_CHANCE, "value"] == pytest.approx((30 * 29 + 10 * 9) / 39 / 40)
    assert found.loc[ABOVE_CHANCE, "p_holm"] < 0.001


def test_few_patients_on_one_side_support_no_claim():
    stated = forty_statements(31)
    found = against_chance(stated, side_maps([one.side for one in stated]))
    assert fewer_sided(stated) == 9 and np.isnan(found.loc[ABOVE_CHANCE, "p_holm"])


def test_the_sample_says_on_which_side_it_drew(tmp_path):
    """The exact masks lie on the stated side, nearly always in the stated zone."""
    from cohort.annotations import Annotations

    cohort = draw_cohort(tmp_path / "sample", images=200, size=64)
    stated = [one for one in statements(cohort, np.arange(200)) if one.label != "Support Devices"]
    drawn = Annotations.open(cohort)
    masks = [drawn.mask(cohort.images()[one.row], one.label) for one in stated]
    found = [(one, mask) for one, mask in zip(stated, masks, strict=True) if mask is not None]
    assert len(found) > 30
    sides = np.mean([side_of(mask) == one.side for one, mask in found])
    assert sides > 0.95
    zoned = [(one, mask) for one, mask in found if one.zone]
    thirds = np.mean([zone_of(mask) == one.zone for one, mask in zoned])
    assert thirds > 0.85


def test_iu_xrays_annotation_names_one_side_on_607_frontal_images(real_data):
    tables = real_data / "iu_xray"
    mesh = pd.read_csv(tables / "indiana_reports.csv").set_index("uid")["MeSH"]
    frontal = pd.read_csv(tables / "indiana_projections.csv").query("projection == 'Frontal'")["uid"]
    sites = [read_mesh(mesh.get(uid)).sites for uid in frontal]
    stated = statements(cohort_of(sites, CHEXPERT_14), np.arange(len(sites)))
    assert len({one.row for one in stated}) == 607
