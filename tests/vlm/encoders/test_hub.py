import shutil

import pytest
import torch

from cohort.errors import InputError
from tests.vlm.encoders.models import snapshot
from tests.vlm.miniature_biomedclip import TEXT_MODEL, write_text_files
from vlm.encoder_names import HubAccess
from vlm.encoders import load_encoder
from vlm.encoders.hub import hub_folder
from vlm.encoders.open_clip import ALIASES
from vlm.encoders.tokenizer_files import TOKENIZER_FILES, VOCABULARY_FILES

BIOMEDCLIP = ALIASES["biomedclip"].removeprefix("hf-hub:")


def test_a_hub_model_in_the_cache_loads_without_a_network(hub_cache, miniature, miniature_folder):
    model = snapshot(hub_cache, BIOMEDCLIP)
    for file in ("open_clip_config.json", "open_clip_model.safetensors"):
        shutil.copy(miniature_folder / file, model)
    write_text_files(snapshot(hub_cache, TEXT_MODEL))
    encoder = load_encoder("biomedclip")
    assert (encoder.name, encoder.fingerprint) == ("biomedclip", miniature.fingerprint)
    torch.testing.assert_close(encoder.text_features(["edema"]), miniature.text_features(["edema"]))


@pytest.fixture
def biomedclip_there(reachable_hub, miniature_folder):
    """BiomedCLIP and its text tower on a hub in reach."""
    for repository, files in (
        (BIOMEDCLIP, ("open_clip_config.json", "open_clip_model.safetensors")),
        (TEXT_MODEL, ("config.json", "vocab.txt", "tokenizer_config.json")),
    ):
        (reachable_hub.root / repository).mkdir(parents=True)
        for file in files:
            shutil.copy(miniature_folder / file, reachable_hub.root / repository)
    return reachable_hub


@pytest.mark.parametrize("access", [HubAccess.NAMED, HubAccess.ANONYMOUS])
def test_the_access_token_goes_to_what_the_user_named_alone(biomedclip_there, monkeypatch, access):
    monkeypatch.setattr("huggingface_hub.utils._headers.get_token", lambda: "hf_of_the_user")
    load_encoder("biomedclip", hub=access)
    sent = {path for path, token in biomedclip_there.tokens.items() if token == "Bearer hf_of_the_user"}
    named = {path for path in biomedclip_there.asked if BIOMEDCLIP in path}
    assert sent == (named if access is HubAccess.NAMED else set())
    assert len(named) < len(set(biomedclip_there.asked))


def test_nothing_is_asked_of_the_hub_where_only_its_cache_may_be_used(biomedclip_there, miniature):
    with pytest.raises(InputError, match="is not in the hub's cache, and nothing is downloaded that only"):
        load_encoder("biomedclip", hub=HubAccess.CACHE)
    assert biomedclip_there.asked == []
    load_encoder("biomedclip")
    biomedclip_there.asked.clear()
    assert load_encoder("biomedclip", hub=HubAccess.CACHE).fingerprint == miniature.fingerprint
    assert biomedclip_there.asked == []


def test_a_folder_is_never_completed_from_the_hub(biomedclip_there):
    folder = biomedclip_there.root / BIOMEDCLIP
    with pytest.raises(
        InputError, match=f"{TEXT_MODEL} is not in the hub's cache, and nothing is downloaded"
    ):
        load_encoder(f"local-dir:{folder}")
    assert biomedclip_there.asked == []


def test_a_hub_model_is_downloaded_once_and_no_pickle_where_safetensors_exist(biomedclip_there, miniature):
    (biomedclip_there.root / BIOMEDCLIP / "open_clip_pytorch_model.bin").write_bytes(b"never loaded")
    (biomedclip_there.root / TEXT_MODEL / "pytorch_model.bin").write_bytes(b"never loaded")

    encoder = load_encoder("biomedclip")

    assert encoder.fingerprint == miniature.fingerprint
    torch.testing.assert_close(encoder.text_features(["edema"]), miniature.text_features(["edema"]))
    assert not any(path.endswith(".bin") for path in biomedclip_there.asked)
    biomedclip_there.asked.clear()
    assert load_encoder("biomedclip").fingerprint == miniature.fingerprint
    assert biomedclip_there.asked == []


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


def tokenizer_folder(access=HubAccess.ANONYMOUS):
    needed = [VOCABULARY_FILES]
    return hub_folder("x", "some/pieces", needed, also=TOKENIZER_FILES, access=access, offline="go online")


def test_a_tokenizer_of_which_the_cache_holds_a_part_is_completed(reachable_hub, hub_cache):
    """As another program, or a download that was interrupted, left it."""
    (reachable_hub.root / "some" / "pieces").mkdir(parents=True)
    for file in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        (reachable_hub.root / "some" / "pieces" / file).write_text(file)
    (snapshot(hub_cache, "some/pieces") / "vocab.json").write_text("vocab.json")

    assert {path.name for path in tokenizer_folder(HubAccess.CACHE).iterdir()} == {"vocab.json"}
    assert reachable_hub.asked == []
    found = tokenizer_folder()
    assert {path.name for path in found.iterdir()} == {"vocab.json", "merges.txt", "tokenizer_config.json"}
    reachable_hub.asked.clear()
    assert tokenizer_folder() == tokenizer_folder(HubAccess.CACHE) == found
    assert reachable_hub.asked == []


def test_what_is_needed_is_downloaded_last(reachable_hub):
    """So that where it is in the cache, an interrupted download has left out nothing else."""
    (reachable_hub.root / "some" / "pieces").mkdir(parents=True)
    for file in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        (reachable_hub.root / "some" / "pieces" / file).write_text(file)
    tokenizer_folder()
    assert reachable_hub.asked[-1].endswith("vocab.json")


def test_a_part_of_a_tokenizer_must_do_where_the_hub_is_out_of_reach(hub_cache):
    folder = snapshot(hub_cache, "some/pieces")
    (folder / "vocab.txt").write_text("a")
    assert tokenizer_folder() == folder
