import hashlib
import json
import pickle
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import image_transform_v2
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from cohort.decoding import decode
from cohort.errors import InputError
from cohort.geometry import apply_geometry
from tests.vlm.miniature_biomedclip import (
    MODEL_CONFIG,
    TEXT_MODEL,
    build_miniature_biomedclip,
    write_text_files,
)
from vlm.encoders import ALIASES, load_encoder

BIOMEDCLIP = ALIASES["biomedclip"].removeprefix("hf-hub:")


@pytest.fixture
def hub_cache(tmp_path, monkeypatch) -> Path:
    """An empty cache of a hub that nobody answers for."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    return tmp_path / "hub"


def snapshot(cache: Path, repository: str) -> Path:
    """Where the hub's client keeps the files of a repository."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    files = folder / "snapshots" / ("0" * 40)
    files.mkdir(parents=True)
    return files


class _Hub(BaseHTTPRequestHandler):
    """As much of the hub as its client needs to download: repositories are folders below `root`."""

    root: Path
    asked: list[str]

    def do_GET(self):
        path = self.path.split("?")[0].strip("/")
        self.asked.append(path)
        if path.startswith("api/models/"):
            repository = path.removeprefix("api/models/")
            folder = self.root / repository
            if not folder.is_dir():
                return self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
            files = [{"rfilename": file.name} for file in folder.iterdir()]
            return self.answer(
                200, json.dumps({"id": repository, "sha": "1" * 40, "siblings": files}).encode()
            )
        repository, file = path.split("/resolve/main/")
        content = (self.root / repository / file).read_bytes()
        etag = hashlib.sha256(content).hexdigest()
        return self.answer(200, content, {"X-Repo-Commit": "1" * 40, "ETag": f'"{etag}"'})

    do_HEAD = do_GET

    def answer(self, status, content, headers=()):
        self.send_response(status)
        for key, value in dict(headers).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def reachable_hub(hub_cache, tmp_path, monkeypatch):
    """A hub on this machine: (folder of its repositories, paths that were asked for)."""
    handler = type("Hub", (_Hub,), {"root": tmp_path / "remote", "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        f"http://127.0.0.1:{server.server_port}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
    )
    yield handler
    server.shutdown()
    server.server_close()


def small_clip(folder: Path, image_size=32, vision=None, preprocess=None) -> Path:
    """A CLIP of open_clip's own parts as a local-dir."""
    config = {
        "embed_dim": 8,
        "vision_cfg": {
            "image_size": image_size,
            "layers": 1,
            "width": 32,
            "head_width": 16,
            "patch_size": 16,
        },
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1},
    }
    config["vision_cfg"] |= vision or {}
    folder.mkdir()
    text = json.dumps({"model_cfg": config, "preprocess_cfg": preprocess or {}})
    (folder / "open_clip_config.json").write_text(text)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(open_clip.model.CLIP(**config).state_dict(), folder / "open_clip_model.safetensors")
    return folder


def plain_open_clip(folder: Path, **overrides) -> torch.nn.Module:
    return open_clip.create_model(f"local-dir:{folder}", require_pretrained=True, **overrides).eval()


def random_images(encoder, channels=1, count=3) -> np.ndarray:
    size = encoder.geometry.size
    return np.random.default_rng(0).integers(0, 256, (count, size, size, channels), dtype=np.uint8)


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


def test_gray_images_are_repeated_into_three_channels(miniature):
    gray_BHW1 = random_images(miniature)
    torch.testing.assert_close(
        miniature.image_features(gray_BHW1), miniature.image_features(np.repeat(gray_BHW1, 3, axis=3))
    )


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


def test_images_of_another_size_or_type_are_refused(miniature):
    with pytest.raises(
        ValueError, match=r"must be uint8 \(images, 160, 160, 1 or 3\), not .* \(1, 128, 128, 1\)"
    ):
        miniature.image_features(np.zeros((1, 128, 128, 1), np.uint8))
    with pytest.raises(ValueError, match="float32"):
        miniature.image_features(np.zeros((1, 160, 160, 1), np.float32))


