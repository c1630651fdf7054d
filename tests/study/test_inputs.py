"""What a study stands on."""

import hashlib
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from cohort.errors import InputError
from cohort.labels import LabelPolicy
from cohort.manifest import Cohort
from cohort.writing import write_cohort
from study import Study
from study.cli import main
from study.inputs import open_inputs, searched, study_space
from study.run_folder import RunFolder
from study.study_file import validated
from tests.study.conftest import settings, square_cohort
from tests.trainables.towers import build_tower
from vlm.feature_kinds import side_by_side


def test_a_loss_of_multiclass_labels_is_refused_for_others_before_anything_is_computed(tmp_path):
    """For linear probes and fine-tuning, fixed and as a choice."""
    images = [f"{i}.png" for i in range(6)]
    columns = {name: images for name in ("image", "file", "patient", "study")}
    columns |= {"digest": [""] * 6, "present": [True] * 6, "view": [""] * 6, "split": ["train"] * 6}
    facts = {"source": "nothing", "policy": LabelPolicy(), "images_root": tmp_path}  # and no image is there
    targets_NC = np.eye(2)[np.arange(6) % 2]
    for multiclass in (False, True):
        write_cohort(
            tmp_path / "cohort", columns, targets_NC, labels=("A", "B"), multiclass=multiclass, **facts
        )
        for trainable in ("linear_probe", "fine_tune"):
            for search in ({"fixed": {"loss": "softmax"}}, {"ranges": {"loss": ["bce", "softmax"]}}):
                config = validated(settings(tmp_path, **search) | {"trainable": trainable})
                if multiclass:
                    assert study_space(config, Cohort.open(tmp_path / "cohort")).multiclass
                    continue
                with pytest.raises(InputError, match=r"^search\.\w+\.loss: softmax is for multiclass labels"):
                    open_inputs(config, RunFolder(tmp_path / "run"))
                assert not (tmp_path / "cache").exists()


def test_a_method_that_does_not_fit_the_tower_is_refused_before_features_are_computed(tmp_path):
    square_cohort(tmp_path / "cohort", images=40)
    encoder = build_tower("resnet", tmp_path / "resnet")
    config = validated(settings(tmp_path) | {"encoder": encoder, "trainable": "fine_tune"})
    with pytest.raises(InputError, match=r"set search\.fixed: \{lora_targets: convolutions\}"):
        open_inputs(config, RunFolder(tmp_path / "run"))
    assert not (tmp_path / "cache").exists()


def test_raw_pixels_are_in_colour_where_the_cohort_is(tmp_path, capsys):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    images = [f"{i}.png" for i in range(12)]
    for i, name in enumerate(images):
        colour = (200, 10, 10) if i % 2 else (10, 10, 200)
        Image.new("RGB", (40, 40), tuple(value + i for value in colour)).save(pictures / name)
    columns = {
        "image": images,
        "file": images,
        "digest": [hashlib.sha256((pictures / name).read_bytes()).hexdigest() for name in images],
        "present": [True] * 12,
        "patient": images,
        "study": images,
        "view": [""] * 12,
        "split": ["train"] * 12,
    }
    write_cohort(
        tmp_path / "cohort",
        columns,
        np.arange(12)[:, None] % 2,
        labels=("Red",),
        source="squares",
        policy=LabelPolicy(),
        images_root=pictures,
        channels=3,
    )
    inputs = open_inputs(validated(settings(tmp_path)), RunFolder(tmp_path / "run"))
    assert inputs.encoder.name == "pixels:32x32x3"
    np.testing.assert_allclose(inputs.embeddings.features_ND[1, [0, 1024, 2048]] * 255, [201, 11, 11])
    cohort, cache = str(tmp_path / "cohort"), str(tmp_path / "cache")
    assert main(["embed", cohort, "--encoder", "pixels", "--cache", cache]) == 0
    assert "12 x 3072 features of pixels:32x32x3, fp32, from the cache" in capsys.readouterr().out


# ---- what a study may ask of its encoder and its patients ----


def encoder_of(kinds, text=True, views=1):
    return SimpleNamespace(
        name="made-up",
        kinds=side_by_side(kinds),
        text_refusal="" if text else "encoder made-up has no text tower; zero-shot needs a CLIP model",
        image_views=SimpleNamespace(count=views),
    )


CLIP = {"pooled": (8,), "projected": (4,), "deep": (8, 8)}


