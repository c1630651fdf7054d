"""Maps against what was drawn: scores by hand, floors, and weights redrawn."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from analysis.localisation import (
    ATLAS,
    CEILING,
    FLOORS,
    Localisation,
    Pair,
    annotated_pairs,
    between_readers,
    scores,
)
from cohort.annotations import Annotations
from cohort.manifest import Cohort
from sample.phantoms import draw_cohort
from scoring.localisation import hits
from vlm.encoders import load_encoder
from vlm.linear_head import LinearHead
from vlm.predictor import DecisionRule, Origin, Predictor
from vlm.prompts import Wording, text_prototypes
from vlm.saliency.cams import ZeroGradient


def square(top, left, side=8):
    mask_HW = np.zeros((side, side), dtype=bool)
    mask_HW[top : top + 2, left : left + 2] = True
    return mask_HW


def spot(mask_HW):
    return mask_HW.astype(np.float32)


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
    assert np.isnan(counts.loc["B", "low"])  # three patients are no ground for an interval


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    """Zero-shot of the encoder that was trained on such phantoms, with the exact masks of some."""
    cohort = draw_cohort(tmp_path_factory.mktemp("maps") / "sample", images=400, size=128, seed=3)
    encoder = load_encoder("phantom-clip", device="cpu")
    present_CD, _ = text_prototypes(encoder, cohort.labels, "name", Wording.of(cohort))
    predictor = Predictor(
        name="zero-shot",
        labels=cohort.labels,
        encoder=encoder,
        heads=(LinearHead.plain(present_CD.T),),
        ranks_only=True,
        rule=DecisionRule.fixed(len(cohort.labels)),
        origin=Origin(note=""),
    )
    localisation = Localisation(
        cohort=cohort,
        encoder=encoder,
        pairs=annotated_pairs(cohort, cohort.indices("test")),
        development=annotated_pairs(cohort, np.concatenate([cohort.indices("train"), cohort.indices("val")])),
        seed=0,
    )
    return SimpleNamespace(cohort=cohort, predictor=predictor, localisation=localisation)


def test_every_floor_has_a_map_of_each_region_and_the_ceiling_hits_most(phantoms):
    localisation = phantoms.localisation
    floors = localisation.floors(phantoms.predictor)
    assert set(floors) == {*FLOORS, CEILING}
    rates = {}
    for name, maps in floors.items():
        assert len(maps) == len(localisation.pairs)
        assert all(
            map_HW.shape == pair.mask_HW.shape for map_HW, pair in zip(maps, localisation.pairs, strict=True)
        )
        rates[name] = np.mean(
            [hits(m, pair.mask_HW) for m, pair in zip(maps, localisation.pairs, strict=True)]
        )
    assert rates[CEILING] > 0.6 > rates[ATLAS] > rates["random"]
    assert rates["random"] < 0.15


def test_the_atlas_is_the_mean_of_other_patients_regions(phantoms):
    localisation = phantoms.localisation
    development = {pair.patient for pair in localisation.development}
    assert development.isdisjoint(pair.patient for pair in localisation.pairs)
    pair = next(pair for pair in localisation.pairs if pair.label == "Cardiomegaly")
    own = [one.mask_HW for one in localisation.development if one.label == "Cardiomegaly"]
    expected = np.mean(own, axis=0)
    found = localisation.floors(phantoms.predictor)[ATLAS][localisation.pairs.index(pair)]
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.97


def test_redrawn_weights_destroy_the_maps_of_a_model_that_has_learnt(phantoms):
    before = phantoms.predictor.encoder.image_features(np.zeros((1, 128, 128, 1), np.uint8))
    found = phantoms.localisation.sanity(phantoms.predictor, "layercam")
    assert [name for name, _ in found] == ["heads", *(f"blocks.{n}" for n in (3, 2, 1, 0)), "the rest"]
    assert abs(found[-1][1]) < 0.4
    # It was a copy whose weights were redrawn.
    after = phantoms.predictor.encoder.image_features(np.zeros((1, 128, 128, 1), np.uint8))
    np.testing.assert_array_equal(before, after)


def test_nobody_drew_on_a_cohort_without_annotations(phantoms):
    assert Annotations.open(phantoms.cohort) is not None
    (phantoms.cohort.folder / "annotations.parquet").rename(phantoms.cohort.folder / "away")
    try:
        assert annotated_pairs(Cohort.open(phantoms.cohort.folder), np.arange(5)) == []
    finally:
        (phantoms.cohort.folder / "away").rename(phantoms.cohort.folder / "annotations.parquet")


def test_what_people_reach_against_each_other():
    first, second = square(0, 0), square(0, 1)  # they share two of six pixels
    alone = Pair(row=0, label="A", patient=0, mask_HW=first)
    both = Pair(row=1, label="A", patient=1, mask_HW=first | second, readers=(first, second))
    assert between_readers([alone]) is None
    regions, overlap, met = between_readers([alone, both])
    assert (regions, overlap) == (1, pytest.approx(2 / 6))
    # The centres, (0.5, 0.5) and (0.5, 1.5), are rounded to the pixels (0, 0) and (0, 2).
    assert met == 0
    same = Pair(row=1, label="A", patient=1, mask_HW=first, readers=(first, first))
    assert between_readers([same])[1:] == (1, 1)


def test_regions_that_the_crop_cuts_off_are_counted(phantoms):
    def tall(top, bottom):
        mask_HW = np.zeros((100, 50), dtype=bool)  # the crop shows rows 25 to 74
        mask_HW[top:bottom] = True
        return Pair(row=0, label="Edema", patient=0, mask_HW=mask_HW)

    localisation = Localisation(
        cohort=phantoms.cohort,
        encoder=phantoms.predictor.encoder,
        pairs=[tall(0, 10), tall(20, 30), tall(40, 50)],
        development=[],
        seed=0,
    )
    assert localisation.cut_off() == (1, 1)


def test_a_label_that_nothing_depends_on_hits_nothing_and_the_others_have_their_maps(phantoms):
    localisation, predictor = phantoms.localisation, phantoms.predictor
    silent = localisation.labels[0]
    weight_DC = predictor.heads[0].weight_DC.copy()
    weight_DC[:, predictor.labels.index(silent)] = 0
    muted = replace(predictor, heads=(LinearHead.plain(weight_DC),))
    maps = localisation.maps(muted, "layercam")
    for pair, map_HW in zip(localisation.pairs, maps, strict=True):
        if pair.label == silent:
            assert np.nanmax(map_HW) == 0 and not hits(map_HW, pair.mask_HW)
    assert any(np.nanmax(map_HW) > 0 for map_HW in maps)
    dead = replace(predictor, heads=(LinearHead.plain(0 * weight_DC),))
    with pytest.raises(ZeroGradient):
        localisation.maps(dead, "layercam")
