"""What is believed of the files that come with a model: keys and values that stand on a list.

open_clip and transformers hand a configuration's keys on to whatever they build, and some of those keys run
code that lies beside it (`trust_remote_code`, `auto_map`), read other files (`bpe_path`, `vocab_file`) or
fetch other models (`timm_model_name: hf-hub:...`); others make a small file take all memory. So a model is
refused for a key that no published model needs and for numbers far above those of any, before anything is
built, and the libraries see a folder that holds checked copies and no more.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from open_clip.coca_model import CoCa
from open_clip.hf_configs import arch_dict
from open_clip.model import CLIP, CustomTextCLIP

from cohort.errors import InputError
from vlm.json_files import MOST_BYTES, read_object

CONFIG_FILE = "open_clip_config.json"
# Those of a Hugging Face text tower: its configuration, and what any one of the tokenizers is read from.
TEXT_CONFIG_FILE = "config.json"
VOCABULARY_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model")
TOKENIZER_FILES = (*VOCABULARY_FILES, "merges.txt", "tokenizer_config.json", "special_tokens_map.json")

MOST_VOCABULARY_BYTES = 128 * 2**20
MOST_WORDS = 2**20
"""The largest vocabulary among open_clip's models has 901,629."""
MOST_ADDED_TOKENS = 2**14
MOST_GROWTH = 64
"""Times by which a tokenizer's rules may make a prompt longer, counted as if each applied to every character;
those that transformers writes come to 8."""
LARGEST_ARRAY = 2**27
"""Numbers, 512 MiB, in one array of an image tower that looks at one image; open_clip's own models need up to
a fifteenth of it."""

Rule = tuple[Callable[[Any], bool], str]
"""Whether a value may stand there, and what may, in words."""


def _whole(most: int) -> Rule:
    return lambda value: type(value) is int and 0 <= value <= most, f"a whole number up to {most}"


def _one_of(*values: str) -> Rule:
    return lambda value: isinstance(value, str) and value in values, f"one of {', '.join(values)}"


def _matching(pattern: str, words: str) -> Rule:
    compiled = re.compile(pattern)
    return lambda value: isinstance(value, str) and compiled.fullmatch(value) is not None, words


def _list_of(rule: Rule, most: int) -> Rule:
    holds, words = rule
    return (
        lambda value: isinstance(value, list | tuple) and len(value) <= most and all(map(holds, value)),
        f"a list of up to {most}, each {words}",
    )


def _either(*rules: Rule) -> Rule:
    return lambda value: any(holds(value) for holds, _ in rules), " or ".join(words for _, words in rules)


def _table(keys: Mapping[str, Rule]) -> Rule:
    return (
        lambda value: (
            isinstance(value, Mapping) and all(key in keys and keys[key][0](value[key]) for key in value)
        ),
        "a mapping with " + ", ".join(f"{key} ({words})" for key, (_, words) in keys.items()),
    )


FLAG: Rule = (lambda value: isinstance(value, bool), "true or false")
NUMBER: Rule = (
    lambda value: type(value) in (int, float) and math.isfinite(value) and abs(value) <= 1e6,
    "a number",
)
RATIO: Rule = (
    lambda value: type(value) in (int, float) and 0 < value <= 16,
    "a number above 0 and up to 16",
)
COUNT, HEADS, SIZE, WIDTH, VOCABULARY, CONTEXT = map(_whole, (256, 64, 1024, 8192, MOST_WORDS, 1024))
PATCH: Rule = (lambda value: type(value) is int and 4 <= value <= 1024, "a whole number from 4 to 1024")
WORD = _matching(r"[A-Za-z0-9_.-]{0,64}", "a word")
REFERENCE = _matching(r"[^\0\n\r]{0,1024}", "the name of a model on the hub")
TIMM_MODEL: Rule = (
    lambda value: isinstance(value, str) and ":" not in value and "/" not in value and timm.is_model(value),
    "the name of a model of timm",
)