def asked(tmp_path, encoder, features=None, **search):
    return searched(validated(settings(tmp_path, **search) | {"features": features}), encoder)


def test_the_search_chooses_among_projected_and_deep_where_the_encoder_has_both(tmp_path):
    assert asked(tmp_path, encoder_of(CLIP)) == ({}, {"features": ["projected", "deep"]})
    assert asked(tmp_path, encoder_of(CLIP), "deep") == ({"features": "deep"}, {})
    assert asked(tmp_path, encoder_of(CLIP), ["pooled", "projected+deep"]) == (
        {},
        {"features": ["pooled", "projected+deep"]},
    )


def test_without_text_no_head_is_drawn_towards_it_and_without_a_projection_pooled_takes_its_place(tmp_path):
    timm = encoder_of({"pooled": (8,), "deep": (8, 8)}, text=False)
    assert asked(tmp_path, timm) == ({}, {"features": ["pooled", "deep"]})
    pixels = encoder_of({"projected": (16,)}, text=False)
    assert asked(tmp_path, pixels) == ({"features": "projected", "anchor": "none"}, {})


def test_directions_are_left_out_where_an_image_has_views(tmp_path):
    fixed, ranges = asked(tmp_path, encoder_of(CLIP, views=2))
    assert ranges["normalisation"] == ["none", "center", "standardize"] and fixed == {}


@pytest.mark.parametrize(
    ("kinds", "text", "views", "features", "search", "message"),
    [
        (
            {"projected": (16,)},
            False,
            1,
            "deep",
            {},
            "encoder made-up has no deep features; it has projected",
        ),
        (
            {"projected": (16,)},
            False,
            1,
            None,
            {"fixed": {"anchor": "zero_shot"}},
            "search: anchor zero_shot needs text: encoder made-up has no text tower",
        ),
        (
            CLIP,
            True,
            2,
            None,
            {"fixed": {"normalisation": "l2", "features": "projected"}},
            "search: normalisation l2 knows one view of an image; leave out either",
        ),
    ],
)
def test_what_the_encoder_cannot_give_is_refused_in_one_line(
    tmp_path, kinds, text, views, features, search, message
):
    with pytest.raises(InputError) as caught:
        asked(tmp_path, encoder_of(kinds, text, views), features, **search)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_pixels_have_no_deep_features_and_a_study_says_so_before_it_trains(tmp_path):
    square_cohort(tmp_path / "cohort", images=40)
    with pytest.raises(InputError, match="features: encoder pixels has no deep features; it has projected"):
        Study.from_dict(settings(tmp_path) | {"features": "deep"}).run(echo=lambda line: None)
    assert not (tmp_path / "cache").exists()


def test_fewer_patients_than_folds_are_refused_with_the_remedy(tmp_path):
    square_cohort(tmp_path / "cohort", images=60, images_a_patient=12)
    inputs = open_inputs_of(tmp_path)
    with pytest.raises(InputError) as caught:
        _ = inputs.data
    said = "splits patients into 5 folds, and training and validation have 4; set search.selection: split"
    assert said in str(caught.value)


def test_a_small_validation_split_does_not_keep_cross_validation_from_running(tmp_path):
    """Two validation patients, none of them with a rare finding enough: the folds decide, not they."""
    square_cohort(tmp_path / "cohort", images=80, images_a_patient=4, splits=("train",) * 8 + ("val", "test"))
    inputs = open_inputs_of(tmp_path)
    assert len(np.unique(inputs.given.patients_N[inputs.given.judged_N()])) == 2
    assert inputs.data.folds == 5 and inputs.data.scored_C.any()


def open_inputs_of(folder):
    return open_inputs(validated(settings(folder)), RunFolder(folder / "run"))


def test_a_label_whose_positives_lie_in_one_fold_is_named_and_does_not_count(tmp_path):
    square_cohort(tmp_path / "cohort")
    inputs = open_inputs_of(tmp_path)
    assert inputs.uncounted == []
    data = inputs.data
    targets_NC = data.targets_NC.copy()
    targets_NC[data.fold_N != 2, 2] = 0
    targets_NC[data.fold_N == 2, 2] = 1
    targets_NC[np.flatnonzero(data.fold_N == 2)[0], 2] = 0
    object.__setattr__(inputs, "data", replace(data, targets_NC=targets_NC))
    assert inputs.uncounted == ["Rare"]
