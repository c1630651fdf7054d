import copy
import json
import shutil
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import image_transform_v2
from PIL import Image
from safetensors.torch import load_file, save_file

from cohort.errors import InputError
from cohort.geometry import apply_geometry
from tests.vlm.encoders.models import random_images, small_clip, snapshot
from tests.vlm.miniature_biomedclip import MODEL_CONFIG, build_miniature_biomedclip
from vlm.encoders import load_encoder


def plain_open_clip(folder: Path, **overrides) -> torch.nn.Module:
    return open_clip.create_model(f"local-dir:{folder}", require_pretrained=True, **overrides).eval()


# The same features as plain open_clip


@pytest.mark.parametrize("shape", [(200, 170), (170, 200, 3)])
def test_a_miniature_biomedclip_gives_the_features_of_plain_open_clip(miniature, miniature_folder, shape):
    text_config = MODEL_CONFIG["text_cfg"] | {"hf_model_name": str(miniature_folder)}
    reference = plain_open_clip(miniature_folder, text_cfg=text_config | {"hf_model_pretrained": False})
    transform = image_transform_v2(
        open_clip.transform.PreprocessCfg(**reference.visual.preprocess_cfg), False
    )
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)

    ours = apply_geometry(image, miniature.geometry)
    features_BD = miniature.image_features(ours.reshape(1, *ours.shape[:2], -1))

    expected_BD = reference.encode_image(transform(Image.fromarray(image))[None]).detach()
    torch.testing.assert_close(features_BD, expected_BD, rtol=0, atol=1e-6)
    assert (miniature.width, features_BD.dtype) == (32, torch.float32)

    tokenizer = open_clip.get_tokenizer(f"local-dir:{miniature_folder}")
    prompts = ["Cardiomegaly", "a chest x-ray showing no pneumothorax"]
    torch.testing.assert_close(
        miniature.text_features(prompts), reference.encode_text(tokenizer(prompts)).detach()
    )
    assert miniature.logit_scale == pytest.approx(1 / 0.07)


def test_the_transform_follows_the_models_own_configuration(tmp_path):
    preprocess = {
        "mean": [0.5, 0.4, 0.3],
        "std": [0.2, 0.3, 0.4],
        "interpolation": "bilinear",
        "resize_mode": "longest",
        "fill_color": 7,
    }
    encoder = load_encoder(f"local-dir:{small_clip(tmp_path / 'clip', preprocess=preprocess)}")
    geometry = encoder.geometry
    assert (geometry.size, geometry.resize_mode, geometry.interpolation, geometry.fill) == (
        *(32, "longest", "bilinear", 7),
    )
    assert (encoder.mean, encoder.std) == ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))


# Before the projection


def test_projecting_pooled_features_gives_the_projected_ones(miniature, miniature_folder, tmp_path):
    folder = small_clip(tmp_path / "clip")
    for projected, path, project in (
        (miniature, miniature_folder, lambda clip, x: clip.visual.head(x)),
        (load_encoder(f"local-dir:{folder}"), folder, lambda clip, x: x @ clip.visual.proj),
    ):
        pooled = load_encoder(f"local-dir:{path}", features=("pooled",))
        images_BHWC = random_images(projected, channels=3)
        features_BD = pooled.image_features(images_BHWC)
        assert features_BD.shape == (3, pooled.width) and pooled.width > projected.width
        torch.testing.assert_close(project(pooled.clip, features_BD), projected.image_features(images_BHWC))
        assert pooled.fingerprint != projected.fingerprint
        assert projected.text_refusal == ""
        with pytest.raises(InputError, match="pooled features are not in the space of the text tower"):
            pooled.text_features(["edema"])


def test_a_model_without_a_projection_has_no_pooled_features(tmp_path):
    folder = small_clip(tmp_path / "clip", vision={"layers": [1, 1, 1, 1], "width": 8})
    assert load_encoder(f"local-dir:{folder}").width == 8
    with pytest.raises(InputError, match="its ModifiedResNet has no pooled features; it has projected, deep"):
        load_encoder(f"local-dir:{folder}", features=("pooled",))
    with pytest.raises(InputError, match="features must be of projected, pooled, deep, got 'tokens'"):
        load_encoder(f"local-dir:{folder}", features=("tokens",))


# Fingerprint


def test_the_fingerprint_tells_weights_and_transform_apart_and_nothing_else(
    miniature, miniature_folder, tmp_path
):
    moved = shutil.copytree(miniature_folder, tmp_path / "moved")
    assert load_encoder(f"local-dir:{moved}").fingerprint == miniature.fingerprint

    pickled = build_miniature_biomedclip(tmp_path / "pickled", weights="open_clip_pytorch_model.bin")
    assert load_encoder(f"local-dir:{pickled}").fingerprint == miniature.fingerprint

    weights = load_file(moved / "open_clip_model.safetensors")
    weights["visual.head.proj.weight"][0, 0] += 1e-7
    save_file(weights, moved / "open_clip_model.safetensors")
    assert load_encoder(f"local-dir:{moved}").fingerprint != miniature.fingerprint

    config = json.loads((pickled / "open_clip_config.json").read_text())
    config["preprocess_cfg"]["mean"][0] += 1e-7
    (pickled / "open_clip_config.json").write_text(json.dumps(config))
    assert load_encoder(f"local-dir:{pickled}").fingerprint != miniature.fingerprint


