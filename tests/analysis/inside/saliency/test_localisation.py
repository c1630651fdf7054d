"""Floors beneath maps, layers, and weights redrawn."""

import tracemalloc
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from analysis.inside.saliency.annotated import annotated_pairs
from analysis.inside.saliency.localisation import ATLAS, BASELINES, CEILING, Localisation
from analysis.inside.saliency.looking import Looking
from analysis.inside.saliency.scores import scores
from sample.phantoms import draw_cohort
from scoring.decision_rule import DecisionRule
from scoring.localisation import hits
from scoring.predictions import Origin
from tests.analysis.inside.saliency.regions import pair_of
from vlm.encoders import load_encoder
from vlm.linear_head import LinearHead
from vlm.predictor import Predictor
from vlm.prompts import Wording, text_prototypes
from vlm.saliency.target import ZeroGradient

LARGER, REGIONS = 8, 4
PIXELS_OF_A_MAP = 4 * (128 * LARGER) ** 2
"""Bytes: float32, laid over its image."""


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
        looking=Looking(cohort=cohort),
        encoder=encoder,
        pairs=annotated_pairs(cohort, cohort.indices("test")),
        development=annotated_pairs(cohort, np.concatenate([cohort.indices("train"), cohort.indices("val")])),
        seed=0,
    )
    return SimpleNamespace(cohort=cohort, predictor=predictor, localisation=localisation)


def test_every_baseline_has_a_map_of_each_region_and_the_ceiling_hits_most(phantoms):
    localisation = phantoms.localisation
    baselines = localisation.baselines(phantoms.predictor)
    assert set(baselines) == {*BASELINES, CEILING}
    rates = {}
    for name, maps in baselines.items():
        assert len(maps) == len(localisation.pairs)
        assert all(map_HW.shape == pair.size for map_HW, pair in zip(maps, localisation.pairs, strict=True))
        rates[name] = np.mean(
            [hits(m, pair.mask()) for m, pair in zip(maps, localisation.pairs, strict=True)]
        )
    assert rates[CEILING] > 0.6 > rates[ATLAS] > rates["random"]
    assert rates["random"] < 0.15


def test_the_atlas_is_the_mean_of_other_patients_regions(phantoms):
    localisation = phantoms.localisation
    development = {pair.patient for pair in localisation.development}
    assert development.isdisjoint(pair.patient for pair in localisation.pairs)
    pair = next(pair for pair in localisation.pairs if pair.label == "Cardiomegaly")
    own = [one.mask() for one in localisation.development if one.label == "Cardiomegaly"]
    expected = np.mean(own, axis=0)
    found = localisation.baselines(phantoms.predictor)[ATLAS][localisation.pairs.index(pair)]
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.97


def test_redrawn_weights_destroy_the_maps_of_a_model_that_has_learnt(phantoms):
    before = phantoms.predictor.encoder.image_features(np.zeros((1, 128, 128, 1), np.uint8))
    found = phantoms.localisation.sanity(phantoms.predictor, "layercam")
    assert [name for name, _ in found] == ["heads", *(f"blocks.{n}" for n in (3, 2, 1, 0)), "the rest"]
    assert abs(found[-1][1]) < 0.4
    # It was a copy whose weights were redrawn.
    after = phantoms.predictor.encoder.image_features(np.zeros((1, 128, 128, 1), np.uint8))
    np.testing.assert_array_equal(before, after)


