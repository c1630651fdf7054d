"""What is believed of the files that come with a model: keys and values that stand on a list.

open_clip and transformers hand a configuration's keys on to whatever they build, and some of those keys run
code that lies beside it (`trust_remote_code`, `auto_map`), read other files (`bpe_path`, `vocab_file`) or
fetch other models (`timm_model_name: hf-hub:...`); others make a small file take all memory. So a model is
refused for a key that no published model needs and for numbers far above those of any, before anything is
built, and the libraries see a folder that holds checked copies and no more.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from open_clip.coca_model import CoCa
from open_clip.hf_configs import arch_dict
from open_clip.model import CLIP, CustomTextCLIP

from cohort.errors import InputError
from vlm.encoders.model_keys import MODEL, MULTIMODAL, PREPROCESS, TEXT, TEXT_CONFIG, VISION, check_settings
from vlm.json_files import MOST_BYTES, read_object

CONFIG_FILE = "open_clip_config.json"
TEXT_CONFIG_FILE = "config.json"
"""Of a Hugging Face text tower."""
LARGEST_ARRAY = 2**27
"""Numbers, 512 MiB, in one array of an image tower that looks at one image; open_clip's own models need up to
a fifteenth of it."""


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
        towers = {"vision_cfg": (model["vision_cfg"], VISION), "text_cfg": (model["text_cfg"], TEXT)}
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise InputError(
            f"encoder {name}: {path} must be JSON with vision_cfg and text_cfg in model_cfg "
            f"({type(error).__name__}: {error})"
        ) from error
    if "multimodal_cfg" in model:
        towers["multimodal_cfg"] = model["multimodal_cfg"], MULTIMODAL
    preprocess = config.get("preprocess_cfg", {})
    check_settings(
        {key: value for key, value in model.items() if key not in towers}, MODEL, name, path, "model_cfg"
    )
    for tower, (settings, rules) in towers.items():
        check_settings(settings, rules, name, path, f"model_cfg.{tower}")
    check_settings(preprocess, PREPROCESS, name, path, "preprocess_cfg")
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


def copy_text_config(name: str, folder: Path, target: Path) -> None:
    """Write what makes the architecture of a Hugging Face text tower into the new folder `target`; what else
    its config.json says is left out. InputError for an architecture that open_clip does not know, and for a
    value that its rule does not hold for."""
    path = folder / TEXT_CONFIG_FILE
    config = read_settings(name, path)
    architecture = str(config.get("model_type"))
    if architecture not in arch_dict:
        raise InputError(
            f"encoder {name}: {path}: model_type must be one of {', '.join(sorted(arch_dict))}, as open_clip "
            f"takes text towers, not {architecture[:80]!r}"
        )
    config = {key: value for key, value in config.items() if key in TEXT_CONFIG}
    check_settings(config, TEXT_CONFIG, name, path, "config")
    write_settings(target / TEXT_CONFIG_FILE, config | {"model_type": architecture})


def read_settings(name: str, path: Path, most: int = MOST_BYTES) -> dict[str, Any]:
    """The JSON object of a file; InputError where it is damaged or larger than `most` bytes."""
    try:
        return read_object(path, most)
    except (ValueError, OSError) as error:
        raise InputError(f"encoder {name}: {path}: damaged ({' '.join(str(error).split())})") from error


def write_settings(path: Path, content: Mapping[str, Any]) -> None:
    """As JSON."""
    path.write_text(json.dumps(content), encoding="utf-8")
