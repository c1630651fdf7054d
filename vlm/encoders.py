"""Frozen vision-language encoders from several sources, behind one interface.

Shape legend: B images of a batch, H height, W width, C channels (1 gray or 3 RGB), D features, P prompts.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from safetensors import SafetensorError
from torch import nn

from cohort.errors import InputError
from cohort.geometry import Geometry
from cohort.labels import did_you_mean
from vlm.tensor_files import write_tensors

# open_clip is imported where a model is built: that takes seconds, and `pixels` needs none of it.

Features = Literal["projected", "pooled"]

ALIASES = {"biomedclip": "hf-hub:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224"}
PHANTOM_CLIP = Path(__file__).parent / "phantom_clip"
PIXELS_SIZE = 32  # a ridge on 1,024 pixels of nih_cxr64 does no worse than on all 4,096

# open_clip's file names, on the hub and in a folder.
CONFIG_FILE = "open_clip_config.json"
SAFE_WEIGHTS = "open_clip_model.safetensors"
PICKLED_WEIGHTS = "open_clip_pytorch_model.bin"
# Those of a Hugging Face text tower: its configuration, and what any one of the tokenizers is read from.
TEXT_CONFIG_FILE = "config.json"
VOCABULARY_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model")
TOKENIZER_FILES = (*VOCABULARY_FILES, "merges.txt", "tokenizer_config.json", "special_tokens_map.json")

HUB_TIMEOUT_S = 5.0


class ImageTower(nn.Module):
    """From 8-bit pixels to features: normalisation and image tower on one device."""

    def __init__(
        self, visual: nn.Module, mean: tuple[float, float, float], std: tuple[float, float, float]
    ) -> None:
        super().__init__()
        self.visual = visual
        self.register_buffer("mean_C11", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std_C11", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, images_BHWC: torch.Tensor) -> torch.Tensor:
        """uint8 (B, H, W, 1 or 3) -> float32 (B, D). Gray is repeated into the three channels."""
        x_BCHW = images_BHWC.to(self.mean_C11.device, non_blocking=True).permute(0, 3, 1, 2)
        # The operations of torchvision's ToTensor and Normalize, in their order.
        x_BCHW = (x_BCHW.float() / 255 - self.mean_C11) / self.std_C11
        features = self.visual(x_BCHW.contiguous())
        # CoCa's image tower returns (pooled, tokens).
        return (features[0] if isinstance(features, tuple) else features).float()


class Pixels(nn.Module):
    """The floor, an encoder that has learnt nothing: gray values in 0..1, row by row."""

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return x_BCHW[:, 0].flatten(1)


class PooledTimm(nn.Module):
    """A timm trunk up to where its features are pooled."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return self.trunk.forward_head(self.trunk.forward_features(x_BCHW), pre_logits=True)


