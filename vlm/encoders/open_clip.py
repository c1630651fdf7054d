"""Models of open_clip and in its format: from its own tags, from the hub, from a folder, and phantom-clip.

The library of the same name is meant by `import open_clip`, as everywhere.

Shape legend: B images of a batch, H height, W width, C channels, D features, P prompts.
"""

from __future__ import annotations

import copy
import difflib
import json
import os
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from torch import nn

from cohort.errors import InputError
from cohort.geometry import Geometry
from cohort.labels import did_you_mean
from vlm.encoder_names import LOCAL, TUNED, HubAccess, shown
from vlm.encoders import KINDS
from vlm.encoders.base import Encoder, ImageTower, fingerprint
from vlm.encoders.hub import hub_folder
from vlm.encoders.model_files import (
    CONFIG_FILE,
    TEXT_CONFIG_FILE,
    copy_text_config,
    is_own_file,
    parameter_count,
    read_model_config,
)
from vlm.encoders.tokenizer_files import TOKENIZER_FILES, VOCABULARY_FILES, copy_tokenizer
from vlm.feature_kinds import PROJECTED
from vlm.tensor_files import check_pickle, write_tensors
from vlm.towers import tower_of

ALIASES = {"biomedclip": "hf-hub:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224"}
PHANTOM_CLIP = Path(__file__).parents[1] / "phantom_clip"

# open_clip's names for the weights, on the hub and in a folder.
SAFE_WEIGHTS = "open_clip_model.safetensors"
PICKLED_WEIGHTS = "open_clip_pytorch_model.bin"

_STOPPED = (KeyboardInterrupt, SystemExit)
"""Who asks to stop. What else is no Exception is a panic in the Rust of tokenizers, which files cause."""

_TRANSFORM = ("mean", "std", "interpolation", "resize_mode", "fill_color")
"""What of a transform is open_clip's own, and not a fact about a pretrained tag."""

_OFFLINE = (
    f"put {CONFIG_FILE}, {SAFE_WEIGHTS} or {PICKLED_WEIGHTS} and, for a Hugging Face text tower (named "
    "hf_model_name in that file), its config.json, tokenizer_config.json and vocab.txt or tokenizer.json "
    f"into one folder and set encoder: {LOCAL}FOLDER"
)


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenClipEncoder(Encoder):
    """The image side of an open_clip model, with the text side it was trained with."""

    clip: nn.Module
    """The whole model, of which `tower` uses the image side."""

    tokenizer: Callable[[list[str]], torch.Tensor]
    """Prompts to int64 tokens (P, context length)."""

    config: Mapping[str, Any]
    """`model_cfg` and `preprocess_cfg` as in open_clip_config.json."""

    @property
    def backbone(self) -> nn.Module:
        return self.clip.visual

    @property
    def text_refusal(self) -> str:
        if PROJECTED in self.features:
            return ""
        return (
            f"encoder {shown(self.name)}: {' and '.join(self.features)} features are not in the space of the "
            "text tower; zero-shot needs projected features"
        )

    @property
    def logit_scale(self) -> float:
        return self.clip.logit_scale.exp().item()

    def to(self, device: str | torch.device) -> Encoder:
        self.clip.to(device)
        return super().to(device)

    @torch.inference_mode()
    def text_features(self, prompts: Sequence[str]) -> torch.Tensor:
        if self.text_refusal:
            raise InputError(self.text_refusal)
        features = []
        for i in range(0, len(prompts), 256):
            try:
                tokens = self.tokenizer(list(prompts[i : i + 256])).to(self.device)
                features.append(self.clip.encode_text(tokens, normalize=False).float())
            except _STOPPED:
                raise
            except BaseException as error:  # of which type depends on what of a stranger's files does not fit
                raise InputError(
                    f"encoder {self.name}: its tokenizer and text tower do not fit together "
                    f"({_reason(error)}); take the files of both from where they were published"
                ) from error
        return torch.cat(features)

    def with_backbone(self, backbone: nn.Module, tower: ImageTower) -> Encoder:
        # Everything but the image side is shared.
        shared = {id(child): child for child in self.clip.children()} | {id(self.clip.visual): backbone}
        clip = copy.deepcopy(self.clip, shared)
        architecture = _without_locations(self.config["model_cfg"])
        return replace(
            self,
            name=f"{self.name}{TUNED}",
            fingerprint=fingerprint(
                clip.state_dict(), architecture, self.geometry, self.mean, self.std, self.blocks
            ),
            tower=tower,
            clip=clip,
        )

    def save(self, folder: Path) -> None:
        """Write an open_clip `local-dir:` with everything that `load_encoder` needs, as safetensors.

        Plain open_clip loads it too, with one exception: for a Hugging Face text tower it asks the hub for
        the configuration (unless `hf_model_name` is a path), while `load_encoder` reads the copy saved here.
        """
        folder.mkdir(parents=True, exist_ok=True)
        write_tensors(folder / SAFE_WEIGHTS, self.clip.state_dict())
        (folder / CONFIG_FILE).write_text(json.dumps(self.config, indent=2) + "\n")
        if hasattr(self.tokenizer, "save_pretrained"):
            self.tokenizer.save_pretrained(folder)
        if self.config["model_cfg"]["text_cfg"].get("hf_model_name"):
            self.clip.text.config.save_pretrained(folder)


