"""What a stranger's model says of itself: published ones pass, and nothing else is run, read or fetched."""

import json
import shutil
from pathlib import Path

import open_clip
import pytest
import torch

from cohort.errors import InputError
from study.cli import main
from tests.vlm.encoders.models import add_code, change_text, small_clip
from tests.vlm.miniature_biomedclip import MODEL_CONFIG, PREPROCESS_CONFIG
from vlm.encoders import load_encoder
from vlm.encoders.model_files import (
    copy_text_config,
    parameter_count,
    read_model_config,
)
from vlm.encoders.tokenizer_files import copy_tokenizer

# As published, see the model's page on the hub.
BIOMEDCLIP_TEXT = {
    "hf_model_name": "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract",
    "hf_tokenizer_name": "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract",
    "hf_proj_type": "mlp",
    "hf_pooler_type": "cls_last_hidden_state_pooler",
    "context_length": 256,
}
BIOMEDCLIP_VISION = {
    "timm_model_name": "vit_base_patch16_224",
    "timm_model_pretrained": False,
    "timm_pool": "",
    "timm_proj": "linear",
    "image_size": 224,
}
BIOMEDCLIP = {"embed_dim": 512, "vision_cfg": BIOMEDCLIP_VISION, "text_cfg": BIOMEDCLIP_TEXT}


def written(folder: Path, model: dict, preprocess: dict | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    content = {"model_cfg": model, "preprocess_cfg": preprocess or {}}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    return folder


# Code that comes with a model


@pytest.fixture
def asked_to_run(miniature_folder, tmp_path) -> tuple[Path, Path]:
    """A model that asks for its own code to be run, and the file that the code would leave."""
    folder, marker = shutil.copytree(miniature_folder, tmp_path / "model"), tmp_path / "ran"
    add_code(folder, marker)
    change_text(folder, tokenizer_kwargs={"trust_remote_code": True})
    return folder, marker


def test_a_model_that_asks_to_run_its_code_is_refused_and_does_not_run_it(asked_to_run, tmp_path, capsys):
    folder, marker = asked_to_run
    with pytest.raises(InputError, match="tokenizer_kwargs must be a mapping with clean") as caught:
        load_encoder(f"local-dir:{folder}")
    assert "\n" not in str(caught.value) and not marker.exists()


def test_code_that_lies_beside_a_model_is_never_run(miniature, miniature_folder, tmp_path, monkeypatch):
    """A terminal would be asked whether to run it: no answer of its user's is sought either."""
    folder, marker = shutil.copytree(miniature_folder, tmp_path / "model"), tmp_path / "ran"
    add_code(folder, marker)
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    encoder = load_encoder(f"local-dir:{folder}")
    assert not marker.exists()
    torch.testing.assert_close(encoder.text_features(["edema"]), miniature.text_features(["edema"]))


def test_a_tokenizer_or_a_text_tower_of_its_own_kind_is_refused(miniature_folder, tmp_path, monkeypatch):
    marker = tmp_path / "ran"
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    for file, key, message in (
        ("tokenizer_config.json", "tokenizer_class", "tokenizer_class must be one of BertTokenizer"),
        ("config.json", "model_type", "model_type must be one of bert"),
    ):
        folder = shutil.copytree(miniature_folder, tmp_path / key)
        add_code(folder, marker)
        settings = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps(settings | {key: "Own"}))
        with pytest.raises(InputError, match=message):
            load_encoder(f"local-dir:{folder}")
    assert not marker.exists()


def test_embed_does_not_run_what_a_model_brings(asked_to_run, drawn_cohort, tmp_path, capsys):
    folder, marker = asked_to_run
    command = ["embed", str(drawn_cohort.folder), "--encoder", f"local-dir:{folder}"]
    assert main([*command, "--cache", str(tmp_path / "cache")]) == 2
    assert "tokenizer_kwargs" in capsys.readouterr().err
    assert not marker.exists()


# What published models say of themselves


@pytest.mark.parametrize("model", open_clip.list_models())
def test_every_architecture_of_open_clip_is_accepted(model, tmp_path):
    config = open_clip.get_model_config(model)
    assert read_model_config(model, written(tmp_path, config)) == (config, {})


