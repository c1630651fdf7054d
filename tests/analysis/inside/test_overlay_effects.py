"""What overlaid text does: nothing to an encoder that does not see it, all to one that sees nothing else."""

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torch import nn

from analysis.inside.overlay_effects import (
    BOX,
    DIFFERENCE,
    TEXT,
    OverlaySample,
    decision_effects,
    feature_effects,
    with_controls,
)
from analysis.inside.overlays import Overlay, overlays
from cohort.geometry import Geometry
from cohort.labels import LabelPolicy
from cohort.writing import write_cohort
from scoring.decision_rule import DecisionRule
from scoring.predictions import Origin
from vlm.cohort_features import CohortFeatures
from vlm.encoders.base import Encoder, ImageTower
from vlm.linear_head import LinearHead
from vlm.predictor import Predictor

SIDE = 48
IMAGES = 40


class Part(nn.Module):
    """Sees a square of the image and nothing else."""

    def __init__(self, rows: slice, columns: slice) -> None:
        super().__init__()
        self.rows, self.columns = rows, columns

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return x_BCHW[:, 0, self.rows, self.columns].flatten(1)


def encoder_of(name: str, rows: slice, columns: slice) -> Encoder:
    width = len(range(SIDE)[rows]) * len(range(SIDE)[columns])
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return Encoder(
        name=name,
        blocks={"projected": (width,)},
        geometry=Geometry(SIDE, "squash", channels=1),
        mean=mean,
        std=std,
        fingerprint=hashlib.sha256(name.encode()).hexdigest(),
        tower=ImageTower(Part(rows, columns), mean, std).eval(),
    )


@pytest.fixture(scope="module")
def noisy_cohort(tmp_path_factory):
    root = tmp_path_factory.mktemp("noisy")
    rng = np.random.default_rng(0)
    names = [f"{i:02d}.png" for i in range(IMAGES)]
    for name in names:
        Image.fromarray(rng.integers(0, 120, (SIDE, SIDE), dtype=np.uint8)).save(root / name)
    columns = {
        "image": names,
        "file": names,
        "digest": [hashlib.sha256((root / name).read_bytes()).hexdigest() for name in names],
        "present": [True] * IMAGES,
        "patient": [f"p{i // 2}" for i in range(IMAGES)],
        "study": names,
        "view": ["PA"] * IMAGES,
        "split": ["test"] * IMAGES,
    }
    targets_NC = rng.integers(0, 2, (IMAGES, 2)).astype(np.float32)
    policy = LabelPolicy()
    facts = {"labels": ("Edema", "Mass"), "source": "noise", "policy": policy, "images_root": root}
    return write_cohort(root.parent / "noisy-cohort", columns, targets_NC, **facts)


TEXTS = [Overlay(text="PORTABLE", size=0.16), Overlay(text="Edema", label="Edema", size=0.16)]


def embedded(cohort, encoder, cache):
    features = CohortFeatures(cohort, cache)
    rows_N, patients_N = np.arange(IMAGES), np.arange(IMAGES) // 2
    sample = OverlaySample.draw(patients_N, seed=0)
    altered = features.altered(encoder, "fp32", rows_N, with_controls(TEXTS))
    clean_ND = features(encoder, "fp32")
    return sample, clean_ND, altered.reshape(IMAGES, len(TEXTS), 2, -1), (clean_ND, patients_N)


def answer(encoder, weight_DC):
    """A row whose decisions are the signs of these scores."""
    predictor = Predictor(
        name="answer",
        labels=("Edema", "Mass"),
        encoder=encoder,
        heads=(LinearHead.plain(weight_DC.astype(np.float32)),),
        rule=DecisionRule.fixed(2),
        origin=Origin(note=""),
    )
    return predictor


def test_a_tower_that_sees_only_the_centre_is_not_moved_by_text_in_the_corner(noisy_cohort, tmp_path):
    encoder = encoder_of("centre", slice(16, 32), slice(16, 32))
    sample, clean_ND, altered, everybody = embedded(noisy_cohort, encoder, tmp_path)
    table = feature_effects(sample, TEXTS, "centre", clean_ND, altered, everybody)
    shift = table[table["metric"] == "shift"]
    np.testing.assert_allclose(shift["value"], 0, atol=1e-6)
    text = table[(table["metric"] == "discriminated") & (table["overlay"] != DIFFERENCE)]
    np.testing.assert_allclose(text["value"], 0.5)
    weight_DC = np.random.default_rng(0).normal(size=(256, 2))
    decided = decision_effects(sample, TEXTS, answer(encoder, weight_DC), clean_ND, altered)
    np.testing.assert_allclose(decided["value"], 0, atol=1e-6)


def test_a_tower_that_sees_the_corner_is_moved_and_tells_text_from_a_box(noisy_cohort, tmp_path):
    encoder = encoder_of("corner", slice(0, 12), slice(0, SIDE))
    sample, clean_ND, altered, everybody = embedded(noisy_cohort, encoder, tmp_path)
    table = feature_effects(sample, TEXTS, "corner", clean_ND, altered, everybody)
    values = table.set_index(["metric", "overlay", "text"])
    assert values.loc[("shift", TEXT, "PORTABLE"), "value"] > 0.3
    row = values.loc[("shift", DIFFERENCE, "PORTABLE")]
    parts = [values.loc[("shift", which, "PORTABLE"), "value"] for which in (TEXT, BOX)]
    assert row["value"] == pytest.approx(parts[0] - parts[1])
    assert row["low"] > 0  # letters move it more than a box of their brightness
    assert values.loc[("discriminated", TEXT, ""), "value"] > 0.9
    assert (table["low"] <= table["value"]).all() and (table["value"] <= table["high"]).all()