# Before the projection


def test_projecting_pooled_features_gives_the_projected_ones(miniature, miniature_folder, tmp_path):
    folder = small_clip(tmp_path / "clip")
    for projected, path, project in (
        (miniature, miniature_folder, lambda clip, x: clip.visual.head(x)),
        (load_encoder(f"local-dir:{folder}"), folder, lambda clip, x: x @ clip.visual.proj),
    ):
        pooled = load_encoder(f"local-dir:{path}", features="pooled")
        images_BHWC = random_images(projected, channels=3)
        features_BD = pooled.image_features(images_BHWC)
        assert features_BD.shape == (3, pooled.width) and pooled.width > projected.width
        torch.testing.assert_close(project(pooled.clip, features_BD), projected.image_features(images_BHWC))
        assert pooled.fingerprint != projected.fingerprint
        with pytest.raises(InputError, match="pooled features are not in the space of the text tower"):
            pooled.text_features(["edema"])


def test_a_model_without_a_projection_has_no_pooled_features(tmp_path):
    folder = small_clip(tmp_path / "clip", vision={"layers": [1, 1, 1, 1], "width": 8})
    assert load_encoder(f"local-dir:{folder}").width == 8
    with pytest.raises(InputError, match=r"pooled features need a projection .* ModifiedResNet"):
        load_encoder(f"local-dir:{folder}", features="pooled")
    with pytest.raises(InputError, match="features must be one of projected, pooled, got 'tokens'"):
        load_encoder(f"local-dir:{folder}", features="tokens")


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


def test_an_encoder_survives_a_trip_to_another_process(miniature):
    images_BHWC = random_images(miniature)
    again = pickle.loads(pickle.dumps(miniature))
    torch.testing.assert_close(again.image_features(images_BHWC), miniature.image_features(images_BHWC))


# The hub


def test_a_hub_model_in_the_cache_loads_without_a_network(hub_cache, miniature, miniature_folder):
    model = snapshot(hub_cache, BIOMEDCLIP)
    for file in ("open_clip_config.json", "open_clip_model.safetensors"):
        shutil.copy(miniature_folder / file, model)
    write_text_files(snapshot(hub_cache, TEXT_MODEL))
    encoder = load_encoder("biomedclip")
    assert (encoder.name, encoder.fingerprint) == ("biomedclip", miniature.fingerprint)
    torch.testing.assert_close(encoder.text_features(["edema"]), miniature.text_features(["edema"]))


def test_a_hub_model_is_downloaded_once_and_no_pickle_where_safetensors_exist(
    reachable_hub, miniature, miniature_folder, monkeypatch
):
    for repository, files in (
        (BIOMEDCLIP, ("open_clip_config.json", "open_clip_model.safetensors")),
        (TEXT_MODEL, ("config.json", "vocab.txt", "tokenizer_config.json")),
    ):
        (reachable_hub.root / repository).mkdir(parents=True)
        for file in files:
            shutil.copy(miniature_folder / file, reachable_hub.root / repository)
    (reachable_hub.root / BIOMEDCLIP / "open_clip_pytorch_model.bin").write_bytes(b"never loaded")
    (reachable_hub.root / TEXT_MODEL / "pytorch_model.bin").write_bytes(b"never loaded")

    encoder = load_encoder("biomedclip")

    assert encoder.fingerprint == miniature.fingerprint
    torch.testing.assert_close(encoder.text_features(["edema"]), miniature.text_features(["edema"]))
    assert not any(path.endswith(".bin") for path in reachable_hub.asked)
    reachable_hub.asked.clear()
    assert load_encoder("biomedclip").fingerprint == miniature.fingerprint
    assert reachable_hub.asked == []


def test_a_hub_that_lacks_the_model_or_its_weights_says_so(reachable_hub, miniature_folder):
    with pytest.raises(InputError, match="the hub has no repository 'someone/nothing' to show"):
        load_encoder("hf-hub:someone/nothing")
    (reachable_hub.root / "someone" / "half").mkdir(parents=True)
    shutil.copy(miniature_folder / "open_clip_config.json", reachable_hub.root / "someone" / "half")
    with pytest.raises(InputError, match=r"someone/half on the hub holds no open_clip_model.safetensors or"):
        load_encoder("hf-hub:someone/half")