def load(name: str, features: tuple[str, ...] | None, hub: HubAccess) -> OpenClipEncoder:
    """A model by one of the names of `vlm.encoders.load_encoder`, on the CPU; InputError as there."""
    source = ALIASES.get(name, name)
    if source == "phantom-clip":
        files = _folder_files(name, PHANTOM_CLIP)
    elif source.startswith(LOCAL):
        files = _folder_files(name, Path(os.path.expanduser(source.removeprefix(LOCAL))))
    elif source.startswith("hf-hub:"):
        needed = [(CONFIG_FILE,), (SAFE_WEIGHTS, PICKLED_WEIGHTS)]
        folder = hub_folder(name, source.removeprefix("hf-hub:"), needed, access=hub, offline=_OFFLINE)
        files = _folder_files(name, folder, _without_token(hub))
    else:
        files = _tagged_files(name, hub)
    return _built(name, files, features)


@dataclass(frozen=True, kw_only=True)
class _Files:
    """Everything an open_clip model is built from, on this machine."""

    weights: Path
    """The state dict."""

    model_config: dict[str, Any]
    preprocess_config: dict[str, Any]
    text_config: Path | None
    """Folder with config.json of a Hugging Face text tower; None where the text tower is open_clip's."""

    tokenizer: Path | None
    """Folder with a Hugging Face tokenizer; None for open_clip's own."""


def _without_token(hub: HubAccess) -> HubAccess:
    """What may be asked for repositories that the user did not name."""
    return HubAccess.ANONYMOUS if hub is HubAccess.NAMED else hub


def _folder_files(name: str, folder: Path, hub: HubAccess = HubAccess.CACHE) -> _Files:
    model_config, preprocess_config = read_model_config(name, folder)
    text = model_config["text_cfg"]
    named = (folder / file for file in (SAFE_WEIGHTS, PICKLED_WEIGHTS))
    weights = next((path for path in named if is_own_file(name, path)), None)
    if weights is None:
        raise InputError(
            f"encoder {name}: no weights in {folder}; put {SAFE_WEIGHTS} or {PICKLED_WEIGHTS} there"
        )
    return _Files(
        weights=weights,
        model_config=model_config,
        preprocess_config=preprocess_config,
        text_config=_text_folder(name, text.get("hf_model_name"), (TEXT_CONFIG_FILE,), hub, folder),
        tokenizer=_text_folder(name, text.get("hf_tokenizer_name"), VOCABULARY_FILES, hub, folder),
    )


