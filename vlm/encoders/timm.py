"""Image encoders of timm, which have no text tower: from the hub by name, or with a checkpoint of one's own.

    timm:NAME          weights of timm's pretrained tag, as timm:vit_small_patch14_dinov2.lvd142m
    timm:NAME@PATH     the same architecture with the weights of a file: safetensors, or a pickle of tensors

Normalisation and size are those of timm's own `pretrained_cfg`. The library of the same name is meant by
`import timm`, as everywhere.

Shape legend: B images of a batch, H height, W width, C channels.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import timm
import torch
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from cohort.errors import InputError
from cohort.geometry import Geometry
from cohort.labels import did_you_mean
from vlm.encoder_names import TIMM, TUNED, HubAccess, split_path
from vlm.encoders.base import Encoder, ImageTower, fingerprint
from vlm.encoders.hub import hub_folder
from vlm.tensor_files import CorruptFile, check_pickle, read_tensors, write_tensors
from vlm.towers import tower_of

WEIGHTS = "model.safetensors"
_PICKLED = "pytorch_model.bin"


@dataclass(frozen=True, kw_only=True, eq=False)
class TimmEncoder(Encoder):
    """A timm model without its classifier."""

    architecture: str
    """As timm names it, with a pretrained tag or without."""

    model: nn.Module

    @property
    def backbone(self) -> nn.Module:
        return self.model

    def to(self, device: str | torch.device) -> Encoder:
        self.model.to(device)
        return super().to(device)

    def with_backbone(self, backbone: nn.Module, tower: ImageTower) -> Encoder:
        return replace(
            self,
            name=f"{self.name}{TUNED}",
            fingerprint=_fingerprint(backbone, self.architecture, self),
            tower=tower,
            model=backbone,
        )

    def save(self, folder: Path) -> None:
        """Write the weights; `vlm.encoder_names.name_in` says how they are loaded again."""
        folder.mkdir(parents=True, exist_ok=True)
        write_tensors(folder / WEIGHTS, self.model.state_dict())


def load(name: str, features: tuple[str, ...] | None, hub: HubAccess) -> TimmEncoder:
    """A model by its name, on the CPU; InputError as `vlm.encoders.load_encoder` has it."""
    prefix, path = split_path(name)
    architecture = prefix.removeprefix(TIMM).removesuffix("@")
    plain, _, tag = architecture.partition(".")
    if not timm.is_model(plain):
        raise InputError(f"unknown encoder {name!r}; {did_you_mean(plain, timm.list_models())}")
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{plain}.*")]
    if tag and tag not in tags:
        hint = did_you_mean(tag, tags) if tags else "timm has none for this model"
        raise InputError(f"encoder {name!r} must have a pretrained tag of {plain}; {hint}")
    model = timm.create_model(architecture, pretrained=False, num_classes=0).eval().requires_grad_(False)
    weights = Path(os.path.expanduser(path)) if path else _from_hub(name, model, hub)
    _fill(name, model, _read(name, weights))
    config = resolve_model_data_config(model)
    _, height, width = config["input_size"]
    if height != width:
        raise InputError(f"encoder {name}: takes {height} x {width} pixels; only square inputs are supported")
    geometry = Geometry(
        size=height,
        interpolation="bilinear" if config["interpolation"] == "bilinear" else "bicubic",
    )
    mean, std = (tuple(float(value) for value in config[key]) for key in ("mean", "std"))
    inner = tower_of(model)
    has = inner.widths(height)
    if not has:
        raise InputError(f"encoder {name}: this architecture of timm gives no outputs of its layers")
    for kind in features or ():
        if kind not in has:
            raise InputError(f"encoder {name}: has no {kind} features; it has {', '.join(has)}")
    blocks = {kind: widths for kind, widths in has.items() if kind in (features or has)}
    encoder = TimmEncoder(
        name=name,
        blocks=blocks,
        geometry=geometry,
        mean=mean,
        std=std,
        fingerprint="",
        tower=ImageTower(model, mean, std, inner=inner, kinds=tuple(blocks)).eval(),
        architecture=architecture,
        model=model,
    )
    return replace(encoder, fingerprint=_fingerprint(model, architecture, encoder))


def _fingerprint(model: nn.Module, architecture: str, encoder: Encoder) -> str:
    # The tag says where weights came from, not what they are.
    header = {"timm": architecture.partition(".")[0]}
    return fingerprint(
        model.state_dict(), header, encoder.geometry, encoder.mean, encoder.std, encoder.blocks
    )


def _from_hub(name: str, model: nn.Module, hub: HubAccess) -> Path:
    repository = model.pretrained_cfg.get("hf_hub_id")
    if not repository:
        raise InputError(f"encoder {name}: timm has no pretrained weights of it; give a file as {name}@PATH")
    # timm leaves out the model's own name where the repository is called like it.
    if repository.endswith("/"):
        tag = model.pretrained_cfg.get("tag")
        repository += model.pretrained_cfg["architecture"] + (f".{tag}" if tag else "")
    folder = hub_folder(
        name,
        repository,
        [(WEIGHTS, _PICKLED)],
        access=hub,
        offline=f"download {WEIGHTS} elsewhere and set encoder: {name}@PATH",
    )
    return next(folder / file for file in (WEIGHTS, _PICKLED) if (folder / file).is_file())


def _read(name: str, path: Path) -> Mapping[str, Tensor]:
    """The tensors of a file; nothing in it is run."""
    if not os.path.isfile(path):  # false for what is no path, where Path.is_file raises
        raise InputError(f"encoder {name}: no file {path}")
    try:
        if path.suffix == ".safetensors":
            return read_tensors(path)[0]
        check_pickle(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (CorruptFile, pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(
            f"encoder {name}: {path} is damaged or a pickle that would run code when loaded "
            f"({reason[:150]}); convert it to safetensors on a machine where you trust it"
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not all(isinstance(one, Tensor) for one in found.values()):
        raise InputError(f"encoder {name}: {path} holds no state dict, a mapping of names to tensors")
    return found


def _fill(name: str, model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load the weights, a classifier's aside; InputError, naming the first key that differs, where they are
    of another architecture."""
    classifier = model.pretrained_cfg.get("classifier") or ()
    heads = tuple(f"{one}." for one in ([classifier] if isinstance(classifier, str) else classifier))
    expected = model.state_dict()
    given = {key: one for key, one in weights.items() if key in expected or not key.startswith(heads or "\0")}
    for key, tensor in expected.items():
        if key not in given:
            raise _another(name, f"it lacks {key}")
        if given[key].shape != tensor.shape:
            raise _another(name, f"{key} is {tuple(given[key].shape)} there, {tuple(tensor.shape)} here")
    if strange := next((key for key in given if key not in expected), None):
        raise _another(name, f"{strange} is not of this one")
    model.load_state_dict(dict(given))


def _another(name: str, difference: str) -> InputError:
    return InputError(f"encoder {name}: the checkpoint is of another architecture: {difference}")