# The parameters of open_clip 3.3: `CLIPVisionCfg`, `CLIPTextCfg`, `MultimodalCfg` and `CLIP`.
_BLOCK: dict[str, Rule] = {
    "width": WIDTH,
    "mlp_ratio": RATIO,
    "ls_init_value": NUMBER,
    "final_ln_after_pool": FLAG,
    "pool_type": WORD,
    "output_tokens": FLAG,
    "act_kwargs": _table({"approximate": _one_of("tanh", "none")}),
    "norm_kwargs": _table({"eps": NUMBER}),
    "block_type": WORD,
    "qk_norm": FLAG,
    "scaled_cosine_attn": FLAG,
    "scale_heads": FLAG,
    "scale_attn_inner": FLAG,
    "scale_attn": FLAG,
    "scale_fc": FLAG,
}
_VISION = _BLOCK | {
    "layers": _either(COUNT, _list_of(COUNT, 4)),
    "head_width": WIDTH,
    "patch_size": PATCH,
    "image_size": _either(SIZE, _list_of(SIZE, 2)),
    "patch_dropout": NUMBER,
    "attentional_pool": FLAG,
    "attn_pooler_queries": CONTEXT,
    "attn_pooler_heads": HEADS,
    "no_ln_pre": FLAG,
    "pos_embed_type": WORD,
    "timm_model_name": TIMM_MODEL,
    "timm_model_pretrained": FLAG,
    "timm_pool": WORD,
    "timm_proj": WORD,
    "timm_proj_bias": FLAG,
    "timm_drop": NUMBER,
    "timm_drop_path": NUMBER,
}
_TEXT = _BLOCK | {
    "layers": COUNT,
    "heads": HEADS,
    "context_length": CONTEXT,
    "vocab_size": VOCABULARY,
    "hf_tokenizer_name": REFERENCE,
    "tokenizer_mode": WORD,
    "tokenizer_kwargs": _table(
        {"clean": _one_of("canonicalize", "lower", "whitespace"), "strip_sep_token": FLAG, "language": WORD}
    ),
    "embed_cls": FLAG,
    "pad_id": VOCABULARY,
    "eos_id": VOCABULARY,
    "no_causal_mask": FLAG,
    "proj_bias": FLAG,
    "proj_type": WORD,
    "hf_model_name": REFERENCE,
    "hf_model_pretrained": FLAG,
    "hf_proj_type": WORD,
    "hf_pooler_type": WORD,
}
_MULTIMODAL = _TEXT | {
    "dim_head": WIDTH,
    "n_queries": CONTEXT,
    "attn_pooler_heads": HEADS,
}
_MODEL: dict[str, Rule] = {
    "embed_dim": WIDTH,
    "quick_gelu": FLAG,
    "custom_text": FLAG,
    "init_logit_scale": NUMBER,
    "init_logit_bias": NUMBER,
    "nonscalar_logit_scale": FLAG,
    "pad_id": VOCABULARY,
}
_PREPROCESS: dict[str, Rule] = {
    "size": _either(SIZE, _list_of(SIZE, 2)),
    "mode": _one_of("RGB"),
    "mean": _list_of(NUMBER, 3),
    "std": _list_of(NUMBER, 3),
    "interpolation": _one_of("bicubic", "bilinear", "random"),
    "resize_mode": _one_of("shortest", "longest", "squash"),
    "fill_color": _whole(255),
}


