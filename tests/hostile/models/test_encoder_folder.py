"""The folder of a stranger's encoder: whatever stands in it, it loads or is refused in one line; nothing of
it is run, nobody is asked, nothing is fetched, and a small file takes no large memory."""

import json
import os
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from open_clip.hf_configs import arch_dict
from safetensors.torch import load_file, save_file

from tests.hostile.models.conftest import change_json
from tests.hostile.models.guarded_process import Outcome
from tests.hostile.models.mutations import FUZZ, VALUES, spoiled_bytes, spoiled_json
from tests.vlm.encoders.models import add_code, small_clip
from vlm.encoders import model_keys
from vlm.encoders.tokenizer_files import TOKENIZERS

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"


def load(guarded, folder: Path) -> Outcome:
    return guarded.ask("encoder", name=f"local-dir:{folder}")


@pytest.mark.parametrize("kind", ["clip", "biomedclip", "tokenizer"])
def test_an_honest_folder_loads_under_guard(guarded, honest, kind):
    outcome = load(guarded, honest / kind)
    assert outcome.orderly and len(outcome.result) == 64, outcome


# Code

HOSTILE = (
    "own.Own",
    "own.py",
    "hf-hub:someone/model",
    "local-dir:/etc",
    "../own",
    {"trust_remote_code": True},
    {"auto_map": {"AutoTokenizer": ["own.Own", "own.Own"], "AutoModel": "own.OwnModel"}},
    {"class_path": "own.Own"},
    True,
    10**9,
)
TABLES = {
    ("model_cfg",): model_keys.MODEL,
    ("model_cfg", "vision_cfg"): model_keys.VISION,
    ("model_cfg", "text_cfg"): model_keys.TEXT,
    ("model_cfg", "multimodal_cfg"): model_keys.MULTIMODAL,
    ("preprocess_cfg",): model_keys.PREPROCESS,
}


@pytest.mark.parametrize("kind", ["clip", "biomedclip"])
@pytest.mark.parametrize("table", TABLES, ids=".".join)
def test_no_key_of_a_configuration_runs_code_or_asks_a_network(guarded, copy, tmp_path, kind, table):
    folder, marker = copy(kind), tmp_path / "ran"
    add_code(folder, marker)
    original = json.loads((folder / CONFIG).read_text())
    for key in (*TABLES[table], "trust_remote_code", "auto_map", "pretrained"):
        for value in HOSTILE:
            config = json.loads(json.dumps(original))
            part = config
            for name in table:
                part = part.setdefault(name, {})
            part[key] = value
            (folder / CONFIG).write_text(json.dumps(config))
            outcome = load(guarded, folder)
            assert outcome.orderly and not marker.exists(), (key, value, outcome)


@pytest.mark.parametrize("architecture", [*arch_dict, "own"])
def test_no_text_tower_of_any_architecture_brings_code(guarded, copy, tmp_path, architecture):
    folder, marker = copy("biomedclip"), tmp_path / "ran"
    add_code(folder, marker)
    change_json(folder / "config.json", lambda config: config.update(model_type=architecture))
    for kind in (*TOKENIZERS, "Own", None):
        change_json(
            folder / "tokenizer_config.json", lambda config, kind=kind: config.update(tokenizer_class=kind)
        )
        outcome = load(guarded, folder)
        assert outcome.orderly and not marker.exists(), (kind, outcome)


# Sizes, links, and files that are none


def _set(*places: tuple[str, str, object]):
    """Values of `model_cfg`, each of a tower and under a key."""

    def change(folder: Path) -> None:
        def put(config: dict) -> None:
            for tower, key, value in places:
                config["model_cfg"][tower][key] = value

        change_json(folder / CONFIG, put)

    return change


def _tokenizer(**changes: object):
    return lambda folder: change_json(folder / "tokenizer.json", lambda content: content.update(changes))


def _link(file: str, target: str):
    def change(folder: Path) -> None:
        (folder / file).unlink()
        (folder / file).symlink_to(target)

    return change


def _fifo_beside_a_pickle(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "x.bin")
    os.mkfifo(folder / WEIGHTS)


