"""What is believed of the files of a Hugging Face tokenizer: words, and the settings that join them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from open_clip.hf_configs import arch_dict

from cohort.errors import InputError
from vlm.encoders.model_files import TEXT_CONFIG_FILE, is_own_file, read_settings, write_settings
from vlm.encoders.model_keys import MOST_WORDS

VOCABULARY_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model")
"""Any one of them makes a tokenizer."""
TOKENIZER_FILES = (*VOCABULARY_FILES, "merges.txt", "tokenizer_config.json", "special_tokens_map.json")

MOST_VOCABULARY_BYTES = 128 * 2**20
MOST_ADDED_TOKENS = 2**14
MOST_GROWTH = 64
"""Times by which a tokenizer's rules may make a prompt longer, counted as if each applied to every character;
those that transformers writes come to 8."""

# Of a tokenizer, what decides how words become tokens.
_KEYS = frozenset(
    (
        "tokenizer_class bos_token eos_token unk_token sep_token pad_token cls_token mask_token "
        "additional_special_tokens extra_special_tokens added_tokens_decoder model_max_length padding_side "
        "truncation_side errors model_input_names clean_up_tokenization_spaces split_special_tokens "
        "do_lower_case do_basic_tokenize never_split tokenize_chinese_chars strip_accents keep_accents "
        "add_prefix_space trim_offsets legacy add_bos_token add_eos_token extra_ids src_lang tgt_lang "
        "language_codes legacy_behaviour"
    ).split()
)
TOKENIZERS = (
    *("BertTokenizer", "DistilBertTokenizer", "RobertaTokenizer", "XLMRobertaTokenizer", "GPT2Tokenizer"),
    *("CLIPTokenizer", "T5Tokenizer", "MT5Tokenizer", "GemmaTokenizer", "NllbTokenizer", "M2M100Tokenizer"),
    *("PreTrainedTokenizer", "TokenizersBackend"),  # whatever tokenizer.json says
)


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
            settings = read_settings(name, path)
            kind = settings.get("tokenizer_class") or "TokenizersBackend"
            if str(kind).removesuffix("Fast") not in TOKENIZERS:
                raise InputError(
                    f"encoder {name}: {path}: tokenizer_class must be one of {', '.join(TOKENIZERS)}, "
                    f"not {str(kind)[:80]!r}"
                )
            kept = {key: value for key, value in settings.items() if key in _KEYS}
            for key, tokens in kept.items():
                if isinstance(tokens, list | dict) and len(tokens) > MOST_ADDED_TOKENS:
                    raise InputError(
                        f"encoder {name}: {path}: {key} must not be more than {MOST_ADDED_TOKENS:,}"
                    )
            write_settings(target / file, kept)
            continue
        if path.stat().st_size > MOST_VOCABULARY_BYTES:
            most = MOST_VOCABULARY_BYTES // 2**20
            raise InputError(f"encoder {name}: {path}: a vocabulary must not be larger than {most} MiB")
        shutil.copyfile(path, target / file)
        if file == "tokenizer.json":
            _check_tokenizer(name, path, read_settings(name, path, MOST_VOCABULARY_BYTES))
        elif file.endswith((".txt", ".json")):
            _check_words(
                name, path, (target / file).read_bytes().count(b"\n" if file.endswith(".txt") else b":")
            )
    # A tokenizer whose settings name no class is read as the one of its text tower.
    if is_own_file(name, folder / TEXT_CONFIG_FILE):
        architecture = str(read_settings(name, folder / TEXT_CONFIG_FILE).get("model_type"))
        if architecture in arch_dict:
            write_settings(target / TEXT_CONFIG_FILE, {"model_type": architecture})


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
