"""The state of a fine-tuning trial, and the files it rests in: resume points, weights of the best epoch.

Shape legend: N images of validation, C labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cohort.errors import InputError
from search_spaces.configuration import Configuration
from search_spaces.fine_tune import SPACE
from trainables import checkpoints
from trainables.checkpoints import CorruptCheckpoint
from trainables.fine_tune_config import tower_method
from trainables.tower import TrainableTower
from vlm.encoders import Encoder
from vlm.linear_head import LinearHead
from vlm.torch_head import TorchHead

CHECKPOINT, BEST = "trial.safetensors", "best.safetensors"
_HEAD = "linear_head/"


@dataclass(eq=False)
class Best:
    """The best epoch so far."""

    epoch: int = 0
    """From 1; 0 before the first."""
    score: float = -math.inf
    weights: dict[str, Tensor] | None = None
    """Trained parameters, on the CPU."""
    logits_NC: np.ndarray | None = None
    """On validation."""


@dataclass(eq=False, kw_only=True)
class TrainingState:
    """Everything that the next epoch and the final record depend on."""

    parameters: dict[str, nn.Parameter]
    """What is trained, `tower.<name>` and `head.<name>`."""
    averages: dict[str, Tensor] | None
    """Running means of the parameters; None where there are none."""
    head: TorchHead
    new_optimizer: Callable[[], torch.optim.AdamW]
    fresh_optimizer: bool
    """Every epoch starts a new optimiser, so that its moments need not be kept."""
    scaler: torch.amp.GradScaler
    micro_batch: int
    """Images on the device at once in a training step; falls when the memory is full."""
    epoch: int = 0
    """Epochs trained."""
    curve: list[dict[str, float]] = field(default_factory=list)
    """What `FineTuneTrial.run_epoch` returned, one entry per epoch."""
    epochs_waited: int = 0
    """Epochs since the best one."""
    seconds: float = 0.0
    best: Best = field(default_factory=Best)

    def __post_init__(self) -> None:
        self.optimizer = self.new_optimizer()

    @property
    def trained_parameters(self) -> int:
        """How many numbers are trained, the head's included."""
        return sum(parameter.numel() for parameter in self.parameters.values())

    def tensors(self) -> dict[str, Tensor]:
        """Trained weights, AdamW's moments, running means, best weights and logits."""
        tensors = {f"weights/{name}": parameter.detach() for name, parameter in self.parameters.items()}
        tensors |= {"head_mean_D": self.head.mean_D, "head_scale_D": self.head.scale_D}
        tensors |= {f"averages/{name}": average for name, average in (self.averages or {}).items()}
        if self._optimizer_steps():
            for name in self._names_in_optimizer():
                moments = self.optimizer.state[self.parameters[name]]
                tensors |= {f"first/{name}": moments["exp_avg"], f"second/{name}": moments["exp_avg_sq"]}
        if self.best.epoch:
            tensors["best_logits_NC"] = torch.from_numpy(self.best.logits_NC)
            if self.best.epoch != self.epoch:
                tensors |= {f"best/{name}": tensor for name, tensor in self.best.weights.items()}
        return tensors

    def progress(self) -> dict[str, Any]:
        """The rest, as plain JSON values."""
        return {
            "epoch": self.epoch,
            "curve": [dict(point) for point in self.curve],
            "micro_batch": self.micro_batch,
            "epochs_waited": self.epochs_waited,
            "seconds": self.seconds,
            "best_epoch": self.best.epoch,
            "best_score": self.best.score,
            "optimizer_steps": self._optimizer_steps(),
            "scaler": self.scaler.state_dict(),
            "head_l2": self.head.l2,
        }

    def load(self, tensors: Mapping[str, Tensor], progress: Mapping[str, Any]) -> None:
        """Continue from what `tensors` and `progress` gave, with the same configuration, encoder and data."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(tensors[f"weights/{name}"])
            for name, average in (self.averages or {}).items():
                average.copy_(tensors[f"averages/{name}"])
            self.head.mean_D.copy_(tensors["head_mean_D"])
            self.head.scale_D.copy_(tensors["head_scale_D"])
        self.head.l2 = progress["head_l2"]
        self.optimizer = self.new_optimizer()
        if progress["optimizer_steps"]:
            whole = self.optimizer.state_dict()
            whole["state"] = {
                i: {
                    "step": torch.tensor(float(progress["optimizer_steps"])),
                    "exp_avg": tensors[f"first/{name}"].clone(),
                    "exp_avg_sq": tensors[f"second/{name}"].clone(),
                }
                for i, name in enumerate(self._names_in_optimizer())
            }
            self.optimizer.load_state_dict(whole)
        if progress["scaler"]:
            self.scaler.load_state_dict(progress["scaler"])
        self.epoch, self.curve = progress["epoch"], [dict(point) for point in progress["curve"]]
        self.micro_batch = progress["micro_batch"]
        self.epochs_waited, self.seconds = progress["epochs_waited"], progress["seconds"]
        self.best = Best(epoch=progress["best_epoch"], score=progress["best_score"])
        if self.best.epoch:
            # Kept weights that are the current ones stand in the file once.
            current = "averages" if self.averages is not None else "weights"
            prefix = current if self.best.epoch == self.epoch else "best"
            self.best.weights = {name: tensors[f"{prefix}/{name}"].clone() for name in self.parameters}
            self.best.logits_NC = tensors["best_logits_NC"].numpy().copy()

    def _optimizer_steps(self) -> int:
        """AdamW's count of steps, 0 where the next epoch starts a new one anyway."""
        if self.fresh_optimizer:
            return 0
        moments = self.optimizer.state.get(self.head.bias_C)
        return int(moments["step"].item()) if moments else 0

    def _names_in_optimizer(self) -> list[str]:
        """Names of the parameters in the order in which the optimiser numbers them."""
        names = {parameter: name for name, parameter in self.parameters.items()}
        return [names[parameter] for group in self.optimizer.param_groups for parameter in group["params"]]