def _tagged_files(name: str, hub: HubAccess) -> _Files:
    """`MODEL/TAG` in open_clip's list of pretrained weights, all of which live on the hub."""
    model, _, tag = name.partition("/")
    models = open_clip.list_models()
    if model not in models:
        if os.path.isdir(name):
            hint = f"a folder is written local-dir:{name}"
        elif "/" in name and not difflib.get_close_matches(model, models):
            hint = f"a model on the hub is written hf-hub:{name}"
        else:
            hint = did_you_mean(model, ["phantom-clip", *KINDS, *ALIASES, *models])
        raise InputError(f"unknown encoder {name!r}; {hint}")
    tags = open_clip.list_pretrained_tags_by_model(model)
    if tag not in tags:
        hint = did_you_mean(tag, tags) if tags else "open_clip has none for this model"
        raise InputError(f"encoder {name!r} must be MODEL/TAG with a pretrained tag of {model}; {hint}")

    pretrained = open_clip.get_pretrained_cfg(model, tag)
    repository, _, pickled = pretrained["hf_hub"].rpartition("/")
    pickled = pickled or PICKLED_WEIGHTS
    safe = SAFE_WEIGHTS if pickled == PICKLED_WEIGHTS else str(Path(pickled).with_suffix(".safetensors"))
    folder = hub_folder(name, repository, [(safe, pickled)], access=hub, offline=_OFFLINE)
    model_config = open_clip.get_model_config(model)
    # The tag knows which activation its weights were trained with; open_clip only warns of a mismatch.
    if pretrained.get("quick_gelu"):
        model_config["quick_gelu"] = True
    text = model_config["text_cfg"]
    hub = _without_token(hub)
    return _Files(
        weights=next(folder / file for file in (safe, pickled) if (folder / file).is_file()),
        model_config=model_config,
        preprocess_config={key: value for key, value in pretrained.items() if key in _TRANSFORM},
        text_config=_text_folder(name, text.get("hf_model_name"), (TEXT_CONFIG_FILE,), hub),
        tokenizer=_text_folder(name, text.get("hf_tokenizer_name"), VOCABULARY_FILES, hub),
    )


def _text_folder(
    name: str, reference: str | None, files: tuple[str, ...], hub: HubAccess, beside: Path | None = None
) -> Path | None:
    """Where one of the files of a Hugging Face text tower lies: beside the model, or in the hub repository
    that the model's configuration refers to. None where it refers to none."""
    if not reference:
        return None
    if beside and any(is_own_file(name, beside / file) for file in files):
        return beside
    also = TOKENIZER_FILES if files is VOCABULARY_FILES else ()
    return hub_folder(name, reference, [files], also=also, access=hub, offline=_OFFLINE)