class PooledViT(nn.Module):
    """open_clip's own vision transformer up to where its features are pooled."""

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        pooled_BD, _tokens = self.visual._pool(self.visual.transformer(self.visual._embeds(x_BCHW)))
        return pooled_BD


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoder:
    """A frozen image tower with its transform, and the text tower it was trained with."""

    name: str
    """As given, aliases included: `load_encoder(name)` gives this encoder again."""

    features: Features
    """`projected`: in the space shared with text (open_clip's `encode_image`, not normalised); `pooled`:
    before that projection."""

    width: int
    """Number of features of an image."""

    geometry: Geometry
    """How an image of any size becomes the square that the tower takes."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    """Per channel, of pixel values in 0..1: x becomes (x - mean) / std."""

    fingerprint: str
    """sha256 over weights (name, dtype, shape, bytes), architecture, transform and kind of features."""

    tower: ImageTower
    """Pixels to features, parameters frozen."""

    clip: nn.Module | None = None
    """The whole open_clip model, of which `tower` uses the image side; None for `pixels`."""

    tokenizer: Callable[[list[str]], torch.Tensor] | None = None
    """Prompts to int64 tokens (P, context length); None for `pixels`."""

    config: Mapping[str, Any] | None = None
    """`model_cfg` and `preprocess_cfg` as in open_clip_config.json; None for `pixels`."""

    @property
    def device(self) -> torch.device:
        return self.tower.mean_C11.device

    @property
    def logit_scale(self) -> float | None:
        """The learnt factor between cosines and contrastive logits: exp(t) in Radford et al., "Learning
        Transferable Visual Models From Natural Language Supervision", 2021. None for `pixels`."""
        return None if self.clip is None else self.clip.logit_scale.exp().item()

    def to(self, device: str | torch.device) -> Encoder:
        """Move the towers to `device`, in place; returns the encoder."""
        self.tower.to(device)
        if self.clip is not None:
            self.clip.to(device)
        return self

    @torch.inference_mode()
    def image_features(self, images_BHWC: torch.Tensor | np.ndarray) -> torch.Tensor:
        """float32 (B, width) on the encoder's device, not normalised.

        `images_BHWC` is uint8 (B, size, size, 1 or 3), as `cohort.geometry.apply_geometry` gives images for
        `geometry`; anything else is a ValueError.
        """
        if isinstance(images_BHWC, np.ndarray):
            images_BHWC = torch.tensor(images_BHWC)  # a copy: memory-mapped images are read-only
        size, shape = self.geometry.size, tuple(images_BHWC.shape)
        if images_BHWC.dtype != torch.uint8 or shape[1:] not in ((size, size, 1), (size, size, 3)):
            raise ValueError(
                f"images_BHWC must be uint8 (images, {size}, {size}, 1 or 3), not {images_BHWC.dtype} {shape}"
            )
        return self.tower(images_BHWC)

    @torch.inference_mode()
    def text_features(self, prompts: Sequence[str]) -> torch.Tensor:
        """float32 (P, width) on the encoder's device, not normalised; InputError where no text tower
        shares the space of the image features."""
        if self.clip is None:
            raise InputError(f"encoder {self.name} has no text tower; zero-shot needs a CLIP model")
        if self.features != "projected":
            raise InputError(
                f"encoder {self.name}: {self.features} features are not in the space of the text tower; "
                "zero-shot needs projected features"
            )
        features = [
            self.clip.encode_text(self.tokenizer(list(prompts[i : i + 256])).to(self.device), normalize=False)
            for i in range(0, len(prompts), 256)
        ]
        return torch.cat(features).float()

    def with_weights(self, clip: nn.Module, tower: ImageTower) -> Encoder:
        """An encoder of the same architecture and transform with other weights, as fine-tuning leaves them.

        `tower` must be the image side of `clip`. The result has a fingerprint of its own; its name says what
        it came from and loads nothing.
        """
        architecture = _without_locations(self.config["model_cfg"])
        return replace(
            self,
            name=f"{self.name} (fine-tuned)",
            fingerprint=_fingerprint(
                clip.state_dict(), architecture, self.geometry, self.mean, self.std, self.features
            ),
            tower=tower,
            clip=clip,
        )

    def save(self, folder: Path) -> None:
        """Write an open_clip `local-dir:` with everything that `load_encoder` needs, as safetensors.

        Plain open_clip loads it too, with one exception: for a Hugging Face text tower it asks the hub for
        the configuration (unless `hf_model_name` is a path), while `load_encoder` reads the copy saved here.
        InputError for `pixels`, which has no weights.
        """
        if self.clip is None:
            raise InputError(f"encoder {self.name} has no weights to save; its name is all it needs")
        folder.mkdir(parents=True, exist_ok=True)
        write_tensors(folder / SAFE_WEIGHTS, self.clip.state_dict())
        (folder / CONFIG_FILE).write_text(json.dumps(self.config, indent=2) + "\n")
        if hasattr(self.tokenizer, "save_pretrained"):
            self.tokenizer.save_pretrained(folder)
        if self.config["model_cfg"]["text_cfg"].get("hf_model_name"):
            self.clip.text.config.save_pretrained(folder)