def read_model_config(name: str, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """`model_cfg` and `preprocess_cfg` of a folder's open_clip_config.json.

    Raises InputError where there is no such file, for a key that is not on the list and for a value that its
    rule does not hold for.
    """
    path = folder / CONFIG_FILE
    if not is_own_file(name, path):
        raise InputError(
            f"encoder {name}: no {CONFIG_FILE} in {folder}; it must be the folder of an open_clip model"
        )
    try:
        config = read_object(path)
        model = config["model_cfg"]
        towers = {"vision_cfg": (model["vision_cfg"], _VISION), "text_cfg": (model["text_cfg"], _TEXT)}
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise InputError(
            f"encoder {name}: {path} must be JSON with vision_cfg and text_cfg in model_cfg "
            f"({type(error).__name__}: {error})"
        ) from error
    if "multimodal_cfg" in model:
        towers["multimodal_cfg"] = model["multimodal_cfg"], _MULTIMODAL
    preprocess = config.get("preprocess_cfg", {})
    _check({key: value for key, value in model.items() if key not in towers}, _MODEL, name, path, "model_cfg")
    for tower, (settings, rules) in towers.items():
        _check(settings, rules, name, path, f"model_cfg.{tower}")
    _check(preprocess, _PREPROCESS, name, path, "preprocess_cfg")
    if (numbers := _largest_array(model["vision_cfg"])) > LARGEST_ARRAY:
        raise InputError(
            f"encoder {name}: {path}: model_cfg.vision_cfg makes an array of {numbers:,} numbers of one "
            f"image, more than {LARGEST_ARRAY:,}; give a smaller image_size, or larger patches"
        )
    return model, preprocess


def is_own_file(name: str, path: Path) -> bool:
    """Whether there is a file at `path`, in the folder of a model.

    InputError where it is a link to a file elsewhere on this machine, but for folders of the hub's cache,
    which hold links to `blobs` beside them.
    """
    if not os.path.isfile(path):  # false for what is no path, where Path.is_file raises
        return False
    real, folder = path.resolve(), path.parent.resolve()
    blobs = folder.parent.parent / "blobs"
    if not real.is_relative_to(folder) and real.parent != blobs:
        raise InputError(f"encoder {name}: {path} is a link to another folder; put the file itself there")
    return True


def _largest_array(vision: Mapping[str, Any]) -> int:
    """Of the arrays that open_clip's own image towers make of one image, the numbers in the largest: outputs
    of the first convolutions, weights of attention, hidden units."""
    if vision.get("timm_model_name"):
        return 0  # as published
    size = vision.get("image_size") or 224
    height, width = size if isinstance(size, list) else (size, size)
    channels, head_width = (
        vision.get(key) or default for key, default in (("width", 768), ("head_width", 64))
    )
    if isinstance(vision.get("layers"), list):
        tokens, heads = (height // 32) * (width // 32) + 1, channels * 32 // head_width
        return max(heads * tokens**2, channels * height * width // 4)
    patch = vision.get("patch_size") or 16
    tokens, heads = (height // patch) * (width // patch) + 1, channels // head_width
    queries, pooler_heads = vision.get("attn_pooler_queries") or 256, vision.get("attn_pooler_heads") or 8
    hidden = int(channels * (vision.get("mlp_ratio") or 4))
    return max(heads * tokens**2, pooler_heads * queries * tokens, tokens * hidden)


def _check(settings: Any, rules: Mapping[str, Rule], name: str, path: Path, where: str) -> None:
    if not isinstance(settings, dict):
        raise InputError(f"encoder {name}: {path}: {where} must be a mapping")
    for key, value in settings.items():
        if key not in rules:
            raise InputError(
                f"encoder {name}: {path}: {where}: {key[:64]!r} is not among the settings that a "
                "model's own file may give, for it could name code to run or other files; remove it"
            )
        holds, words = rules[key]
        if value is not None and not holds(value):
            raise InputError(
                f"encoder {name}: {path}: {where}.{key} must be {words}, not {str(value)[:80]!r}"
            )


def parameter_count(model_config: Mapping[str, Any]) -> int:
    """How many numbers a model of this `model_cfg` holds, found out without any memory for them."""
    config = {key: value for key, value in model_config.items() if key != "custom_text"}
    # Otherwise timm would download the weights that it knows of.
    config["vision_cfg"] = config["vision_cfg"] | {"timm_model_pretrained": False}
    kind = CLIP
    if model_config.get("custom_text") or config["text_cfg"].get("hf_model_name"):
        kind = CoCa if "multimodal_cfg" in config else CustomTextCLIP
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in kind(**config).parameters())


# Of the architectures that open_clip builds text towers from (`open_clip.hf_configs`), what makes them.
_TEXT_CONFIG = {
    "num_hidden_layers num_layers num_decoder_layers encoder_layers decoder_layers": COUNT,
    "num_attention_heads num_heads encoder_attention_heads decoder_attention_heads": HEADS,
    "hidden_size d_model d_kv": WIDTH,
    "intermediate_size d_ff encoder_ffn_dim decoder_ffn_dim": _whole(65_536),
    "vocab_size pad_token_id bos_token_id decoder_start_token_id": VOCABULARY,
    "eos_token_id": _either(VOCABULARY, _list_of(VOCABULARY, 16)),
    "max_position_embeddings type_vocab_size": WIDTH,
    "relative_attention_num_buckets relative_attention_max_distance": CONTEXT,
    "hidden_act activation_function feed_forward_proj position_embedding_type": WORD,
    "hidden_dropout_prob attention_probs_dropout_prob classifier_dropout dropout_rate dropout": NUMBER,
    "attention_dropout activation_dropout encoder_layerdrop decoder_layerdrop": NUMBER,
    "initializer_range initializer_factor init_std layer_norm_eps layer_norm_epsilon": NUMBER,
    "use_cache is_decoder add_cross_attention tie_word_embeddings is_encoder_decoder scale_embedding": FLAG,
}
_TEXT_CONFIG_RULES = {key: rule for keys, rule in _TEXT_CONFIG.items() for key in keys.split()}

# Of a tokenizer, what decides how words become tokens.
_TOKENIZER_KEYS = frozenset(
    (
        "tokenizer_class bos_token eos_token unk_token sep_token pad_token cls_token mask_token "
        "additional_special_tokens extra_special_tokens added_tokens_decoder model_max_length padding_side "
        "truncation_side errors model_input_names clean_up_tokenization_spaces split_special_tokens "
        "do_lower_case do_basic_tokenize never_split tokenize_chinese_chars strip_accents keep_accents "
        "add_prefix_space trim_offsets legacy add_bos_token add_eos_token extra_ids src_lang tgt_lang "
        "language_codes legacy_behaviour"
    ).split()
)
_TOKENIZERS = (
    *("BertTokenizer", "DistilBertTokenizer", "RobertaTokenizer", "XLMRobertaTokenizer", "GPT2Tokenizer"),
    *("CLIPTokenizer", "T5Tokenizer", "MT5Tokenizer", "GemmaTokenizer", "NllbTokenizer", "M2M100Tokenizer"),
    *("PreTrainedTokenizer", "TokenizersBackend"),  # whatever tokenizer.json says
)


def copy_text_config(name: str, folder: Path, target: Path) -> None:
    """Write what makes the architecture of a Hugging Face text tower into the new folder `target`; what else
    its config.json says is left out. InputError for an architecture that open_clip does not know, and for a
    value that its rule does not hold for."""
    path = folder / TEXT_CONFIG_FILE
    config = _object(name, path)
    architecture = str(config.get("model_type"))
    if architecture not in arch_dict:
        raise InputError(
            f"encoder {name}: {path}: model_type must be one of {', '.join(sorted(arch_dict))}, as open_clip "
            f"takes text towers, not {architecture[:80]!r}"
        )
    config = {key: value for key, value in config.items() if key in _TEXT_CONFIG_RULES}
    _check(config, _TEXT_CONFIG_RULES, name, path, "config")
    _write(target / TEXT_CONFIG_FILE, config | {"model_type": architecture})


def copy_tokenizer(name: str, folder: Path, target: Path) -> None:
    """Write a Hugging Face tokenizer into the new folder `target`: its vocabulary, and of its settings those
    that decide how words become tokens. InputError for a class that is not on the list, for pieces without
    the rules that join them, and for more words, added tokens or rules than any published tokenizer has."""
    own = [file for file in TOKENIZER_FILES if is_own_file(name, folder / file)]
    if "vocab.json" in own and not {*VOCABULARY_FILES, "merges.txt"} & set(own) - {"vocab.json"}:
        raise InputError(
            f"encoder {name}: {folder / 'vocab.json'} lacks the merges.txt that joins its pieces to words; "
            "put that, or tokenizer.json, beside it"
        )
    for file in own:
        path = folder / file
        if file in ("tokenizer_config.json", "special_tokens_map.json"):
            settings = _object(name, path)
            kind = settings.get("tokenizer_class") or "TokenizersBackend"
            if str(kind).removesuffix("Fast") not in _TOKENIZERS:
                raise InputError(
                    f"encoder {name}: {path}: tokenizer_class must be one of {', '.join(_TOKENIZERS)}, "
                    f"not {str(kind)[:80]!r}"
                )
            kept = {key: value for key, value in settings.items() if key in _TOKENIZER_KEYS}
            for key, tokens in kept.items():
                if isinstance(tokens, list | dict) and len(tokens) > MOST_ADDED_TOKENS:
                    raise InputError(
                        f"encoder {name}: {path}: {key} must not be more than {MOST_ADDED_TOKENS:,}"
                    )
            _write(target / file, kept)
            continue
        if path.stat().st_size > MOST_VOCABULARY_BYTES:
            most = MOST_VOCABULARY_BYTES // 2**20
            raise InputError(f"encoder {name}: {path}: a vocabulary must not be larger than {most} MiB")
        shutil.copyfile(path, target / file)
        if file == "tokenizer.json":
            _check_tokenizer(name, path, _object(name, path, MOST_VOCABULARY_BYTES))
        elif file.endswith((".txt", ".json")):
            _check_words(
                name, path, (target / file).read_bytes().count(b"\n" if file.endswith(".txt") else b":")
            )
    # A tokenizer whose settings name no class is read as the one of its text tower.
    if is_own_file(name, folder / TEXT_CONFIG_FILE):
        architecture = str(_object(name, folder / TEXT_CONFIG_FILE).get("model_type"))
        if architecture in arch_dict:
            _write(target / TEXT_CONFIG_FILE, {"model_type": architecture})


def _check_tokenizer(name: str, path: Path, tokenizer: Mapping[str, Any]) -> None:
    """The sizes of a tokenizer.json, whose rules say how words become tokens."""
    model, added = tokenizer.get("model"), tokenizer.get("added_tokens") or ()
    for words in model.values() if isinstance(model, dict) else ():
        _check_words(name, path, len(words) if isinstance(words, list | dict) else 0)
    if len(added) > MOST_ADDED_TOKENS:
        raise InputError(f"encoder {name}: {path}: added_tokens must not be more than {MOST_ADDED_TOKENS:,}")
    growth, tables, rules = 1, 0, [tokenizer.get("normalizer")]
    while rules:
        rule = rules.pop()
        if isinstance(rule, dict):
            written = rule.get("content", rule.get("prepend", ""))
            growth *= 1 + len(written) if isinstance(written, str) else 1
            tables += "precompiled_charsmap" in rule
            rules += rule["normalizers"] if isinstance(rule.get("normalizers"), list) else []
    if growth > MOST_GROWTH or tables > 1:
        raise InputError(
            f"encoder {name}: {path}: its normalizer must not make a text more than {MOST_GROWTH} times "
            "as long"
        )


def _check_words(name: str, path: Path, words: int) -> None:
    if words > MOST_WORDS:
        raise InputError(f"encoder {name}: {path}: a vocabulary must not have more than {MOST_WORDS:,} words")


def _object(name: str, path: Path, most: int = MOST_BYTES) -> dict[str, Any]:
    try:
        return read_object(path, most)
    except (ValueError, OSError) as error:
        raise InputError(f"encoder {name}: {path}: damaged ({' '.join(str(error).split())})") from error


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