def test_regions_that_the_crop_cuts_off_are_counted(phantoms):
    def tall(top, bottom):
        mask_HW = np.zeros((100, 50), dtype=bool)  # the crop shows rows 25 to 74
        mask_HW[top:bottom] = True
        return pair_of(0, "Edema", mask_HW)

    localisation = Localisation(
        looking=Looking(cohort=phantoms.cohort),
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
            assert np.nanmax(map_HW) == 0 and not hits(map_HW, pair.mask())
    assert any(np.nanmax(map_HW) > 0 for map_HW in maps)
    dead = replace(predictor, heads=(LinearHead.plain(0 * weight_DC),))
    with pytest.raises(ZeroGradient):
        localisation.maps(dead, "layercam")


def test_each_layer_has_maps_of_its_own_and_the_last_is_the_default(phantoms):
    localisation, predictor = phantoms.localisation, phantoms.predictor
    layers = localisation.layers(predictor, "layercam")
    assert list(layers) == [f"blocks.{n}.norm1" for n in range(4)]
    for last, own in zip(layers["blocks.3.norm1"], localisation.maps(predictor, "layercam"), strict=True):
        np.testing.assert_allclose(last, own, rtol=1e-4, atol=1e-7)
    assert np.abs(layers["blocks.0.norm1"][0] - layers["blocks.3.norm1"][0]).max() > 0


def test_map_and_atlas_together_are_their_product_and_hit_more_than_the_map(phantoms):
    localisation, predictor = phantoms.localisation, phantoms.predictor
    fine = localisation.maps(predictor, "layercam", shifts=3)
    together = localisation.with_atlas(fine)
    pair = localisation.pairs[0]
    atlas_HW = localisation.atlas(pair.label, *pair.size)
    np.testing.assert_allclose(together[0], fine[0] * atlas_HW)

    def rate(maps):
        drawn = zip(maps, localisation.pairs, strict=True)
        return np.mean([hits(map_HW, one.mask()) for map_HW, one in drawn])

    assert rate(together) > rate(fine) > rate(localisation.maps(predictor, "eigencam"))


def test_the_usual_place_is_where_the_atlas_reaches_half_its_height(phantoms):
    localisation = phantoms.localisation
    label = "Cardiomegaly"
    atlas_HW = localisation.atlas(label, 128, 128)
    inside, outside = np.zeros((2, 128, 128), np.float32)
    inside[np.unravel_index(atlas_HW.argmax(), atlas_HW.shape)] = 1
    outside[np.unravel_index(atlas_HW.argmin(), atlas_HW.shape)] = 1
    looks = [(0, label), (0, label), (0, label), (0, "No Finding")]
    found = localisation.usual_places(looks, [inside, outside, np.ones((128, 128), np.float32), inside])
    assert found[:3].tolist() == [1, 0, 0] and np.isnan(found[3])  # No Finding has no region


class Enlarged(Looking):
    """The images of a cohort, said to be LARGER times as large as they are."""

    def size(self, row, encoder):
        height, width = super().size(row, encoder)
        return LARGER * height, LARGER * width


@pytest.fixture
def counted():
    tracemalloc.start()
    yield tracemalloc.get_traced_memory
    tracemalloc.stop()


def test_cells_are_kept_of_a_region_and_no_pixels_and_scored_a_map_at_a_time(phantoms, counted):
    pairs = [
        pair_of(
            pair.row,
            pair.label,
            np.kron(pair.mask(), np.ones((LARGER, LARGER), dtype=bool)),
            patient=pair.patient,
        )
        for pair in phantoms.localisation.pairs[:REGIONS]
    ]
    localisation = replace(phantoms.localisation, looking=Enlarged(cohort=phantoms.cohort), pairs=pairs)
    predictor = phantoms.predictor

    before, _ = counted()
    fine = localisation.maps(predictor, "layercam", shifts=3)
    layers = localisation.layers(predictor, "layercam")
    maps = {(name, ""): drawn for name, drawn in localisation.baselines(predictor).items()}
    maps |= {("study", name): drawn for name, drawn in layers.items()}
    maps |= {("study", "fine"): fine, ("study", "x atlas"): localisation.with_atlas(fine)}
    kept = counted()[0] - before
    assert all(4 * drawn[0].size == PIXELS_OF_A_MAP for drawn in maps.values())
    assert kept / REGIONS < PIXELS_OF_A_MAP / 4  # of 12 maps together

    tracemalloc.reset_peak()
    scores(pairs, localisation.labels, maps, seed=0)
    assert counted()[1] - kept - before < 16 * PIXELS_OF_A_MAP  # all of them would be 48
