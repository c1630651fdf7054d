"""A stranger's bundle: it predicts, or is refused in one line; nothing of it is run and nothing is fetched,
whether its digests are left as they were or made to fit what was done to it."""

import json
import os
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from tests.hostile.models.conftest import change_json
from tests.hostile.models.mutations import FUZZ, spoiled_bytes, spoiled_json
from tests.vlm.encoders.models import add_code
from tests.vlm.retold import retold


def test_an_honest_bundle_predicts_under_guard(guarded, honest):
    outcome = guarded.ask("predict", folder=str(honest / "bundle"), image=str(honest / "image.png"))
    row = json.loads(outcome.result)[0]
    assert outcome.orderly and 0 < row["probability.Edema"] < 1, outcome


def test_code_in_a_bundle_is_never_run(guarded, copy, tmp_path):
    folder, marker = copy("bundle"), tmp_path / "ran"
    add_code(folder / "encoder", marker)
    asks = guarded.ask("bundle", folder=str(folder))
    assert asks.orderly and "encoder/own.py is not of the bundle" in asks.refusal
    outcome = guarded.ask("bundle", folder=str(retold(folder)))
    assert outcome.orderly and "holds weights that are no safetensors" in outcome.refusal, outcome
    (folder / "encoder" / "own.py").rename(folder / "own.py")
    change_json(
        folder / "encoder" / "open_clip_config.json",
        lambda config: config["model_cfg"]["text_cfg"].update(tokenizer_kwargs={"trust_remote_code": True}),
    )
    outcome = guarded.ask("bundle", folder=str(retold(folder)))
    assert outcome.orderly and "tokenizer_kwargs must be a mapping" in outcome.refusal, outcome
    assert not marker.exists()


@pytest.mark.parametrize(
    "name",
    [
        "hf-hub:someone/model",
        "biomedclip",
        "ViT-B-32/openai",
        "timm:resnet18.a1_in1k",
        "timm:resnet18.no_such_tag",
        "timm:hf-hub:someone/model",
        "timm:resnet18@/dev/zero",
        "timm:resnet18@https://example.org/weights.bin",
        "local-dir:/etc",
        "local-dir:/proc/self",
        "local-dir:https://example.org/model",
        "https://example.org/model",
        "x" * 1000,
        "local-dir:" + "x" * 1000,
        "local-dir:~nobody-of-this-name/model",
        "timm:resnet18@" + "x" * 1000,
    ],
)
def test_an_encoder_that_a_bundle_names_is_not_fetched(guarded, copy, name):
    folder = copy("bundle")
    shutil.rmtree(folder / "encoder")

    def change(description: dict) -> None:
        description["encoder"] |= {"name": name, "in_bundle": False}

    outcome = guarded.ask("bundle", folder=str(retold(folder, change)))
    assert outcome.orderly and "the bundle's encoder does not load here" in outcome.refusal, outcome


@pytest.mark.parametrize("file", ["bundle.json", "head.safetensors", "encoder/open_clip_model.safetensors"])
@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "link"])
def test_what_is_no_file_is_not_read(guarded, copy, honest, file, kind):
    folder = copy("bundle")
    (folder / file).unlink()
    if kind == "fifo":
        os.mkfifo(folder / file)
    elif kind == "folder":
        (folder / file).mkdir()
    else:
        (folder / file).symlink_to("/dev/zero" if kind == "device" else honest / "bundle" / file)
    outcome = guarded.ask("bundle", folder=str(folder))
    assert outcome.orderly and (outcome.refusal or (file, kind) == ("bundle.json", "link")), outcome


@FUZZ
@given(data=st.data(), fits=st.booleans())
def test_any_change_of_what_a_bundle_says_is_survived(guarded, honest, tmp_path, data, fits):
    folder = shutil.copytree(honest / "bundle", tmp_path / "bundle", dirs_exist_ok=True)
    path = folder / "bundle.json"
    path.write_text(
        json.dumps(data.draw(spoiled_json(json.loads((honest / "bundle" / path.name).read_text()))))
    )
    if fits:
        spoiled = json.loads(path.read_text())
        retold(folder, lambda description: description.update(files=spoiled.get("files")))
    outcome = guarded.ask("predict", folder=str(folder), image=str(honest / "image.png"))
    assert outcome.orderly, outcome
    assert fits or outcome.refusal, outcome


@FUZZ
@given(data=st.data(), fits=st.booleans())
@pytest.mark.parametrize(
    "file",
    [
        "bundle.json",
        "head.safetensors",
        "README.md",
        "encoder/open_clip_config.json",
        "encoder/open_clip_model.safetensors",
        "encoder/tokenizer.json",
    ],
)
def test_any_damage_of_a_file_is_survived(guarded, honest, tmp_path, file, data, fits):
    folder = shutil.copytree(honest / "bundle", tmp_path / "bundle", dirs_exist_ok=True)
    content = (honest / "bundle" / file).read_bytes()
    spoiled = data.draw(spoiled_bytes(content).filter(lambda spoiled: spoiled != content))
    (folder / file).write_bytes(spoiled)
    if fits and file != "bundle.json":
        retold(folder)
    outcome = guarded.ask("predict", folder=str(folder), image=str(honest / "image.png"))
    assert outcome.orderly, outcome
    # The card is read by people alone, see `radtune verify`.
    assert fits or outcome.refusal or file in ("README.md", "bundle.json"), outcome


@FUZZ
@given(data=st.data())
def test_any_head_is_survived(guarded, honest, tmp_path, data):
    folder = shutil.copytree(honest / "bundle", tmp_path / "bundle", dirs_exist_ok=True)
    arrays = load_file(honest / "bundle" / "head.safetensors")
    name = data.draw(st.sampled_from([*sorted(arrays), "1/weight_DC", "own", "0/", "/"]))
    number = data.draw(st.sampled_from([0, 1, -1, 0.5, 3e38, 1e-38, float("inf"), float("nan"), 2**62]))
    kind = data.draw(st.sampled_from([np.float32, np.float64, np.float16, np.int64, np.uint8, np.bool_]))
    shape = data.draw(
        st.sampled_from([(), (0,), (1,), (2,), (3,), (1, 1), (32, 2), (2, 32), (32,), (1000, 1000)])
    )
    with np.errstate(all="ignore"):
        arrays[name] = np.full(shape, number).astype(kind)
    if data.draw(st.booleans()):
        del arrays[data.draw(st.sampled_from(sorted(arrays)))]
    save_file(arrays, folder / "head.safetensors")
    outcome = guarded.ask("predict", folder=str(retold(folder)), image=str(honest / "image.png"))
    assert outcome.orderly, outcome
    for row in json.loads(outcome.result or "[]"):
        assert all(0 <= row[f"probability.{label}"] <= 1 for label in ("Edema", "Cardiomegaly")), outcome