@pytest.mark.parametrize("tag", ["openai", "laion2b_s34b_b79k", "datacomp_xl_s13b_b90k"])
def test_the_transform_of_a_published_model_is_accepted(tag, tmp_path):
    config = open_clip.get_model_config("ViT-B-32")
    pretrained = open_clip.get_pretrained_cfg("ViT-B-32", tag)
    preprocess = {key: pretrained[key] for key in ("mean", "std", "interpolation", "resize_mode")}
    _, read = read_model_config(tag, written(tmp_path, config, preprocess))
    assert read == json.loads(json.dumps(preprocess))


def test_biomedclip_is_accepted_as_published(tmp_path):
    folder = written(tmp_path, BIOMEDCLIP, PREPROCESS_CONFIG)
    assert read_model_config("biomedclip", folder) == (BIOMEDCLIP, PREPROCESS_CONFIG)


def test_a_text_tower_keeps_what_makes_it_and_loses_the_rest(tmp_path):
    published = {  # of BiomedBERT
        "architectures": ["BertForMaskedLM"],
        "attention_probs_dropout_prob": 0.1,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": 768,
        "initializer_range": 0.02,
        "intermediate_size": 3072,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 512,
        "model_type": "bert",
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
        "pad_token_id": 0,
        "type_vocab_size": 2,
        "vocab_size": 30522,
    }
    further = {
        "auto_map": {"AutoModel": "own.Own"},
        "_attn_implementation": "someone/kernel",
        "configuration_files": ["config.4.0.0.json"],
        "quantization_config": {"quant_method": "own"},
    }
    (tmp_path / "config.json").write_text(json.dumps(published | further))
    (tmp_path / "copy").mkdir()
    copy_text_config("x", tmp_path, tmp_path / "copy")
    copied = json.loads((tmp_path / "copy" / "config.json").read_text())
    assert copied == {key: value for key, value in published.items() if key != "architectures"}


def test_a_tokenizer_keeps_what_decides_its_tokens_and_loses_the_rest(tmp_path):
    kept = {"tokenizer_class": "BertTokenizerFast", "do_lower_case": True, "unk_token": "[UNK]"}
    lost = {
        "auto_map": {},
        "vocab_file": "/etc/passwd",
        "init_inputs": ["/etc/passwd"],
        "vocab": "/etc/passwd",
    }
    lost |= {"fast_tokenizer_files": ["tokenizer.9.json"], "chat_template": "{{ 1 }}"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(kept | lost))
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"pad_token": "[PAD]"} | lost))
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n")
    (tmp_path / "own.py").touch()
    (tmp_path / "copy").mkdir()
    copy_tokenizer("x", tmp_path, tmp_path / "copy")
    copied = {path.name: path.read_text() for path in (tmp_path / "copy").iterdir()}
    assert json.loads(copied.pop("tokenizer_config.json")) == kept
    assert json.loads(copied.pop("special_tokens_map.json")) == {"pad_token": "[PAD]"}
    assert copied == {"vocab.txt": "[PAD]\n[UNK]\n"}


# What is refused


def test_the_pieces_of_a_tokenizer_need_the_rules_that_join_them(tmp_path):
    (tmp_path / "vocab.json").write_text('{"a": 0, "b": 1, "ab": 2}')
    (tmp_path / "copy").mkdir()
    with pytest.raises(InputError, match=r"vocab\.json lacks the merges\.txt"):
        copy_tokenizer("x", tmp_path, tmp_path / "copy")
    (tmp_path / "merges.txt").write_text("a b\n")
    copy_tokenizer("x", tmp_path, tmp_path / "copy")
    assert (tmp_path / "copy" / "merges.txt").exists()