def _packed_pickle(folder: Path) -> None:
    """6 MB that unpack to 6 GB, were they unpacked."""
    weights = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    torch.save(weights, folder / "stored.bin")
    with (
        zipfile.ZipFile(folder / "stored.bin") as stored,
        zipfile.ZipFile(folder / "open_clip_pytorch_model.bin", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for member in stored.infolist():
            packed.writestr(member.filename, stored.read(member.filename))
        packed.writestr("archive/data/9999", bytes(2**24))


def _bytearray_in_a_pickle(folder: Path) -> None:
    """Two gigabytes of zeros, asked for in 40 bytes."""
    weights = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    path = folder / "open_clip_pytorch_model.bin"
    torch.save(weights, path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    asks = b"\x80\x02c__builtin__\nbytearray\nJ\xff\xff\xff\x7f\x85R."
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, asks if name.endswith("data.pkl") else content)


def _100_mb_of_words(folder: Path) -> None:
    words = {f"word number {number}, and a long one for what it says": number for number in range(1_600_000)}
    change_json(folder / "tokenizer.json", lambda content: content["model"].update(vocab=words))
    assert (folder / "tokenizer.json").stat().st_size > 100e6


def _many_words(folder: Path) -> None:
    words = [f"{number:x}" for number in range(2**20)]
    with open(folder / "vocab.txt", "a") as file:
        file.write("\n".join(words) + "\n")


_GROWS = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 50}
_NAMES_NO_TOKEN = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "", "type_id": 0}}],
    "pair": [],
    "special_tokens": {},
}
_ADDED = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("clip", _set(("vision_cfg", "layers", 10**9)), "layers must be a whole number up to 256"),
        ("clip", _set(("vision_cfg", "layers", "12")), "layers must be a whole number up to 256"),
        ("clip", _set(("vision_cfg", "layers", -1)), "layers must be a whole number up to 256"),
        ("clip", _set(("vision_cfg", "image_size", 65536)), "image_size must be a whole number up to 1024"),
        ("clip", _set(("vision_cfg", "mlp_ratio", 1e6)), "mlp_ratio must be a number above 0 and up to 16"),
        ("clip", _set(("text_cfg", "vocab_size", 10**9)), "vocab_size must be a whole number up to 1048576"),
        (
            "clip",
            _set(("text_cfg", "context_length", 10**6)),
            "context_length must be a whole number up to 1024",
        ),
        (
            "clip",
            _set(("text_cfg", "tokenizer_kwargs", {"trust_remote_code": True})),
            "tokenizer_kwargs must",
        ),
        ("clip", _set(("vision_cfg", "own", 1)), "'own' is not among the settings"),
        ("clip", _set(("text_cfg", "hf_tokenizer_name", "someone/x")), "nothing is downloaded that only"),
        ("clip", _set(("text_cfg", "hf_model_name", "someone/x")), "nothing is downloaded that only"),
        (
            "clip",
            _set(("vision_cfg", "timm_model_name", "hf-hub:someone/x")),
            "must be the name of a model of timm",
        ),
        (
            "biomedclip",
            _set(
                ("vision_cfg", "timm_model_pretrained", True),
                ("vision_cfg", "timm_model_name", "vit_base_patch16_224"),
            ),
            "describes 85,844,417 numbers, and the weights hold",
        ),
        ("biomedclip", _link("vocab.txt", "/etc/passwd"), "vocab.txt is a link to another folder"),
        ("biomedclip", _link("config.json", "/etc/passwd"), "config.json is a link to another folder"),
        ("biomedclip", _link(WEIGHTS, "/etc/passwd"), f"{WEIGHTS} is a link to another folder"),
        ("biomedclip", _link(CONFIG, "/dev/zero"), f"no {CONFIG} in"),
        ("biomedclip", _link(WEIGHTS, "/dev/zero"), "no weights in"),
        ("biomedclip", _fifo_beside_a_pickle, "no weights in"),
        ("biomedclip", _packed_pickle, "it unpacks to more than its size"),
        ("biomedclip", _bytearray_in_a_pickle, "it asks for a bytearray, which is no tensor"),
        pytest.param(
            "tokenizer",
            _100_mb_of_words,
            "a vocabulary must not have more than 1,048,576 words",
            marks=pytest.mark.slow,
        ),
        ("biomedclip", _many_words, "a vocabulary must not have more than 1,048,576 words"),
        (
            "tokenizer",
            _tokenizer(normalizer={"type": "Sequence", "normalizers": [_GROWS] * 9}),
            "its normalizer must not make a text more than 64 times as long",
        ),
        (
            "tokenizer",
            _tokenizer(added_tokens=[_ADDED | {"id": i, "content": f"<{i}>"} for i in range(20_000)]),
            "added_tokens must not be more than 16,384",
        ),
        (
            "tokenizer",
            _tokenizer(model={"type": "WordLevel", "vocab": {"a": 10**9}, "unk_token": "a"}),
            "its tokenizer and text tower do not fit together",
        ),
        (
            "tokenizer",  # a panic in Rust, which no `except Exception` catches
            _tokenizer(post_processor=_NAMES_NO_TOKEN),
            "its tokenizer and text tower do not fit together (no entry found for key)",
        ),
    ],
)
def test_a_trick_is_refused_in_one_line(guarded, copy, kind, change, message):
    folder = copy(kind)
    change(folder)
    outcome = load(guarded, folder)
    assert outcome.orderly and message in outcome.refusal, outcome


