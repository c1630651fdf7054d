"""timm's encoders: a checkpoint's features, and every file that does not fit in one line."""

import pickle

import pytest
import timm
import torch
from safetensors.torch import save_file

from cohort.errors import InputError
from tests.vlm.encoders.models import random_images
from vlm.encoder_names import name_in, resolved_name
from vlm.encoders import load_encoder

NAME = "test_vit"


@pytest.fixture(scope="module")
def weights():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return timm.create_model(NAME, pretrained=False).state_dict()


@pytest.fixture
def checkpoint(tmp_path, weights):
    save_file(weights, tmp_path / "own.safetensors")
    return tmp_path / "own.safetensors"


def test_a_local_checkpoint_gives_timms_own_features(checkpoint, weights):
    encoder = load_encoder(f"timm:{NAME}@{checkpoint}", features=None, device="cpu")
    model = timm.create_model(NAME, pretrained=False).eval()
    model.load_state_dict(weights)
    config = timm.data.resolve_model_data_config(model)
    assert encoder.geometry.size == config["input_size"][1] and encoder.mean == tuple(config["mean"])
    assert list(encoder.blocks) == ["pooled", "deep"]
    images_BHWC = random_images(encoder, channels=3)
    pooled_BD = encoder.image_features(images_BHWC)[:, encoder.kinds["pooled"].columns]
    x_BCHW = torch.tensor(images_BHWC).permute(0, 3, 1, 2).float() / 255
    x_BCHW = (x_BCHW - torch.tensor(config["mean"])[:, None, None]) / torch.tensor(config["std"])[
        :, None, None
    ]
    with torch.inference_mode():
        expected_BD = model.forward_head(model.forward_features(x_BCHW), pre_logits=True)
    torch.testing.assert_close(pooled_BD, expected_BD)
    with pytest.raises(InputError, match="has no text tower; zero-shot needs a CLIP model"):
        encoder.text_features(["edema"])


def test_a_pickle_of_tensors_under_state_dict_is_the_same_encoder(checkpoint, weights, tmp_path):
    torch.save({"state_dict": weights, "epoch": 3}, tmp_path / "own.pth")
    first, second = (
        load_encoder(f"timm:{NAME}@{path}", features=None, device="cpu")
        for path in (checkpoint, tmp_path / "own.pth")
    )
    assert first.fingerprint == second.fingerprint


def test_what_is_saved_loads_again(checkpoint, tmp_path):
    encoder = load_encoder(f"timm:{NAME}@{checkpoint}", features=("pooled",), device="cpu")
    encoder.save(tmp_path / "bundle")
    name = name_in(tmp_path / "bundle", f"{encoder.name} (fine-tuned)")
    assert load_encoder(name, features=("pooled",), device="cpu").fingerprint == encoder.fingerprint


def test_a_relative_path_is_taken_from_the_studys_folder(tmp_path):
    assert resolved_name("timm:resnet18@own/w.pth", tmp_path) == f"timm:resnet18@{tmp_path}/own/w.pth"
    assert resolved_name("timm:resnet18", tmp_path) == "timm:resnet18"


class Code:
    def __reduce__(self):
        return (print, ("run",))


def spoil(change):
    def spoiled(path, weights):
        save_file(change(dict(weights)), path)

    return spoiled


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("timm:test_vitt@{}", None, "unknown encoder .*; did you mean 'test_vit'"),
        ("timm:test_vit.r160_in1kk@{}", None, "a pretrained tag of test_vit; did you mean 'r160_in1k'"),
        ("timm:test_vit@{}", None, "no file "),
        ("timm:test_vit@{}", lambda path, _: path.write_bytes(b"x" * 50), "is damaged or a pickle that"),
        (
            "timm:test_vit@{}",
            spoil(lambda w: w | {"blocks.1.norm1.weight": torch.zeros(3)}),
            r"of another architecture: blocks\.1\.norm1\.weight is \(3,\) there, \(64,\) here",
        ),
        (
            "timm:test_vit@{}",
            spoil(lambda w: {key: one for key, one in w.items() if key != "cls_token"}),
            "of another architecture: it lacks cls_token",
        ),
        (
            "timm:test_vit@{}",
            spoil(lambda w: w | {"neck.weight": torch.zeros(2)}),
            r"of another architecture: neck\.weight is not of this one",
        ),
        ("timm:test_vit", None, "cannot be reached|no pretrained weights"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path, weights, monkeypatch, name, write, message):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    path = tmp_path / "w.safetensors"
    if write:
        write(path, weights)
    with pytest.raises(InputError, match=message) as caught:
        load_encoder(name.format(path), features=None, device="cpu")
    assert "\n" not in str(caught.value)


def test_a_pickle_with_code_is_refused_and_nothing_runs(tmp_path, capsys):
    path = tmp_path / "own.bin"
    path.write_bytes(pickle.dumps({"state_dict": Code()}))
    with pytest.raises(InputError, match="would run code when loaded"):
        load_encoder(f"timm:{NAME}@{path}", features=None, device="cpu")
    assert "run" not in capsys.readouterr().out


def test_features_that_it_lacks_are_named(checkpoint):
    with pytest.raises(InputError, match="has no projected features; it has pooled, deep"):
        load_encoder(f"timm:{NAME}@{checkpoint}", device="cpu")
