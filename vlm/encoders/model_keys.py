"""The settings that a model's own files may give, and what each may be.

Keys that run code (`trust_remote_code`, `auto_map`), read other files (`bpe_path`, `vocab_file`) or fetch
other models (`timm_model_name: hf-hub:...`) are on no list, and numbers have bounds far above those of
published models.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import timm

from cohort.errors import InputError

MOST_WORDS = 2**20
"""The largest vocabulary among open_clip's models has 901,629."""

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
VISION = _BLOCK | {
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
TEXT = _BLOCK | {
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
MULTIMODAL = TEXT | {
    "dim_head": WIDTH,
    "n_queries": CONTEXT,
    "attn_pooler_heads": HEADS,
}
MODEL: dict[str, Rule] = {
    "embed_dim": WIDTH,
    "quick_gelu": FLAG,
    "custom_text": FLAG,
    "init_logit_scale": NUMBER,
    "init_logit_bias": NUMBER,
    "nonscalar_logit_scale": FLAG,
    "pad_id": VOCABULARY,
}
PREPROCESS: dict[str, Rule] = {
    "size": _either(SIZE, _list_of(SIZE, 2)),
    "mode": _one_of("RGB"),
    "mean": _list_of(NUMBER, 3),
    "std": _list_of(NUMBER, 3),
    "interpolation": _one_of("bicubic", "bilinear", "random"),
    "resize_mode": _one_of("shortest", "longest", "squash"),
    "fill_color": _whole(255),
}

# Of the architectures that open_clip builds text towers from (`open_clip.hf_configs`), what makes them.
_BY_KEYS = {
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
TEXT_CONFIG = {key: rule for keys, rule in _BY_KEYS.items() for key in keys.split()}


def check_settings(settings: Any, rules: Mapping[str, Rule], name: str, path: Path, where: str) -> None:
    """InputError for a key without a rule, and for a value that its rule does not hold for.

    Args:
        name: the encoder's.
        path: the file that says so.
        where: in that file.
    """
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