def test_an_unreachable_hub_is_one_line_with_the_remedy(hub_cache, miniature_folder):
    with pytest.raises(InputError) as caught:
        load_encoder("biomedclip")
    message = str(caught.value)
    assert "\n" not in message
    for part in (BIOMEDCLIP, "open_clip_config.json", "open_clip_pytorch_model.bin", "local-dir:FOLDER"):
        assert part in message

    # The model is there, its text tower is not.
    model = snapshot(hub_cache, BIOMEDCLIP)
    for file in ("open_clip_config.json", "open_clip_model.safetensors"):
        shutil.copy(miniature_folder / file, model)
    with pytest.raises(InputError, match=f"{TEXT_MODEL} is not in the hub's cache"):
        load_encoder("biomedclip")


def test_a_hub_name_that_cannot_exist_is_refused(hub_cache):
    with pytest.raises(InputError, match="the hub has no repository 'foo bar'"):
        load_encoder("hf-hub:foo bar")


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


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("phantom_clip", "unknown encoder 'phantom_clip'; did you mean 'phantom-clip'?"),
        ("ViT-B32/openai", "unknown encoder 'ViT-B32/openai'; did you mean 'ViT-B-32'?"),
        ("microsoft/BiomedCLIP", "a model on the hub is written hf-hub:microsoft/BiomedCLIP"),
        ("ViT-B-32", "must be MODEL/TAG with a pretrained tag of ViT-B-32; there are: openai"),
        ("local-dir:/nowhere", "no open_clip_config.json in /nowhere"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_one(name, message):
    with pytest.raises(InputError) as caught:
        load_encoder(name)
    assert message in str(caught.value) and "\n" not in str(caught.value)


class _RunsCode:
    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(miniature_folder, tmp_path):
    folder, marker = shutil.copytree(miniature_folder, tmp_path / "model"), tmp_path / "ran"
    (folder / "open_clip_model.safetensors").unlink()
    torch.save({"state_dict": _RunsCode(marker)}, folder / "open_clip_pytorch_model.bin")
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


# Pixels


def test_pixels_are_gray_values_row_by_row():
    encoder = load_encoder("pixels")
    image_HW = np.zeros((32, 32), np.uint8)
    image_HW[0, 1], image_HW[1, 0] = 255, 51
    features_D = encoder.image_features(image_HW[None, :, :, None])[0]
    assert (features_D[1], features_D[32], features_D.sum()) == (1, pytest.approx(0.2), pytest.approx(1.2))
    assert encoder.width == 1024
    with pytest.raises(InputError, match="encoder pixels has no text tower"):
        encoder.text_features(["edema"])
    with pytest.raises(InputError, match="encoder pixels has no weights to save"):
        encoder.save(Path("nowhere"))
    with pytest.raises(InputError, match="encoder pixels has no features before a projection"):
        load_encoder("pixels", features="pooled")


def test_a_ridge_on_pixels_reaches_the_floor_of_real_radiographs(real_data):
    import pandas as pd

    table = pd.read_csv(real_data / "nih_cxr64" / "labels.csv")
    files = {path.stem: path for path in (real_data / "nih_cxr64" / "images").rglob("*.png")}
    encoder = load_encoder("pixels", device="cpu")
    paths = [files[Path(image).stem] for image in table["image_id"]]
    images_NHW = [apply_geometry(decode(path.read_bytes(), str(path)), encoder.geometry) for path in paths]
    x_ND = encoder.image_features(np.stack(images_NHW)[..., None]).numpy()
    train_N, test_N = table["split"] == "train", table["split"] == "test"
    for label, floor in (("Effusion", 0.73), ("Cardiomegaly", 0.75)):
        ridge = Ridge(alpha=100).fit(x_ND[train_N], table[label][train_N])
        assert roc_auc_score(table[label][test_N], ridge.predict(x_ND[test_N])) >= floor