def load_encoder(
    name: str, *, features: Features = "projected", device: str | torch.device | None = None
) -> Encoder:
    """Load a frozen encoder by name.

    - `phantom-clip`: the small model in this package, for trying things out.
    - `biomedclip`: short for `hf-hub:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224`.
    - `hf-hub:OWNER/MODEL`: an open_clip model on the Hugging Face hub; a cached copy needs no network.
    - `local-dir:FOLDER`: the same files in a folder, and for a Hugging Face text tower (as BiomedCLIP's) its
      config.json and tokenizer beside them.
    - `MODEL/TAG`: an architecture and a pretrained tag of open_clip, as `ViT-B-32/laion2b_s34b_b79k`.
    - `pixels`: the image itself at 32 x 32 gray pixels, a floor for every encoder.

    `device` is the GPU where there is one, unless given. Nothing a model brings is run: weights are
    safetensors, or else a pickle that holds only tensors. Raises InputError, in one line, for an unknown
    name, missing or damaged files, a hub that cannot be reached, and features that the model does not have.
    """
    if features not in get_args(Features):
        raise InputError(f"features must be one of {', '.join(get_args(Features))}, got {features!r}")
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    source = ALIASES.get(name, name)
    if source == "pixels":
        return _pixels(features).to(device)
    if source == "phantom-clip":
        files = _folder_files(name, PHANTOM_CLIP)
    elif source.startswith("local-dir:"):
        files = _folder_files(name, Path(source.removeprefix("local-dir:")).expanduser())
    elif source.startswith("hf-hub:"):
        needed = [(CONFIG_FILE,), (SAFE_WEIGHTS, PICKLED_WEIGHTS)]
        files = _folder_files(name, _hub_folder(name, source.removeprefix("hf-hub:"), needed))
    else:
        files = _tagged_files(name)
    return _open_clip_encoder(name, files, features).to(device)


def _pixels(features: Features) -> Encoder:
    if features != "projected":
        raise InputError("encoder pixels has no features before a projection; use projected features")
    geometry = Geometry(size=PIXELS_SIZE, resize_mode="squash", channels=1)
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return Encoder(
        name="pixels",
        features=features,
        width=PIXELS_SIZE**2,
        geometry=geometry,
        mean=mean,
        std=std,
        fingerprint=_fingerprint({}, {"pixels": PIXELS_SIZE}, geometry, mean, std, features),
        tower=ImageTower(Pixels(), mean, std).eval(),
    )


@dataclass(frozen=True, kw_only=True)
class _Files:
    """Everything an open_clip model is built from, on this machine."""

    model_name: str
    """As `open_clip.create_model` takes it: `local-dir:FOLDER`, or an architecture."""

    weights: Path | None
    """State dict of an architecture; None where open_clip finds it in the folder."""

    model_config: dict[str, Any]
    preprocess_config: dict[str, Any]
    text_config: Path | None
    """Folder with config.json of a Hugging Face text tower; None where the text tower is open_clip's."""

    tokenizer: Path | None
    """Folder with a Hugging Face tokenizer; None for open_clip's own."""


def _folder_files(name: str, folder: Path) -> _Files:
    if not (folder / CONFIG_FILE).is_file():
        raise InputError(
            f"encoder {name}: no {CONFIG_FILE} in {folder}; it must be the folder of an open_clip model"
        )
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        model_config = config["model_cfg"]
        text, _vision = model_config["text_cfg"], model_config["vision_cfg"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"encoder {name}: {folder / CONFIG_FILE} must be JSON with vision_cfg and text_cfg in model_cfg "
            f"({type(error).__name__}: {error})"
        ) from error
    if not any(path.suffix in (".safetensors", ".bin", ".pth") for path in folder.iterdir()):
        raise InputError(
            f"encoder {name}: no weights in {folder}; put {SAFE_WEIGHTS} or {PICKLED_WEIGHTS} there"
        )
    return _Files(
        model_name=f"local-dir:{folder}",
        weights=None,
        model_config=model_config,
        preprocess_config=config.get("preprocess_cfg", {}),
        text_config=_text_folder(name, text.get("hf_model_name"), (TEXT_CONFIG_FILE,), folder),
        tokenizer=_text_folder(name, text.get("hf_tokenizer_name"), VOCABULARY_FILES, folder),
    )