def test_another_backbone_is_another_encoder_with_the_same_text_tower(miniature, tmp_path):
    visual, tower = copy.deepcopy((miniature.backbone, miniature.tower))
    same = miniature.with_backbone(visual, tower)
    assert same.fingerprint == miniature.fingerprint and same.name == f"{miniature.name} (fine-tuned)"
    with torch.no_grad():
        visual.head.proj.weight[0, 0] += 1
    tuned = miniature.with_backbone(visual, tower)
    assert tuned.fingerprint != miniature.fingerprint and tuned.backbone is visual
    assert tuned.clip.text is miniature.clip.text
    images_BHWC = random_images(miniature)
    assert not torch.equal(tuned.image_features(images_BHWC), miniature.image_features(images_BHWC))
    torch.testing.assert_close(tuned.text_features(["edema"]), miniature.text_features(["edema"]))
    tuned.save(tmp_path / "tuned")
    assert load_encoder(f"local-dir:{tmp_path / 'tuned'}").fingerprint == tuned.fingerprint


# Saving


def test_a_saved_encoder_loads_again_with_equal_features(miniature, tmp_path):
    miniature.save(tmp_path / "saved")
    saved = load_encoder(f"local-dir:{tmp_path / 'saved'}")
    images_BHWC = random_images(miniature)
    torch.testing.assert_close(
        saved.image_features(images_BHWC), miniature.image_features(images_BHWC), rtol=0, atol=0
    )
    torch.testing.assert_close(
        saved.text_features(["edema"]), miniature.text_features(["edema"]), rtol=0, atol=0
    )
    assert saved.fingerprint == miniature.fingerprint


def test_plain_open_clip_loads_a_saved_encoder(tmp_path):
    encoder = load_encoder(f"local-dir:{small_clip(tmp_path / 'clip')}")
    encoder.save(tmp_path / "saved")
    reference = plain_open_clip(tmp_path / "saved")
    images_BHWC = random_images(encoder, channels=3)
    x_BCHW = torch.from_numpy(images_BHWC).permute(0, 3, 1, 2) / 255
    x_BCHW = (x_BCHW - torch.tensor(encoder.mean).view(3, 1, 1)) / torch.tensor(encoder.std).view(3, 1, 1)
    torch.testing.assert_close(encoder.image_features(images_BHWC), reference.encode_image(x_BCHW).detach())
    tokens = open_clip.get_tokenizer(f"local-dir:{tmp_path / 'saved'}")(["edema"])
    torch.testing.assert_close(encoder.text_features(["edema"]), reference.encode_text(tokens).detach())


# open_clip's own tags


def test_a_pretrained_tag_of_open_clip_brings_its_transform_and_activation(hub_cache, tmp_path, monkeypatch):
    folder = small_clip(tmp_path / "clip")
    config = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-mini", config)
    tag = {"hf_hub": "someone/mini/", "mean": (0.5, 0.4, 0.3), "resize_mode": "squash", "quick_gelu": True}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "ViT-mini", {"tagged": tag})
    shutil.copy(folder / "open_clip_model.safetensors", snapshot(hub_cache, "someone/mini"))

    encoder = load_encoder("ViT-mini/tagged")

    assert encoder.mean == (0.5, 0.4, 0.3) and encoder.geometry.resize_mode == "squash"
    block = encoder.clip.visual.transformer.resblocks[0]
    assert isinstance(block.mlp.gelu, open_clip.transformer.QuickGELU)
    encoder.save(tmp_path / "saved")
    assert load_encoder(f"local-dir:{tmp_path / 'saved'}").fingerprint == encoder.fingerprint
    with pytest.raises(
        InputError, match="must be MODEL/TAG with a pretrained tag of ViT-mini; did you mean 'tagged'"
    ):
        load_encoder("ViT-mini/taged")


# Bad input


class _RunsCode:
    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(miniature_folder, tmp_path):
    folder, marker = shutil.copytree(miniature_folder, tmp_path / "model"), tmp_path / "ran"
    (folder / "open_clip_model.safetensors").unlink()
    content = {"state_dict": _RunsCode(marker), "as many numbers": torch.zeros(330_000)}
    torch.save(content, folder / "open_clip_pytorch_model.bin")
    with pytest.raises(InputError, match="the weights are a pickle that is damaged or would run code"):
        load_encoder(f"local-dir:{folder}")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("open_clip_config.json", b"{}", "must be JSON with vision_cfg and text_cfg in model_cfg"),
        ("open_clip_config.json", b"{", "must be JSON with vision_cfg and text_cfg in model_cfg"),
        ("open_clip_model.safetensors", b"\0" * 100, "do not load"),
        ("open_clip_model.safetensors", None, "no weights in"),
    ],
)
def test_damaged_and_missing_files_are_one_line(miniature_folder, tmp_path, file, content, message):
    folder = shutil.copytree(miniature_folder, tmp_path / "model")
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        load_encoder(f"local-dir:{folder}")
    assert "\n" not in str(caught.value)


def test_weights_of_another_architecture_are_one_line(miniature_folder, tmp_path):
    folder = small_clip(tmp_path / "clip")
    shutil.copy(miniature_folder / "open_clip_model.safetensors", folder)
    with pytest.raises(InputError, match=r"do not load \(.*state_dict") as caught:
        load_encoder(f"local-dir:{folder}")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_an_input_that_is_not_square_is_refused(tmp_path):
    with pytest.raises(InputError, match="takes 32 x 16 pixels; only square inputs"):
        load_encoder(f"local-dir:{small_clip(tmp_path / 'clip', image_size=[32, 16])}")