def test_a_vocabulary_of_a_gigabyte_is_refused_unread(guarded, copy):
    folder = copy("tokenizer")
    with open(folder / "tokenizer.json", "r+b") as file:
        file.truncate(2**30)
    assert "a vocabulary must not be larger than 128 MiB" in load(guarded, folder).refusal


@pytest.mark.parametrize(
    "vision",
    [
        {"image_size": 1024, "patch_size": 4, "width": 8, "head_width": 4},
        {"image_size": 1024, "patch_size": 4, "width": 32, "head_width": 1},
        {"image_size": 1024, "patch_size": 8, "width": 64, "head_width": 1},
    ],
    ids=str,
)
def test_attention_that_would_take_all_memory_is_refused(guarded, tmp_path, vision):
    """34 GB for one image by the first, of weights of 2.7 MB."""
    outcome = load(guarded, small_clip(tmp_path / "clip", vision=vision))
    assert outcome.orderly and "of one image, more than 134,217,728" in outcome.refusal, outcome


@pytest.mark.parametrize("number", [float("nan"), 3e38])
def test_weights_that_are_no_use_load_without_a_traceback(guarded, copy, number):
    """Their features are refused where they are used: by the cache, and by a bundle."""
    folder = copy("biomedclip")
    weights = load_file(folder / WEIGHTS)
    save_file({name: torch.full_like(one, number) for name, one in weights.items()}, folder / WEIGHTS)
    assert load(guarded, folder).orderly


def test_a_folder_of_the_hubs_cache_may_hold_its_links(guarded, copy, tmp_path):
    snapshot = tmp_path / "models--x" / "snapshots" / "0"
    snapshot.parent.mkdir(parents=True)
    copy("biomedclip").rename(snapshot)
    (tmp_path / "models--x" / "blobs").mkdir()
    for file in list(snapshot.iterdir()):
        blob = shutil.move(file, tmp_path / "models--x" / "blobs" / file.name)
        file.symlink_to(blob)
    assert load(guarded, snapshot).result


# Anything


@FUZZ
@given(data=st.data())
@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("clip", CONFIG),
        ("biomedclip", CONFIG),
        ("biomedclip", "config.json"),
        ("biomedclip", "tokenizer_config.json"),
        ("tokenizer", "tokenizer.json"),
    ],
)
def test_any_change_of_a_setting_is_survived(guarded, honest, tmp_path, kind, file, data):
    folder = tmp_path / kind
    shutil.copytree(honest / kind, folder, dirs_exist_ok=True)
    content = json.loads((honest / kind / file).read_text())
    (folder / file).write_text(json.dumps(data.draw(spoiled_json(content))))
    outcome = load(guarded, folder)
    assert outcome.orderly, outcome


@FUZZ
@given(data=st.data())
@pytest.mark.parametrize("file", [CONFIG, "config.json", "tokenizer_config.json", "vocab.txt", WEIGHTS])
def test_any_damage_of_a_file_is_survived(guarded, honest, tmp_path, file, data):
    folder = tmp_path / "biomedclip"
    shutil.copytree(honest / "biomedclip", folder, dirs_exist_ok=True)
    content = (honest / "biomedclip" / file).read_bytes()
    (folder / file).write_bytes(data.draw(spoiled_bytes(content)))
    outcome = load(guarded, folder)
    assert outcome.orderly, outcome


@FUZZ
@given(data=st.data())
def test_any_change_of_what_the_weights_say_of_themselves_is_survived(guarded, honest, tmp_path, data):
    folder = tmp_path / "clip"
    shutil.copytree(honest / "clip", folder, dirs_exist_ok=True)
    content = (honest / "clip" / WEIGHTS).read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    name = data.draw(st.sampled_from(sorted(header)))
    key = data.draw(st.sampled_from(["dtype", "shape", "data_offsets"]))
    header.setdefault(name, {})[key] = data.draw(
        st.one_of(VALUES, st.sampled_from(["F64", "F16", "BF16", "I64", "BOOL", "F8_E4M3"]))
    )
    text = json.dumps(header).encode()
    (folder / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
    outcome = load(guarded, folder)
    assert outcome.orderly, outcome