def _tagged_files(name: str) -> _Files:
    """`MODEL/TAG` in open_clip's list of pretrained weights, all of which live on the hub."""
    import open_clip

    model, _, tag = name.partition("/")
    models = open_clip.list_models()
    if model not in models:
        if Path(name).is_dir():
            hint = f"a folder is written local-dir:{name}"
        elif "/" in name and not difflib.get_close_matches(model, models):
            hint = f"a model on the hub is written hf-hub:{name}"
        else:
            hint = did_you_mean(model, ["phantom-clip", "pixels", *ALIASES, *models])
        raise InputError(f"unknown encoder {name!r}; {hint}")
    tags = open_clip.list_pretrained_tags_by_model(model)
    if tag not in tags:
        hint = did_you_mean(tag, tags) if tags else "open_clip has none for this model"
        raise InputError(f"encoder {name!r} must be MODEL/TAG with a pretrained tag of {model}; {hint}")

    pretrained = open_clip.get_pretrained_cfg(model, tag)
    repository, _, pickled = pretrained["hf_hub"].rpartition("/")
    pickled = pickled or PICKLED_WEIGHTS
    safe = SAFE_WEIGHTS if pickled == PICKLED_WEIGHTS else str(Path(pickled).with_suffix(".safetensors"))
    folder = _hub_folder(name, repository, [(safe, pickled)])
    model_config = open_clip.get_model_config(model)
    # The tag knows which activation its weights were trained with; open_clip only warns of a mismatch.
    if pretrained.get("quick_gelu"):
        model_config["quick_gelu"] = True
    text = model_config["text_cfg"]
    return _Files(
        model_name=model,
        weights=next(folder / file for file in (safe, pickled) if (folder / file).is_file()),
        model_config=model_config,
        preprocess_config=pretrained,
        text_config=_text_folder(name, text.get("hf_model_name"), (TEXT_CONFIG_FILE,)),
        tokenizer=_text_folder(name, text.get("hf_tokenizer_name"), VOCABULARY_FILES),
    )


def _text_folder(
    name: str, reference: str | None, files: tuple[str, ...], beside: Path | None = None
) -> Path | None:
    """Where one of the files of a Hugging Face text tower lies: beside the model, or in the folder or hub
    repository that the model's configuration refers to. None where it refers to none."""
    if not reference:
        return None
    for folder in (beside, Path(reference)):
        if folder and any((folder / file).is_file() for file in files):
            return folder
    return _hub_folder(name, reference, [files], also=TOKENIZER_FILES if files is VOCABULARY_FILES else ())


def _hub_folder(
    name: str, repository: str, needed: list[tuple[str, ...]], also: tuple[str, ...] = ()
) -> Path:
    """The local copy of a hub repository with one file of each group of `needed`, the first that it has,
    and of `also` what it has. Downloads only what the cache does not hold, and gives up at once where the
    hub cannot be reached."""
    from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    def cached(group: tuple[str, ...]) -> Path | None:
        paths = (try_to_load_from_cache(repository, file) for file in group)
        return next((Path(path) for path in paths if isinstance(path, str)), None)

    try:
        here = [cached(group) for group in needed]
        if None not in here:
            return here[0].parent
        there = {file.rfilename for file in HfApi().model_info(repository, timeout=HUB_TIMEOUT_S).siblings}
        chosen = [next((file for file in group if file in there), None) for group in needed]
        if None not in chosen:
            for file in (*chosen, *(file for file in also if file in there)):
                path = hf_hub_download(repository, file, etag_timeout=HUB_TIMEOUT_S)
            return Path(path).parent
    except (HFValidationError, RepositoryNotFoundError) as error:
        raise InputError(
            f"encoder {name}: the hub has no repository {repository!r} to show; check OWNER/MODEL, and the "
            "access token of this machine where it is private"
        ) from error
    except Exception as error:  # of which type depends on the transport below the hub's client
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise InputError(
            f"encoder {name}: {repository} is not in the hub's cache and the hub cannot be reached "
            f"({reason}); put {CONFIG_FILE}, {SAFE_WEIGHTS} or {PICKLED_WEIGHTS} and, for a Hugging Face "
            "text tower (named hf_model_name in that file), its config.json, tokenizer_config.json and "
            "vocab.txt or tokenizer.json into one folder and set encoder: local-dir:FOLDER"
        ) from error
    missing = needed[chosen.index(None)]
    raise InputError(f"encoder {name}: {repository} on the hub holds no {' or '.join(missing)}")