def test_the_shift_is_in_distances_to_the_nearest_other_patient():
    """By hand: unit vectors in the plane, every image its own patient."""
    angles_N = np.deg2rad([0.0, 60, 120, 180, 240, 300])
    clean_ND = np.stack([np.cos(angles_N), np.sin(angles_N)], 1)
    turned = np.deg2rad([30.0, 0.0])  # text turns every image by 30 degrees, the box by none
    altered = np.stack([np.stack([np.cos(angles_N + t), np.sin(angles_N + t)], 1) for t in turned], 1)
    sample = OverlaySample.draw(np.arange(6), seed=0)
    table = feature_effects(
        sample, TEXTS[:1], "plane", clean_ND, altered[:, None], (clean_ND, np.arange(6))
    ).set_index(["metric", "overlay", "text"])
    expected = (1 - np.cos(turned[0])) / (1 - np.cos(np.deg2rad(60)))
    assert table.loc[("shift", TEXT, "PORTABLE"), "value"] == pytest.approx(expected, rel=1e-4)
    assert table.loc[("shift", BOX, "PORTABLE"), "value"] == pytest.approx(0, abs=1e-6)


def test_flips_and_changes_by_hand():
    """Two images, one feature that is the logit of Edema; the text lifts it by 2 and the box by none."""
    clean_ND = np.array([[-1.0, 0], [1.0, 0]] * 6, dtype=np.float32)
    lifted = clean_ND + np.array([2.0, 0], dtype=np.float32)
    altered = np.stack([np.stack([lifted, clean_ND], 1)] * 2, axis=1)
    encoder = encoder_of("two", slice(0, 1), slice(0, 2))
    sample = OverlaySample.draw(np.arange(12), seed=0)
    table = decision_effects(sample, TEXTS, answer(encoder, np.eye(2)), clean_ND, altered)
    values = table.set_index(["metric", "label", "overlay", "text"])["value"]
    assert values["flips", "", TEXT, "PORTABLE"] == pytest.approx(0.5)
    assert values["flips", "", BOX, "PORTABLE"] == 0

    def unit(x):
        return 1 / (1 + np.exp(-x))

    change = (unit(1) - unit(-1) + unit(3) - unit(1)) / 2
    assert values["change", "", TEXT, ""] == pytest.approx(change / 2, rel=1e-5)  # the other label stays
    assert values["named_change", "Edema", TEXT, "Edema"] == pytest.approx(change, rel=1e-5)
    assert values["named_change", "Edema", DIFFERENCE, "Edema"] == pytest.approx(change, rel=1e-5)
    assert values["named_to", "Edema", TEXT, "Edema"] == pytest.approx(0.5)
    assert values["named_away", "Edema", TEXT, "Edema"] == 0


def test_no_flip_among_the_images_has_the_exact_interval_and_not_a_point():
    still_ND = np.tile(np.array([[-1.0, 1.0]], dtype=np.float32), (200, 1))
    altered = np.stack([np.stack([still_ND] * 2, 1)] * 2, axis=1)
    encoder = encoder_of("two", slice(0, 1), slice(0, 2))
    for patients_N, patients in ((np.arange(200), 200), (np.arange(200) // 4, 50)):
        sample = OverlaySample.draw(patients_N, seed=0)
        table = decision_effects(sample, TEXTS, answer(encoder, np.eye(2)), still_ND, altered)
        own = table.set_index(["metric", "label", "overlay", "text"]).sort_index()
        exact = stats.binomtest(0, patients).proportion_ci()
        for metric, label, text in (
            ("flips", "", ""),
            ("flips", "", "PORTABLE"),
            ("named_to", "Edema", "Edema"),
        ):
            one = own.loc[(metric, label, TEXT, text)]
            assert (one["value"], one["low"]) == (0, 0) and one["high"] == pytest.approx(exact.high)
            apart = own.loc[(metric, label, DIFFERENCE, text)]
            assert apart["low"] < -0.005 and apart["high"] == pytest.approx(-apart["low"])


def test_half_the_images_flipped_have_scipys_exact_interval():
    values_N12 = np.stack([np.arange(40) % 2, np.zeros(40)], axis=1)[:, None].astype(float)
    (text, box, apart) = OverlaySample.draw(np.arange(40), seed=0).shares(values_N12)
    exact = stats.binomtest(20, 40).proportion_ci()
    assert text == pytest.approx((0.5, exact.low, exact.high), abs=1e-6)
    assert box[:2] == (0, 0) and apart[1] > 0.3


def test_a_sample_is_seeded_and_of_whole_folds():
    patients_N = np.arange(900) // 3
    one, same, other = (OverlaySample.draw(patients_N, seed) for seed in (0, 0, 1))
    assert len(one.places_N) == 200 and (one.places_N == same.places_N).all()
    assert (one.places_N != other.places_N).any()
    for patient in np.unique(one.patients_N):
        assert len(np.unique(one.folds_N[one.patients_N == patient])) == 1
    assert len(overlays([])) > 0
