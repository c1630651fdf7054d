"""Which parameters of an image tower a method trains, and the tuned tower as an encoder again.

full          every parameter that the features depend on.
lora          low-rank additions to some layers (Hu et al., ICLR 2022), by the `peft` library.
last_blocks   the last n blocks, and the final norm and projection above them.
bitfit        biases (Ben Zaken et al., ACL 2022) and the weights of norms.

A tower is a stack of numbered layers, see `vlm.towers.base.Tower.blocks`: 0 the stem, 1..n the blocks, and
n + 1 the projection into the joint space.

Running means and variances of batch norms are never updated: with a few dozen images a step they would be
noise, and they would depend on how a batch is cut to fit the memory.

Shape legend: B images of a batch, D features.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cohort.errors import InputError
from search_spaces.fine_tune import PARAMETERS, SPACE
from trainables.fine_tune_config import Method
from vlm.encoders import Encoder
from vlm.towers.base import LORA_KINDS

METHODS = PARAMETERS["method"].search

_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)


def check_space(
    encoder: Encoder, fixed: Mapping[str, Any] | None = None, ranges: Mapping[str, Any] | None = None
) -> dict[str, int]:
    """The methods that a study may try on this encoder, each with the most parameters it may train.

    Args:
        encoder: whose image tower is tuned.
        fixed: as `search_spaces.fine_tune.suggest`.
        ranges: as `search_spaces.fine_tune.suggest`.

    Raises:
        InputError: a method, a number of blocks or a target of LoRA that does not fit this tower.
    """
    fixed, ranges = fixed or {}, ranges or {}
    SPACE.check(fixed, ranges)
    tried = {
        name: SPACE.choices(name, fixed, ranges)
        for name in ("method", "last_blocks", "lora_rank", "lora_targets")
    }
    largest: dict[str, int] = {}
    for name in tried["method"]:
        if name == "lora":
            rank = int(max(tried["lora_rank"]))
            methods = [
                Method(name=name, lora_rank=rank, lora_alpha=rank, lora_targets=targets)
                for targets in tried["lora_targets"]
            ]
        elif name == "last_blocks":
            methods = [Method(name=name, last_blocks=int(max(tried["last_blocks"])))]
        else:
            methods = [Method(name=name)]
        largest[name] = max(check_method(encoder, method) for method in methods)
    return largest


def check_method(encoder: Encoder, method: Method) -> int:
    """How many parameters of the encoder's image tower the method trains.

    Raises:
        InputError: the method does not fit this tower.
    """
    tower = TrainableTower(encoder, method, seed=0)
    return sum(parameter.numel() for parameter in tower.trained.values())


class TrainableTower(nn.Module):
    """A copy of an encoder's image tower in which one method's parameters can be trained.

    The encoder itself stays as it is, for the next trial.
    """

    def __init__(self, encoder: Encoder, method: Method, *, seed: int) -> None:
        """
        Args:
            encoder: with weights.
            method: what is trained.
            seed: of the additions' initial weights.

        Raises:
            InputError: the encoder has no image tower to train, or the method does not fit it.
        """
        super().__init__()
        self._encoder = encoder
        self._where = f"encoder {encoder.name}: method {method.name}"
        if encoder.backbone is None:
            raise InputError(f"{self._where}: this encoder has no weights; fine-tune a CLIP model")
        self.tower = copy.deepcopy(encoder.tower)
        try:
            numbers, self.top_layer = self.tower.inner.blocks()
        except InputError as error:
            raise InputError(f"{self._where}: {error}") from None
        layer_of = {parameter: numbers[name] for name, parameter in self.tower.visual.named_parameters()}
        if method.name == "lora":
            self.tower.inner.open_for_lora()

        used, called = self._traced()
        self.requires_grad_(False)
        if method.name == "lora":
            trained = self._add_lora(method, seed, called, layer_of)
        else:
            trained = {
                name: (parameter, layer_of[parameter])
                for name, parameter in self._chosen(method, layer_of)
                if name in used
            }
        if not trained:
            raise InputError(f"{self._where}: this tower has no such parameters; choose another method")
        self.trained: dict[str, nn.Parameter] = {name: parameter for name, (parameter, _) in trained.items()}
        """The parameters to be trained, by name."""
        self.layer: dict[str, int] = {name: layer for name, (_, layer) in trained.items()}
        """The number of the layer that each belongs to, 0 to `top_layer`."""
        for parameter in self.trained.values():
            parameter.requires_grad_(True)
        self.train()

    def forward(self, images_BHWC: Tensor) -> Tensor:
        """float32 features (B, D) of images with gray values 0..255, uint8 or float."""
        return self.tower(images_BHWC)

    def train(self, mode: bool = True) -> TrainableTower:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def decays(self, name: str) -> bool:
        """Whether weight decay applies: to matrices and kernels, not to biases, norms and embeddings."""
        return self.trained[name].ndim > 1 and not re.search(r"(embed|embedding|token)$", name)

    def into_encoder(self) -> Encoder:
        """The encoder with this tower's weights, on the encoder's device; the end of this tower's training.

        Low-rank additions are merged into the layers they were added to, and every layer is again of the
        class that its library builds.
        """
        _merge_lora(self.tower)
        self.tower.inner.close_after_lora()
        self.tower.to(self._encoder.device).eval().requires_grad_(False)
        return self._encoder.with_backbone(self.tower.visual, self.tower)

    def _traced(self) -> tuple[set[str], list[str]]:
        """Names of the parameters that the features depend on, and of the linear and convolution layers that
        are called as layers; the weights of some are only read by the layer that holds them."""
        called: list[str] = []
        hooks = [
            module.register_forward_hook(lambda *_, name=name: called.append(name))
            for name, module in self.tower.named_modules()
            if isinstance(module, nn.Linear | nn.Conv2d)
        ]
        size, device = self._encoder.geometry.size, self._encoder.device
        self.eval().requires_grad_(True)
        parameters = dict(self.tower.named_parameters())
        with torch.enable_grad():
            blank_1HW1 = torch.zeros(1, size, size, 1, dtype=torch.uint8, device=device)
            total = self.tower(blank_1HW1).sum()
            gradients = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
        for hook in hooks:
            hook.remove()
        used = {name for name, grad in zip(parameters, gradients, strict=True) if grad is not None}
        return used, called

    def _chosen(
        self, method: Method, layer_of: dict[nn.Parameter, int]
    ) -> Iterator[tuple[str, nn.Parameter]]:
        if method.name == "last_blocks":
            blocks = self.top_layer - 1
            if not 1 <= method.last_blocks <= blocks:
                raise InputError(
                    f"{self._where}: last_blocks must be from 1 to the tower's {blocks} blocks, not "
                    f"{method.last_blocks}; fix it, or give it a range, within them"
                )
            for name, parameter in self.tower.named_parameters():
                if layer_of[parameter] > blocks - method.last_blocks:
                    yield name, parameter
        elif method.name == "bitfit":
            for path, module in self.tower.named_modules():
                # timm and open_clip have norms of their own besides torch's.
                norm = isinstance(module, _NORMS) or "Norm" in type(module).__name__
                for name, parameter in module.named_parameters(prefix=path, recurse=False):
                    if norm or name.endswith("bias"):
                        yield name, parameter
        elif method.name == "full":
            yield from self.tower.named_parameters()
        else:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, not {method.name!r}")

    def _add_lora(
        self, method: Method, seed: int, called: list[str], layer_of: dict[nn.Parameter, int]
    ) -> dict[str, tuple[nn.Parameter, int]]:
        from peft import LoraConfig, inject_adapter_in_model  # two seconds, which no other method needs

        fitting = {f"visual.{name}": kinds for name, kinds in self.tower.inner.lora_targets().items()}
        layers = {name: layer_of[self.tower.get_submodule(name).weight] for name in called if name in fitting}
        targets = self._targets(method.lora_targets, {name: fitting[name] for name in layers})
        config = LoraConfig(
            r=method.lora_rank,
            lora_alpha=method.lora_alpha,
            lora_dropout=method.lora_dropout,
            target_modules=targets,
        )
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            inject_adapter_in_model(config, self.tower)
        for name in targets:
            # Autocast chooses the precision; peft would first turn every input back into float32.
            self.tower.get_submodule(name).cast_input_dtype_enabled = False
        return {
            name: (parameter, layers[name.split(".lora_")[0]])
            for name, parameter in self.tower.named_parameters()
            if ".lora_" in name
        }

    def _targets(self, wanted: str, layers: Mapping[str, frozenset[str]]) -> list[str]:
        """Names of the layers that `lora_targets` means, out of those that can take an addition."""

        def meant(target: str) -> list[str]:
            if target in LORA_KINDS:
                return [name for name, kinds in layers.items() if target in kinds]
            return [name for name in layers if f".{name}".endswith(f".{target}")]

        chosen: set[str] = set()
        for target in wanted.split("+"):
            if not (names := meant(target)):
                kinds = {kind: len(meant(kind)) for kind in LORA_KINDS if meant(kind)}
                own = sorted({name.rpartition(".")[2] for name in layers})
                others = ", ".join(name for name in METHODS if name != "lora")
                remedy = f"let search.ranges be {{method: [{others}]}}"
                if layers:
                    fitting = next(iter(kinds), own[0])
                    remedy = f"set search.fixed: {{lora_targets: {fitting}}}, or {remedy}"
                counted = ", ".join(f"{kind} ({count})" for kind, count in kinds.items()) or "none"
                raise InputError(
                    f"{self._where}: lora_targets {target!r} matches no layer that takes a low-rank "
                    f"addition; {remedy}; this tower has {counted}, by name {', '.join(own) or 'none'}"
                )
            chosen.update(names)
        return sorted(chosen)


def _merge_lora(tower: nn.Module) -> None:
    layers = [(name, module) for name, module in tower.named_modules() if hasattr(module, "lora_A")]
    for name, layer in layers:
        layer.merge()
        path, _, last = name.rpartition(".")
        setattr(tower.get_submodule(path), last, layer.get_base_layer())