def _open_clip_encoder(name: str, files: _Files, features: Features) -> Encoder:
    import open_clip
    from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

    text = files.model_config["text_cfg"]
    overrides = {}
    if files.text_config is not None:
        # The weights of the text tower come with the model's own.
        own = {"hf_model_name": str(files.text_config), "hf_model_pretrained": False}
        overrides["text_cfg"] = text | own
    transform = ("mean", "std", "interpolation", "resize_mode", "fill_color")
    try:
        clip = open_clip.create_model(
            files.model_name,
            pretrained=None if files.weights is None else str(files.weights),
            device="cpu",
            force_quick_gelu=files.model_config.get("quick_gelu", False),
            force_preprocess_cfg={k: v for k, v in files.preprocess_config.items() if k in transform},
            pretrained_text=False,
            require_pretrained=True,
            weights_only=True,
            **overrides,
        )
    except pickle.UnpicklingError as error:
        raise InputError(
            f"encoder {name}: the weights are a pickle that is damaged or would run code when loaded; "
            f"convert them to {SAFE_WEIGHTS} on a machine where you trust them"
        ) from error
    except (SafetensorError, RuntimeError, OSError, EOFError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"encoder {name}: weights and {CONFIG_FILE} do not load ({reason})") from error
    clip.eval().requires_grad_(False)

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
    visual = clip.visual if features == "projected" else _before_projection(name, clip.visual)
    tower = ImageTower(visual, mean, std).eval()
    with torch.inference_mode():
        features_BD = tower(torch.zeros(1, geometry.size, geometry.size, 1, dtype=torch.uint8))

    options = text.get("tokenizer_kwargs", {})
    context_length = text.get("context_length", 77)
    if files.tokenizer is None:
        tokenizer = SimpleTokenizer(context_length=context_length, **options)
    else:
        mode = text.get("tokenizer_mode")
        tokenizer = HFTokenizer(
            str(files.tokenizer), context_length=context_length, tokenizer_mode=mode, **options
        )
    architecture = _without_locations(files.model_config)
    return Encoder(
        name=name,
        features=features,
        width=features_BD.shape[1],
        geometry=geometry,
        mean=mean,
        std=std,
        fingerprint=_fingerprint(clip.state_dict(), architecture, geometry, mean, std, features),
        tower=tower,
        clip=clip,
        tokenizer=tokenizer,
        config={"model_cfg": files.model_config, "preprocess_cfg": preprocess},
    )


def _before_projection(name: str, visual: nn.Module) -> nn.Module:
    from open_clip.timm_model import TimmModel
    from open_clip.transformer import VisionTransformer

    if isinstance(visual, TimmModel) and not hasattr(visual.head, "pool"):
        # The projection is open_clip's, after the trunk, or the trunk's own classifier.
        if len(visual.head) > 0 or visual.trunk.num_classes > 0:
            return PooledTimm(visual.trunk)
    elif isinstance(visual, VisionTransformer) and visual.proj is not None:
        return PooledViT(visual)
    raise InputError(
        f"encoder {name}: pooled features need a projection after the pooling, which {type(visual).__name__} "
        "does not have here; use projected features"
    )


def _without_locations(model_config: Mapping[str, Any]) -> dict[str, Any]:
    """The architecture alone: the same for a model on the hub and for its copy in a folder."""
    locations = ("hf_model_name", "hf_tokenizer_name", "hf_model_pretrained", "timm_model_pretrained")
    return {
        key: _without_locations(value) if isinstance(value, Mapping) else value
        for key, value in model_config.items()
        if key not in locations
    }


def _fingerprint(
    weights: Mapping[str, torch.Tensor],
    architecture: Mapping[str, Any],
    geometry: Geometry,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    features: Features,
) -> str:
    transform = {"geometry": geometry.to_dict(), "mean": mean, "std": std}
    header = {"architecture": architecture, "transform": transform, "features": features}
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
