"""A saved predictor predicts as it did, says what it is, and refuses what does not fit."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from cohort.decoding import decode
from cohort.errors import InputError
from cohort.geometry import apply_geometry
from cohort.intensity import Intensity
from cohort.labels import LabelPolicy
from scoring.decision_rule import DecisionRule
from scoring.predictions import Origin
from study.cli import main
from tests.vlm.encoders.models import add_code, change_text
from tests.vlm.miniature_biomedclip import build_miniature_biomedclip
from tests.vlm.retold import retold
from vlm.bundle import Bundle, verify_bundle
from vlm.bundle_writing import save_bundle
from vlm.embeddings import embed
from vlm.encoder_names import HubAccess
from vlm.encoders import Encoder, load_encoder
from vlm.linear_head import LinearHead
from vlm.predictor import Predictor

LABELS = ("Edema", "Cardiomegaly")


def some_head(width: int, l2: bool = True) -> LinearHead:
    rng = np.random.default_rng(0)
    return LinearHead.plain(rng.normal(0, 3, (width, 2)), rng.normal(0, 1, 2), l2=l2)


def predictor(encoder: Encoder, heads=None, thresholds_C=(0.5, 0.4)) -> Predictor:
    return Predictor(
        name="best-1",
        labels=LABELS,
        encoder=encoder,
        heads=heads or (some_head(encoder.width),),
        rule=DecisionRule.fitted("shrunk", thresholds_C, np.array([False, True])),
        origin=Origin(note="trial 7", study="nih-probe", trial=7, params={"loss": "bce"}, objective=0.25),
    )


@pytest.fixture
def save(drawn_cohort):
    """A bundle of a predictor, or of a made-up one on an encoder."""
    policy = LabelPolicy(uncertain="zeros", blank="negative", no_finding="complement")

    def write(folder: Path, what: Encoder | Predictor, cohort_hash="c0ffee", with_encoder=False) -> Path:
        cohort = replace(drawn_cohort, policy=policy, content_hash=cohort_hash)
        what = what if isinstance(what, Predictor) else predictor(what)
        return save_bundle(folder, what, cohort, card="# A card\n", with_encoder=with_encoder)

    return write


@pytest.fixture
def bundle_folder(miniature, tmp_path, save) -> Path:
    return save(tmp_path / "bundle", miniature)


def image_paths(cohort) -> list[Path]:
    return [cohort.images_root / file for file in cohort.column("file")]


# Predicting


def test_predictions_reproduce_the_probabilities_of_the_cohorts_embeddings(
    drawn_cohort, miniature, bundle_folder, tmp_path
):
    embeddings = embed(drawn_cohort, miniature, tmp_path / "cache", precision="fp32")
    logits_NC = some_head(32).logits(embeddings.features_ND)
    expected_NC = 1 / (1 + np.exp(-logits_NC.astype(np.float64)))

    paths = image_paths(drawn_cohort)
    table = Bundle.load(bundle_folder, "cpu").predict(paths, batch_size=4)

    probs_NC = np.stack([table[f"probability.{label}"].to_numpy() for label in LABELS], axis=1)
    np.testing.assert_allclose(probs_NC, expected_NC, rtol=0, atol=1e-5)
    decided_NC = np.stack([table[f"decision.{label}"].to_numpy() for label in LABELS], axis=1)
    np.testing.assert_array_equal(decided_NC, expected_NC >= [0.5, 0.4])
    assert 0 < decided_NC.sum() < decided_NC.size
    assert table["image"].to_pylist() == [str(path) for path in paths]
    assert table.column_names[1:] == [
        f"{kind}.{label}" for kind in ("probability", "decision") for label in LABELS
    ]


def test_one_prediction_worked_by_hand(tmp_path, save):
    """Two bright pixels of 1,024: features (1, 0.2), logits ln 3 and -ln 4, probabilities 3/4 and 1/5."""
    weight_DC = np.zeros((1024, 2), np.float32)
    weight_DC[0], weight_DC[1] = [np.log(3) - 0.1, 0], [0.5, 5 * -np.log(4)]
    heads = (LinearHead.plain(weight_DC),)
    folder = save(
        tmp_path / "bundle", predictor(load_encoder("pixels"), heads, thresholds_C=[0.75001, 0.2 - 1e-6])
    )
    pixels_HW = np.zeros((32, 32), np.uint8)
    pixels_HW[0, :2] = 255, 51
    Image.fromarray(pixels_HW).save(tmp_path / "x.png")
    row = Bundle.load(folder).predict([tmp_path / "x.png"]).to_pylist()[0]
    assert row["probability.Edema"] == pytest.approx(0.75, abs=1e-6)
    assert row["probability.Cardiomegaly"] == pytest.approx(0.2, abs=1e-6)
    assert (row["decision.Edema"], row["decision.Cardiomegaly"]) == (0, 1)


def test_gray_and_colour_files_mix_in_a_batch(bundle_folder, tmp_path, save):
    rng = np.random.default_rng(1)
    gray_HW = rng.integers(0, 256, (50, 60), dtype=np.uint8)
    Image.fromarray(gray_HW).save(tmp_path / "gray.png")
    Image.fromarray(np.repeat(gray_HW[:, :, None], 3, axis=2)).save(tmp_path / "same.png")
    Image.fromarray(rng.integers(0, 256, (50, 60, 3), dtype=np.uint8)).save(tmp_path / "colour.png")
    paths = [tmp_path / name for name in ("gray.png", "same.png", "colour.png")]
    gray, same, colour = Bundle.load(bundle_folder, "cpu").predict(paths)["probability.Edema"].to_pylist()
    assert gray == pytest.approx(same, abs=1e-6) and gray != pytest.approx(colour, abs=1e-6)


def test_a_real_full_size_radiograph_is_predicted_as_the_store_prepares_it(real_data, bundle_folder):
    path = sorted((real_data / "iu_xray" / "images_normalized").glob("*.png"))[0]
    bundle = Bundle.load(bundle_folder, "cpu")
    row = bundle.predict([path]).to_pylist()[0]
    image_HW = apply_geometry(decode(path.read_bytes(), path.name), bundle.predictor.encoder.geometry)
    expected_C = bundle.probabilities(image_HW[None, :, :, None])[0]
    assert [row[f"probability.{label}"] for label in LABELS] == pytest.approx(expected_C.tolist())


def test_16_bit_images_are_predicted_by_the_rule_of_the_cohort(miniature, drawn_cohort, tmp_path):
    deep_HW = np.random.default_rng(0).integers(0, 4096, (40, 50), dtype=np.uint16)
    Image.fromarray(deep_HW).save(tmp_path / "deep.png")
    Image.fromarray(Intensity(0, 8191, "full").to_8_bit(deep_HW)).save(tmp_path / "as_trained.png")
    cohort = replace(drawn_cohort, intensity=Intensity(0, 8191, "full"))
    folder = save_bundle(tmp_path / "bundle", predictor(miniature), cohort, card="# A card\n")
    bundle = Bundle.load(folder, "cpu")
    assert bundle.intensity == cohort.intensity
    deep, as_trained = bundle.predict([tmp_path / "deep.png", tmp_path / "as_trained.png"]).to_pylist()
    assert {**deep, "image": ""} == {**as_trained, "image": ""}


def test_images_that_the_training_says_nothing_about_are_refused(bundle_folder, tmp_path):
    Image.fromarray(np.zeros((40, 50), dtype=np.uint16)).save(tmp_path / "deep.png")
    (tmp_path / "scan.dcm").write_bytes(bytes(128) + b"DICM")
    bundle = Bundle.load(bundle_folder, "cpu")
    for name, message in (
        ("deep.png", "has 16 bits"),
        ("scan.dcm", "a DICOM without an image"),
    ):
        with pytest.raises(InputError, match=rf"^1 of 1 images cannot be read: .*{name}: .*{message}"):
            bundle.predict([tmp_path / name])


def test_the_bytes_of_a_file_are_predicted_as_the_file(drawn_cohort, bundle_folder, monkeypatch):
    paths = [drawn_cohort.images_root / name for name in drawn_cohort.table["file"].to_pylist()[:2]]
    bundle = Bundle.load(bundle_folder, "cpu")
    given = bundle.predict([paths[0].read_bytes(), paths[1]])
    assert given["image"].to_pylist() == ["image 0", str(paths[1])]
    assert given.drop_columns("image").equals(bundle.predict(paths).drop_columns("image"))
    with pytest.raises(InputError, match="1 of 2 images cannot be read: image 1: unreadable image"):
        bundle.predict([paths[0], b"no image"])
    monkeypatch.setattr("cohort.image_files.LARGEST_IMAGE_FILE", 100)
    with pytest.raises(InputError, match="image 0: has more than 100 bytes"):
        bundle.predict([paths[0].read_bytes()])


def test_unreadable_images_are_counted_and_named(drawn_cohort, bundle_folder, tmp_path):
    good = image_paths(drawn_cohort)[0]
    cut, missing = tmp_path / "cut.png", tmp_path / "missing.png"
    cut.write_bytes(good.read_bytes()[:200])
    bundle = Bundle.load(bundle_folder, "cpu")
    with pytest.raises(InputError) as caught:
        bundle.predict([cut, good, missing])
    message = str(caught.value)
    assert message.startswith("2 of 3 images cannot be read: ") and "\n" not in message
    assert f"{cut}: unreadable image" in message and f"{missing}: No such file or directory" in message

    with pytest.raises(
        InputError, match=r"^12 of 13 images cannot be read: (.*missing.png: [^;]*; ){10}\.\.\.;"
    ):
        bundle.predict([good] + 12 * [missing])

    table = bundle.predict([cut, good, missing], skip_unreadable=True)
    assert [reason is None for reason in table["unreadable"].to_pylist()] == [False, True, False]
    for column in ("probability.Edema", "decision.Edema"):
        assert [value is None for value in table[column].to_pylist()] == [True, False, True]
    assert table["probability.Edema"][1] == bundle.predict([good])["probability.Edema"][0]


def test_settings_out_of_range_are_refused(bundle_folder):
    bundle = Bundle.load(bundle_folder, "cpu")
    with pytest.raises(InputError, match="no images to predict"):
        bundle.predict([])
    with pytest.raises(InputError, match="batch_size must be at least 1, got 0"):
        bundle.predict(["x.png"], batch_size=0)


# What a bundle says


def test_a_bundle_says_what_it_is(miniature, drawn_cohort, bundle_folder):
    description = json.loads((bundle_folder / "bundle.json").read_text())
    assert description["labels"] == list(LABELS)
    assert description["encoder"]["fingerprint"] == miniature.fingerprint
    assert description["transform"]["geometry"]["size"] == 160
    assert description["normalisation"] == ["l2"]
    assert description["decisions"]["strategy"] == "shrunk"
    assert description["decisions"]["shared"] == ["Cardiomegaly"]
    assert (description["origin"]["study"], description["origin"]["trial"]) == ("nih-probe", 7)
    train_NC = drawn_cohort.targets_NC(drawn_cohort.indices("train"))
    assert description["training"]["cohort_hash"] == "c0ffee"
    assert description["training"]["prevalences"] == pytest.approx(
        dict(zip(LABELS, (train_NC.sum(axis=0) + 0.5) / 7, strict=True))
    )
    assert (bundle_folder / "README.md").read_text() == "# A card\n"

    bundle = Bundle.load(bundle_folder, "cpu")
    assert bundle.policy == LabelPolicy(uncertain="zeros", blank="negative", no_finding="complement")
    rule = bundle.predictor.rule
    assert (bundle.labels, rule.thresholds_C.tolist()) == (LABELS, [0.5, 0.4])
    assert rule.shared_C.tolist() == [False, True]
    assert bundle.predictor.origin == predictor(miniature).origin
    assert load_file(bundle_folder / "head.safetensors")["thresholds_C"].dtype == np.float64


def test_a_bundle_shows_itself_in_a_notebook(bundle_folder):
    def rename(description: dict) -> None:
        description["labels"][0] = "<b>Edema</b>"
        description["training"]["prevalences"] = {}

    bundle = Bundle.load(retold(bundle_folder, rename), "cpu")
    assert repr(bundle).startswith(
        f"Bundle({bundle_folder}: best-1 of nih-probe, 2 labels, encoder local-dir:"
    )
    html = bundle._repr_html_()
    assert "<td>&lt;b&gt;Edema&lt;/b&gt;</td><td>0.500</td><td>its own</td>" in html
    assert "<td>Cardiomegaly</td><td>0.400</td><td>shared</td>" in html and "<b>" not in html


def test_a_bundle_of_a_model_of_this_machine_holds_it_and_says_nothing_of_where_it_lay(
    miniature_folder, drawn_cohort, tmp_path, save
):
    elsewhere = shutil.copytree(miniature_folder, tmp_path / "elsewhere")
    encoder = load_encoder(f"local-dir:{elsewhere}", device="cpu")
    bundle = save(tmp_path / "bundle", encoder)
    paths = image_paths(drawn_cohort)[:2]
    expected = Bundle.load(bundle, "cpu").predict(paths)
    shutil.rmtree(elsewhere)

    moved = shutil.move(bundle, tmp_path / "moved")
    assert Bundle.load(moved, "cpu").predict(paths).equals(expected)
    assert json.loads((moved / "bundle.json").read_text())["encoder"]["name"] == "local-dir:elsewhere"


def test_a_bundle_that_names_its_encoder_loads_where_that_does(tmp_path, save):
    folder = save(tmp_path / "bundle", load_encoder("phantom-clip", device="cpu"))
    assert not (folder / "encoder").exists()
    assert Bundle.load(folder, "cpu").predictor.encoder.name == "phantom-clip"
    retold(folder, _put("encoder", "name", value="hf-hub:someone/nothing"))
    with pytest.raises(
        InputError, match=r"encoder does not load here: .* or export it again with --with-encoder"
    ):
        Bundle.load(folder, "cpu")


def test_a_bundle_that_names_a_place_on_a_machine_is_refused(tmp_path, save, monkeypatch):
    folder = save(tmp_path / "bundle", load_encoder("phantom-clip", device="cpu"))
    monkeypatch.setattr("vlm.bundle.load_encoder", lambda *_, **__: pytest.fail("read"))
    for name in ("local-dir:/etc", "timm:resnet18@/etc/passwd"):
        with pytest.raises(InputError, match="is a place on some machine"):
            Bundle.load(retold(folder, _put("encoder", "name", value=name)), "cpu")


@pytest.mark.parametrize(("allowed", "access"), [(False, HubAccess.CACHE), (True, HubAccess.ANONYMOUS)])
def test_an_encoder_is_downloaded_only_where_it_is_allowed_and_never_with_the_token(
    bundle_folder, miniature, monkeypatch, allowed, access
):
    seen = []
    monkeypatch.setattr("vlm.bundle.load_encoder", lambda *_, hub, **__: seen.append(hub) or miniature)
    Bundle.load(bundle_folder, "cpu", allow_download=allowed)
    assert seen == [access]
    monkeypatch.setattr(
        "vlm.bundle.Bundle.load", lambda *_, allow_download: seen.append(allow_download) or 1 / 0
    )
    for command in (["predict"], ["saliency", "--out", str(bundle_folder / "maps")]):
        words = [*command, str(bundle_folder), "x.png", *(["--allow-download"] if allowed else [])]
        with pytest.raises(ZeroDivisionError):
            main(words)
    assert seen[1:] == [allowed, allowed]


def test_pixels_need_no_weights_in_the_bundle(tmp_path, save):
    folder = save(tmp_path / "bundle", load_encoder("pixels"), with_encoder=True)
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "bundle.json", "head.safetensors"]
    assert Bundle.load(folder).predictor.encoder.name == "pixels"


def test_an_average_of_heads_is_exported_as_it_scores(miniature, drawn_cohort, tmp_path, save):
    """One head on directions and one on features as they are: no single matrix holds both."""
    heads = (some_head(32), some_head(32, l2=False))
    folder = save(tmp_path / "bundle", predictor(miniature, heads))
    embeddings = embed(drawn_cohort, miniature, tmp_path / "cache", precision="fp32")
    logits_NC = np.mean([head.logits(embeddings.features_ND) for head in heads], axis=0)
    table = Bundle.load(folder, "cpu").predict(image_paths(drawn_cohort))
    probs_NC = np.stack([table[f"probability.{label}"].to_numpy() for label in LABELS], axis=1)
    np.testing.assert_allclose(probs_NC, 1 / (1 + np.exp(-logits_NC)), rtol=0, atol=1e-5)


# Bad input


def test_a_bundle_whose_encoder_asks_to_run_code_is_refused_and_does_not_run_it(
    miniature, tmp_path, save, capsys
):
    folder, marker = save(tmp_path / "bundle", miniature, with_encoder=True), tmp_path / "ran"
    add_code(folder / "encoder", marker)
    change_text(folder / "encoder", tokenizer_kwargs={"trust_remote_code": True})
    (folder / "encoder" / "own.py").unlink()
    retold(folder)
    assert main(["predict", str(folder), str(tmp_path / "x.png")]) == 2
    error = capsys.readouterr().err
    assert "tokenizer_kwargs must be a mapping" in error and error.count("\n") == 1
    assert not marker.exists()


@pytest.mark.parametrize("with_encoder", [False, True])
def test_an_encoder_with_other_weights_is_refused(miniature_folder, tmp_path, with_encoder, save):
    weights = shutil.copytree(miniature_folder, tmp_path / "weights")
    encoder = load_encoder(f"local-dir:{weights}" if with_encoder else "phantom-clip", device="cpu")
    folder = save(tmp_path / "bundle", encoder, with_encoder=with_encoder)
    if with_encoder:
        build_miniature_biomedclip(folder / "encoder", seed=1)
    retold(folder, *[] if with_encoder else [_put("encoder", "fingerprint", value="0" * 64)])
    with pytest.raises(
        InputError, match=r"with the fingerprint .* other weights or another transform"
    ) as caught:
        Bundle.load(folder, "cpu")
    assert "\n" not in str(caught.value)


def test_a_folder_that_holds_something_else_is_left_alone(miniature, bundle_folder, tmp_path, save):
    assert save(bundle_folder, miniature, cohort_hash="another") == bundle_folder
    assert Bundle.load(bundle_folder, "cpu").description["training"]["cohort_hash"] == "another"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]

    (bundle_folder / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds 'notes.txt' \(1 in all\), which no bundle put there"):
        save(bundle_folder, miniature)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "README.md").write_text("mine")
    with pytest.raises(InputError, match=r"holds 'README.md'"):
        save(tmp_path / "other", miniature)
    with pytest.raises(InputError, match="the output must be a folder, and this is a file"):
        save(tmp_path / "other" / "README.md", miniature)


def test_an_export_that_fails_leaves_the_former_bundle(miniature, bundle_folder, tmp_path, monkeypatch, save):
    monkeypatch.setattr(type(miniature), "save", lambda self, folder: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save(bundle_folder, miniature, with_encoder=True)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert Bundle.load(bundle_folder, "cpu").description["training"]["cohort_hash"] == "c0ffee"


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("bundle.json", None, r"no bundle there \(bundle.json is missing\)"),
        ("bundle.json", "{", "damaged"),
        ("bundle.json", '{"format": 4}', "format must be 5, got 4"),
        ("bundle.json", '{"format": 5}', r"damaged \(radtune: Field required\)"),
        ("bundle.json", "[" * 100_000, "damaged \\(nested too deeply"),
        ("head.safetensors", None, "head.safetensors is missing; export the bundle again"),
        ("head.safetensors", "x" * 50, "head.safetensors was changed; export the bundle again"),
    ],
)
def test_a_damaged_bundle_is_one_line(bundle_folder, file, content, message):
    (bundle_folder / file).unlink()
    if content is not None:
        (bundle_folder / file).write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        Bundle.load(bundle_folder, "cpu")
    assert "\n" not in str(caught.value)


def test_a_label_renamed_by_hand_is_refused(bundle_folder):
    path = bundle_folder / "bundle.json"
    path.write_text(path.read_text().replace('"Edema"', '"Oedema"'))
    with pytest.raises(InputError, match=r"bundle.json: was changed since it was written \(its digest is"):
        Bundle.load(bundle_folder, "cpu")


def test_nothing_of_the_encoder_is_read_before_its_files_are_those_that_were_written(
    miniature, tmp_path, save, monkeypatch
):
    monkeypatch.setattr("vlm.bundle.load_encoder", lambda *_, **__: pytest.fail("read"))
    folder = save(tmp_path / "bundle", miniature, with_encoder=True)
    (folder / "encoder" / "config.4.0.0.json").write_text("{}")
    with pytest.raises(InputError, match=r"encoder/config.4.0.0.json is not of the bundle"):
        Bundle.load(folder)
    (folder / "encoder" / "config.4.0.0.json").unlink()
    vocabulary = (folder / "encoder" / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    (folder / "encoder" / "tokenizer.json").symlink_to(vocabulary)
    with pytest.raises(InputError, match=r"encoder/tokenizer.json is a link"):
        Bundle.load(folder)


def test_a_pickle_is_no_part_of_a_bundle(miniature, tmp_path, save):
    folder = save(tmp_path / "bundle", miniature, with_encoder=True)
    build_miniature_biomedclip(folder / "encoder", weights="open_clip_pytorch_model.bin")
    with pytest.raises(InputError, match="holds weights that are no safetensors"):
        Bundle.load(retold(folder))


def _put(*place: str, value: object):
    """Sets one value of bundle.json."""

    def change(description: dict) -> None:
        part = description
        for key in place[:-1]:
            part = part[key]
        part[place[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_put("labels", value=None), "labels: Input should be a valid list"),
        (_put("labels", value="Edema"), "labels: Input should be a valid list"),
        (_put("labels", value=[1, 2]), "labels.0: Input should be a valid string"),
        (_put("labels", value=[]), "labels: List should have at least 1 item"),
        (
            _put("labels", value=["Edema", "Edema"]),
            "labels: must be different names, and 'Edema' stands there",
        ),
        (
            _put("labels", value=["Edema", "Effusion"]),
            "decisions.shared: 'Cardiomegaly' is not among the labels",
        ),
        (_put("labels", value=["Edema", "Cardiomegaly", "Mass"]), r"shared_C must be bool \(2,\)"),
        (_put("policy", value={"uncertain": 3}), "policy.uncertain"),
        (_put("policy", "uncertain", value="perhaps"), "uncertain rule must be one of"),
        (_put("encoder", value="pixels"), "encoder: Input should be a valid dictionary"),
        (_put("encoder", "features", value=["tokens"]), "encoder.features.0: Input should be 'projected'"),
        (
            _put("encoder", "image_views", "resolution", value=10**6),
            "encoder.image_views.resolution: Input should be less",
        ),
        (
            _put("encoder", "image_views", "shifts", value=10**9),
            "encoder.image_views.shifts: Input should be less than",
        ),
        (_put("encoder", "in_bundle", value="yes"), "encoder.in_bundle: Input should be a valid boolean"),
        (
            _put("transform", "intensity", value="full"),
            "transform.intensity: Input should be a valid dictionary",
        ),
        (
            _put("transform", "intensity", value={"low": 5, "high": 5, "rule": "full"}),
            "intensity must go from",
        ),
        (_put("decisions", "strategy", value="own"), "decisions.strategy: Input should be 'fixed', 'global'"),
        (
            _put("decisions", "multiclass", value="yes"),
            "decisions.multiclass: Input should be a valid boolean",
        ),
        (
            _put("decisions", "scale", "width", value=0.0),
            "decisions.scale.width: Input should be greater than 0",
        ),
        (
            _put("decisions", "scale", "centre", value=float("nan")),
            "decisions.scale.centre: Input should be a fin",
        ),
        (_put("origin", "run", value="this"), "origin.run: Extra inputs are not permitted"),
        (_put("surprise", value=1), "surprise: Extra inputs are not permitted"),
        (_put("files", "../outside", value="0" * 64), "files.*String should match pattern"),
    ],
)
def test_a_bundle_that_says_what_none_may_is_refused_in_one_line(bundle_folder, change, message):
    with pytest.raises(InputError, match=message) as caught:
        Bundle.load(retold(bundle_folder, change), "cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("thresholds_C", lambda t: t[:1], r"shared_C must be bool \(1,\)"),
        ("thresholds_C", lambda t: np.append(t, 0.5), r"shared_C must be bool \(3,\)"),
        ("thresholds_C", lambda t: t * np.nan, r"thresholds_C must be one number in \[0, 1\] a label"),
        ("thresholds_C", lambda t: -t, r"thresholds_C must be one number in \[0, 1\] a label"),
        ("thresholds_C", lambda t: t[:, None], r"thresholds_C must be one number in \[0, 1\] a label"),
        ("thresholds_C", lambda t: t.astype(np.float32), "thresholds_C must be float64, not float32"),
        ("0/weight_DC", lambda w: w * np.float32(np.nan), "weight_DC must be finite"),
        ("0/weight_DC", lambda w: w[:, :1], r"bias_C must have shape \(1,\)"),
        ("0/weight_DC", lambda w: w.astype(np.float16), "weight_DC must be float32, not float16"),
        ("0/weight_DC", lambda w: w * 0 + np.float32(3e38), r"0/weight_DC must lie within 1e\+18"),
        ("0/bias_C", lambda b: b[:1], r"bias_C must have shape \(2,\)"),
        ("0/scale_D", lambda s: -s, "scale_D must be positive"),
        ("0/l2", lambda _: np.zeros(0, np.uint8), r"l2 must be uint8 \(1,\)"),
        ("0/first", lambda f: f + 1, "heads must be one at least, of at most 32 columns"),
        ("0/first", lambda f: f - 1, "first must be a column from 0"),
        ("0/first", lambda _: np.full(1, np.inf), r"first must be int64 \(1,\)"),
        ("1/first", lambda _: np.zeros(1, np.int64), r"missing or damaged \('l2'\)"),
        ("weights", lambda _: np.zeros(1), "missing or damaged"),
    ],
)
def test_heads_and_thresholds_that_do_not_fit_are_refused_in_one_line(bundle_folder, name, change, message):
    arrays = load_file(bundle_folder / "head.safetensors")
    arrays[name] = np.ascontiguousarray(change(arrays.get(name)))
    save_file(arrays, bundle_folder / "head.safetensors")
    with pytest.raises(InputError, match=message) as caught:
        Bundle.load(retold(bundle_folder), "cpu")
    assert "\n" not in str(caught.value)


def test_scores_that_are_not_finite_are_an_error_and_no_probability(bundle_folder, drawn_cohort):
    """A logit of infinity would have the probability 1."""
    arrays = load_file(bundle_folder / "head.safetensors")
    arrays["0/scale_D"][:] = 1e-38
    arrays["0/weight_DC"][:] = 1e6
    save_file(arrays, bundle_folder / "head.safetensors")
    bundle = Bundle.load(retold(bundle_folder), "cpu")
    with pytest.raises(InputError, match="its scores are not finite, so that they predict nothing"):
        bundle.predict(image_paths(drawn_cohort)[:1])


def test_an_encoder_whose_weights_are_not_finite_predicts_nothing(miniature, drawn_cohort, tmp_path, save):
    folder = save(tmp_path / "bundle", miniature, with_encoder=True)
    weights = folder / "encoder" / "open_clip_model.safetensors"
    save_file({name: np.full_like(one, np.nan) for name, one in load_file(weights).items()}, weights)
    encoder = load_encoder(f"local-dir:{folder / 'encoder'}", device="cpu")
    bundle = Bundle.load(retold(folder, _put("encoder", "fingerprint", value=encoder.fingerprint)), "cpu")
    with pytest.raises(InputError, match="its scores are not finite"):
        bundle.predict(image_paths(drawn_cohort)[:1])


# Verifying


def test_a_bundle_as_it_was_written_is_verified_without_its_encoder(miniature, tmp_path, save, monkeypatch):
    monkeypatch.setattr("vlm.bundle.load_encoder", lambda *_, **__: pytest.fail("loaded"))
    folder = save(tmp_path / "bundle", miniature, with_encoder=True)
    digest = json.loads((folder / "bundle.json").read_text())["digest"]
    files = sum(path.is_file() for path in folder.rglob("*"))
    assert verify_bundle(folder) == f"{folder}: {files} files as they were written; digest {digest}"


def test_every_file_that_is_not_as_it_was_written_is_named(miniature, tmp_path, save):
    folder = save(tmp_path / "bundle", miniature, with_encoder=True)
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "bundle.json"]
    for path in files:
        content = path.read_bytes()
        path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
        with pytest.raises(
            InputError, match=rf"1 of {len(files)} files .*: {path.relative_to(folder)} was changed;"
        ):
            verify_bundle(folder)
        path.write_bytes(content)
    (folder / "README.md").unlink()
    (folder / "encoder" / "more").mkdir()
    (folder / "encoder" / "more" / "own.py").touch()
    with pytest.raises(
        InputError, match=r"2 of .* written: README.md is missing; encoder/more/own.py is not of the bundle;"
    ) as caught:
        verify_bundle(folder)
    assert "\n" not in str(caught.value)


# Multiclass labels


def test_a_bundle_of_multiclass_labels_decides_for_one_and_names_it(miniature, drawn_cohort, tmp_path, save):
    embeddings = embed(drawn_cohort, miniature, tmp_path / "cache", precision="fp32")
    logits_NC = some_head(32).logits(embeddings.features_ND).astype(np.float64)
    expected_NC = np.exp(logits_NC) / np.exp(logits_NC).sum(axis=1, keepdims=True)
    second = np.median(expected_NC[:, 1])  # its threshold, against 0.5 of the first: half of the images
    rule = DecisionRule.fitted("per_label", [0.5, second], np.zeros(2, bool), multiclass=True)
    folder = save(tmp_path / "bundle", replace(predictor(miniature), rule=rule))
    assert json.loads((folder / "bundle.json").read_text())["decisions"]["multiclass"] is True

    paths = image_paths(drawn_cohort)
    bundle = Bundle.load(folder, "cpu")
    table = bundle.predict(paths)
    assert bundle.predictor.rule.multiclass
    assert table.column_names[:2] == ["image", "label"]
    probs_NC = np.stack([table[f"probability.{label}"].to_numpy() for label in LABELS], axis=1)
    decided_NC = np.stack([table[f"decision.{label}"].to_numpy() for label in LABELS], axis=1)
    np.testing.assert_allclose(probs_NC, expected_NC, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(decided_NC.sum(axis=1), 1)
    second_N = expected_NC[:, 1] > second
    assert second_N.sum() == len(paths) // 2
    assert table["label"].to_pylist() == [LABELS[int(chosen)] for chosen in second_N]

    cut = tmp_path / "cut.png"
    cut.write_bytes(b"no image")
    row = bundle.predict([cut, paths[0]], skip_unreadable=True).to_pylist()[0]
    assert row["label"] is None and row["decision.Edema"] is None


def test_independent_labels_have_no_column_for_the_one(bundle_folder, drawn_cohort):
    assert json.loads((bundle_folder / "bundle.json").read_text())["decisions"]["multiclass"] is False
    assert (
        "label" not in Bundle.load(bundle_folder, "cpu").predict(image_paths(drawn_cohort)[:1]).column_names
    )
