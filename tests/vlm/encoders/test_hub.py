import shutil

import pytest
import torch

from cohort.errors import InputError
from tests.vlm.encoders.models import snapshot
from tests.vlm.miniature_biomedclip import TEXT_MODEL, write_text_files
from vlm.encoders import load_encoder
from vlm.encoders.open_clip import ALIASES

BIOMEDCLIP = ALIASES["biomedclip"].removeprefix("hf-hub:")


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
