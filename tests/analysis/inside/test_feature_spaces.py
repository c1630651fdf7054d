"""Each feature space is named once, however many rows share it."""

from types import SimpleNamespace

import numpy as np

from analysis.inside.feature_spaces import TUNED, TUNED_AS_PUBLISHED, feature_spaces
from vlm.feature_kinds import side_by_side


def encoder(name, fingerprint, **blocks):
    return SimpleNamespace(name=name, fingerprint=fingerprint, kinds=side_by_side(blocks))


def standing_on(tower):
    return SimpleNamespace(encoder=tower, precision="bf16")


FROZEN = encoder("clip", "f", projected=(8,), deep=(4, 4))
PIXELS = encoder("pixels:8x8x1", "p", projected=(64,))


def test_probe_and_zero_shot_share_the_frozen_features():
    found = feature_spaces(FROZEN, "fp32", {TUNED: standing_on(FROZEN)}, PIXELS)
    assert [space.name for space in found] == ["frozen", "frozen, deep", "pixels"]
    assert [space.kind.name for space in found] == ["projected", "deep", "projected"]
    features_ND = np.arange(32.0).reshape(2, 16)

    def features(asked, precision):
        assert (asked, precision) == (FROZEN, "fp32")
        return features_ND

    np.testing.assert_array_equal(found[1].of(features, np.array([1])), features_ND[[1], 8:])
    assert found[0].words == "8 projected features of clip"


def test_the_best_tuned_tower_stands_for_all_and_the_published_one_beside_it():
    alone = encoder("clip", "f", projected=(8,))
    tuned, paper = (encoder("clip (fine-tuned)", mark, projected=(8,)) for mark in "tv")
    rows = {
        TUNED: standing_on(tuned),
        TUNED_AS_PUBLISHED: standing_on(paper),
        "fine-tuned (the same again)": standing_on(tuned),
        "fine-tuned (a probe)": standing_on(encoder("clip", "another", projected=(8,), deep=(4,))),
    }
    found = feature_spaces(alone, "bf16", rows, PIXELS)
    assert [space.name for space in found] == ["frozen", "fine-tuned", "fine-tuned as published", "pixels"]
    assert [space.encoder.fingerprint for space in found] == ["f", "t", "v", "p"]


def test_a_probe_compared_with_a_fine_tuning_shows_its_tower_and_pixels_have_no_baseline():
    tuned = encoder("clip (fine-tuned)", "t", projected=(8,))
    rows = {TUNED: standing_on(FROZEN), "fine-tuned (my-fine-tune)": standing_on(tuned)}
    names = [space.name for space in feature_spaces(FROZEN, "fp32", rows, PIXELS)]
    assert names == ["frozen", "frozen, deep", "fine-tuned (my-fine-tune)", "pixels"]
    raw = encoder("pixels", "r", projected=(1024,))
    assert [one.name for one in feature_spaces(raw, "fp32", {}, PIXELS)] == ["frozen"]


def test_an_encoder_without_a_projection_gives_its_pooled_features():
    timm = encoder("timm:x", "x", pooled=(6,), deep=(2, 2))
    found = feature_spaces(timm, "fp32", {}, None)
    assert [(space.name, space.kind.name) for space in found] == [
        ("frozen", "pooled"),
        ("frozen, deep", "deep"),
    ]