def checkpoint_bytes(trained_parameters: int, *, ema: bool, fresh_optimizer: bool = False) -> int:
    """The most that one checkpoint takes on disk: weights, two moments, running means, best weights."""
    return 4 * trained_parameters * (2 + (0 if fresh_optimizer else 2) + ema)


def save_checkpoint(folder: Path | str, state: TrainingState, identity: Mapping[str, Any]) -> Path:
    """Write the state into `folder`, whole or not at all; returns the file."""
    path = Path(folder) / CHECKPOINT
    checkpoints.write(path, state.tensors(), {"identity": identity, "progress": state.progress()})
    return path


def load_checkpoint(folder: Path | str, state: TrainingState, identity: Mapping[str, Any]) -> None:
    """Continue from `save_checkpoint`.

    Raises:
        InputError: it belongs to another tower, label set, split, configuration or way of training.
        CorruptCheckpoint: it is damaged or not there.
    """
    path = Path(folder) / CHECKPOINT
    tensors, description = checkpoints.read(path)
    _check_identity(path, description["identity"], identity)
    state.load(tensors, description["progress"])


def load_newest(
    folders: Sequence[Path | str], state: TrainingState, identity: Mapping[str, Any]
) -> tuple[Path | None, list[str]]:
    """Continue from the first whole checkpoint of `folders`, newest first.

    Returns:
        the folder that was loaded, None where none is whole, and a line about each that was passed over.

    Raises:
        InputError: as `load_checkpoint`.
    """
    passed_over: list[str] = []
    for folder in folders:
        try:
            load_checkpoint(folder, state, identity)
            return Path(folder), passed_over
        except CorruptCheckpoint as error:
            passed_over.append(str(error))
    return None, passed_over


def save_best(
    folder: Path | str, weights: Mapping[str, Tensor], head: LinearHead, identity: Mapping[str, Any]
) -> Path:
    """Write what `load_best` needs of the best epoch; returns the file."""
    path = Path(folder) / BEST
    arrays = {_HEAD + name: torch.from_numpy(array) for name, array in head.tensors().items()}
    checkpoints.write(path, {**weights, **arrays}, {"identity": identity})
    return path


def load_best(folder: Path | str, encoder: Encoder) -> tuple[Encoder, LinearHead]:
    """The tuned encoder, LoRA merged, and the head of `save_best`; `encoder` is the one it started from.

    Raises:
        InputError: `encoder` is another one.
        CorruptCheckpoint: the file is damaged or not there.
    """
    path = Path(folder) / BEST
    tensors, description = checkpoints.read(path)
    identity = description["identity"]
    _check_identity(path, identity, identity | {"encoder": encoder.fingerprint})
    config = Configuration(SPACE, identity["number"], identity["params"], identity["seed"])
    tower = TrainableTower(encoder, tower_method(config), seed=0)
    with torch.no_grad():
        for name, parameter in tower.trained.items():
            parameter.copy_(tensors[f"tower.{name}"])
    arrays = {name.removeprefix(_HEAD): t.numpy() for name, t in tensors.items() if name.startswith(_HEAD)}
    return tower.into_encoder(), LinearHead.from_tensors(arrays)


def _check_identity(path: Path, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    for name, wanted in expected.items():
        if found.get(name) == wanted:
            continue
        if name == "encoder":
            raise InputError(
                f"{path}: it was trained on another encoder (fingerprint {found[name][:12]}, here "
                f"{wanted[:12]}); give the encoder that the study started from"
            )
        if name == "data":
            raise InputError(
                f"{path}: it was trained on other images, other values of the labels or another split; "
                "resume the study it belongs to, or remove it"
            )
        raise InputError(
            f"{path}: {name} must be {wanted}, as in this trial, not {found.get(name)}; "
            "resume the study it belongs to, or remove it"
        )