def _built(name: str, files: _Files, features: tuple[str, ...] | None) -> OpenClipEncoder:
    try:
        clip, tokenizer = _towers(name, files)
        return _encoder(name, files, features, clip, tokenizer)
    except (InputError, *_STOPPED):
        raise
    except pickle.UnpicklingError as error:
        raise InputError(
            f"encoder {name}: the weights are a pickle that is damaged or would run code when loaded; "
            f"convert them to {SAFE_WEIGHTS} on a machine where you trust them"
        ) from error
    except BaseException as error:  # of which type depends on which part of a stranger's model does not fit
        raise InputError(
            f"encoder {name}: weights and {CONFIG_FILE} do not load ({_reason(error)})"
        ) from error


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _towers(name: str, files: _Files) -> tuple[nn.Module, Callable[[list[str]], torch.Tensor]]:
    """The model, frozen, and its tokenizer; nothing that came with them is run."""
    text = files.model_config["text_cfg"]
    # open_clip and transformers look into a folder for more than they are told of, code included.
    with TemporaryDirectory(prefix="radtune-model-") as folder:
        model, config, vocabulary = (Path(folder, part) for part in ("model", "config", "tokenizer"))
        model.mkdir()
        model_config = files.model_config
        if files.text_config is not None:
            config.mkdir()
            copy_text_config(name, files.text_config, config)
            # The weights of the text tower come with the model's own.
            beside = {"hf_model_name": str(config), "hf_model_pretrained": False}
            model_config = model_config | {"text_cfg": text | beside}
        if files.tokenizer is not None:
            vocabulary.mkdir()
            copy_tokenizer(name, files.tokenizer, vocabulary)
        numbers, size = parameter_count(model_config), files.weights.stat().st_size
        if numbers > size:
            raise ValueError(
                f"the configuration describes {numbers:,} numbers, and the weights hold no more than "
                f"{size:,} bytes"
            )
        safe = files.weights.suffix == ".safetensors"
        if not safe:
            check_pickle(files.weights)
        described = {"model_cfg": model_config, "preprocess_cfg": files.preprocess_config}
        (model / CONFIG_FILE).write_text(json.dumps(described), encoding="utf-8")
        (model / (SAFE_WEIGHTS if safe else PICKLED_WEIGHTS)).symlink_to(files.weights.resolve())
        clip = open_clip.create_model(
            f"{LOCAL}{model}",
            device="cpu",
            pretrained_text=False,
            require_pretrained=True,
            weights_only=True,
        )
        options = text.get("tokenizer_kwargs") or {}
        context_length = text.get("context_length", 77)
        if files.tokenizer is None:
            tokenizer = SimpleTokenizer(context_length=context_length, **options)
        else:
            tokenizer = HFTokenizer(
                str(vocabulary),
                context_length=context_length,
                tokenizer_mode=text.get("tokenizer_mode"),
                trust_remote_code=False,
                **options,
            )
    return clip.eval().requires_grad_(False), tokenizer


def _encoder(
    name: str,
    files: _Files,
    features: tuple[str, ...] | None,
    clip: nn.Module,
    tokenizer: Callable[[list[str]], torch.Tensor],
) -> OpenClipEncoder:
    preprocess = clip.visual.preprocess_cfg
    height, width = np.broadcast_to(preprocess["size"], 2).tolist()
    if height != width:
        raise InputError(f"encoder {name}: takes {height} x {width} pixels; only square inputs are supported")
    geometry = Geometry(
        size=height,
        resize_mode=preprocess["resize_mode"],
        # open_clip's `random` concerns training; its evaluation transform is then bicubic.
        interpolation="bilinear" if preprocess["interpolation"] == "bilinear" else "bicubic",
        fill=preprocess["fill_color"],
    )
    mean, std = (tuple(float(value) for value in preprocess[key]) for key in ("mean", "std"))
    inner = tower_of(clip.visual)
    has = inner.widths(geometry.size)
    for kind in features or ():
        if kind not in has:
            raise InputError(
                f"encoder {name}: its {type(clip.visual).__name__} has no {kind} features; it has "
                f"{', '.join(has)}"
            )
    blocks = {kind: widths for kind, widths in has.items() if kind in (features or has)}
    tower = ImageTower(clip.visual, mean, std, inner=inner, kinds=tuple(blocks)).eval()
    architecture = _without_locations(files.model_config)
    return OpenClipEncoder(
        name=name,
        blocks=blocks,
        geometry=geometry,
        mean=mean,
        std=std,
        fingerprint=fingerprint(clip.state_dict(), architecture, geometry, mean, std, blocks),
        tower=tower,
        clip=clip,
        tokenizer=tokenizer,
        config={"model_cfg": files.model_config, "preprocess_cfg": preprocess},
    )


def _without_locations(model_config: Mapping[str, Any]) -> dict[str, Any]:
    """The architecture alone: the same for a model on the hub and for its copy in a folder."""
    locations = ("hf_model_name", "hf_tokenizer_name", "hf_model_pretrained", "timm_model_pretrained")
    return {
        key: _without_locations(value) if isinstance(value, Mapping) else value
        for key, value in model_config.items()
        if key not in locations
    }