@pytest.mark.parametrize(
    ("where", "key", "value"),
    [
        ("text_cfg", "tokenizer_kwargs", {"trust_remote_code": True}),
        ("text_cfg", "tokenizer_kwargs", {"vocab_file": "/etc/passwd"}),
        ("text_cfg", "tokenizer_kwargs", {"bpe_path": "/etc/passwd"}),
        ("text_cfg", "tokenizer_kwargs", {"clean": "own"}),
        ("text_cfg", "trust_remote_code", True),
        ("text_cfg", "hf_model_name", {"path": "x"}),
        ("text_cfg", "layers", 257),
        ("text_cfg", "vocab_size", 10**10),
        ("text_cfg", "norm_kwargs", {"device": "cuda"}),
        ("vision_cfg", "timm_model_name", "hf-hub:someone/model"),
        ("vision_cfg", "timm_model_name", "local-dir:/somewhere"),
        ("vision_cfg", "timm_model_name", "no_such_model"),
        ("vision_cfg", "layers", [3, 4, 6, -3]),
        ("vision_cfg", "layers", True),
        ("vision_cfg", "image_size", 10**6),
        ("vision_cfg", "mlp_ratio", float("inf")),
        (None, "cast_dtype", "bf16"),
        (None, "embed_dim", "512"),
        (None, "multimodal_cfg", {"pretrained": "/somewhere"}),
        (None, "vision_cfg", [1]),
    ],
)
def test_a_setting_that_no_architecture_needs_is_refused_in_one_line(tmp_path, where, key, value):
    model = json.loads(json.dumps(MODEL_CONFIG))
    (model[where] if where else model)[key] = value
    with pytest.raises(InputError) as caught:
        read_model_config("x", written(tmp_path, model))
    message = str(caught.value)
    assert key in message and "\n" not in message and len(message) < 500


@pytest.mark.parametrize(
    ("key", "value"),
    [("resize_mode", "crop"), ("mean", [0.5, "x", 0.5]), ("fill_color", -1), ("transform", "own.Own")],
)
def test_a_transform_that_is_none_is_refused(tmp_path, key, value):
    with pytest.raises(InputError, match=f"preprocess_cfg.*{key}"):
        read_model_config("x", written(tmp_path, BIOMEDCLIP, {key: value}))


@pytest.mark.parametrize("content", ["[" * 100_000, "[1]", '{"model_cfg": 3}', " " * (17 * 2**20)])
def test_a_configuration_that_is_no_object_of_bounded_size_is_refused(tmp_path, content):
    (tmp_path / "open_clip_config.json").write_text(content)
    with pytest.raises(InputError, match="must be JSON with vision_cfg and text_cfg in model_cfg") as caught:
        read_model_config("x", tmp_path)
    assert "\n" not in str(caught.value)


def test_a_text_tower_is_read_from_the_models_own_folder_or_the_hub(miniature_folder, tmp_path, hub_cache):
    """Not from whatever folder of this machine the model's file names."""
    elsewhere = shutil.copytree(miniature_folder, tmp_path / "elsewhere")
    folder = small_clip(tmp_path / "model")
    change_text(folder, hf_tokenizer_name=str(elsewhere))
    with pytest.raises(InputError, match="the hub has no repository"):
        load_encoder(f"local-dir:{folder}")


def test_a_model_larger_than_its_weights_is_refused_before_memory_is_taken_for_it(tmp_path):
    """256 layers of width 8,192 would be 824 GB."""
    folder = small_clip(tmp_path / "model")
    change_text(folder, layers=256, width=8192, heads=64)
    with pytest.raises(InputError, match=r"describes 20\d(,\d{3}){3} numbers, and the weights hold"):
        load_encoder(f"local-dir:{folder}")


def test_the_numbers_of_a_model_are_counted_without_building_it(miniature, miniature_folder, tmp_path):
    model, _ = read_model_config("x", miniature_folder)
    model["text_cfg"] |= {"hf_model_name": str(miniature_folder), "hf_model_pretrained": False}
    assert parameter_count(model) == sum(one.numel() for one in miniature.clip.parameters())
    small = small_clip(tmp_path / "model")
    built = load_encoder(f"local-dir:{small}").clip
    assert parameter_count(read_model_config("x", small)[0]) == sum(one.numel() for one in built.parameters())
    # 24 + 24 layers of open_clip's CoCa, as its authors count them
    coca = open_clip.get_model_config("coca_ViT-L-14")
    assert round(parameter_count(coca) / 1e6) == 638


def test_parts_that_do_not_fit_together_are_one_line(tmp_path):
    folder = small_clip(tmp_path / "model")
    change_text(folder, heads=3)
    with pytest.raises(InputError, match="do not load") as caught:
        load_encoder(f"local-dir:{folder}")
    assert "\n" not in str(caught.value)
