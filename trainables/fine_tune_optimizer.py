"""The optimiser of a fine-tuning trial, and the running means of its weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from search_spaces.configuration import Configuration
from trainables.fine_tune_compute import OutOfMemory
from trainables.fine_tune_config import tower_rate
from trainables.fine_tune_model import FineTuneModel
from trainables.fine_tune_state import TrainingState


def new_optimizer(config: Configuration, model: FineTuneModel) -> torch.optim.AdamW:
    """AdamW with a group for each rate and decay: the tower's from the top down, then the head's."""
    tower = model.tower
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name in sorted(tower.trained, key=lambda name: -tower.layer[name]):
        below_top = tower.top_layer - tower.layer[name]
        rate = tower_rate(config) * config.get("layer_decay", 1.0) ** below_top
        decay = config["weight_decay"] if tower.decays(name) else 0.0
        groups.setdefault((rate, decay), []).append(tower.trained[name])
    settings = [(parameters, rate, decay) for (rate, decay), parameters in groups.items()]
    settings.append(([model.head.weight_DC], config["head_learning_rate"], config["weight_decay"]))
    settings.append(([model.head.bias_C], config["head_learning_rate"], 0.0))
    return torch.optim.AdamW(
        [
            {"params": parameters, "lr": rate, "greatest_lr": rate, "weight_decay": decay}
            for parameters, rate, decay in settings
        ],
        fused=model.device.type in ("cpu", "cuda"),
    )


def update(state: TrainingState, clip_norm: float | None) -> None:
    """One AdamW step along the gradients that lie in the parameters; OutOfMemory."""
    if clip_norm is not None:
        state.scaler.unscale_(state.optimizer)
        nn.utils.clip_grad_norm_(state.parameters.values(), clip_norm)
    try:
        state.scaler.step(state.optimizer)
    except torch.OutOfMemoryError:
        device = state.head.bias_C.device
        raise OutOfMemory(
            f"out of memory: AdamW's moments of {state.trained_parameters:,} parameters do not fit beside "
            f"them on {device}; run fewer trials on it, or train lora, bitfit or last_blocks"
        ) from None
    state.scaler.update()


def update_averages(state: TrainingState, ema_decay: float, position: int) -> None:
    """One step of the running means, where there are any, after step `position` of the training, from 0."""
    if state.averages is None:
        return
    # In the first steps the mean is over the steps there were (as in TensorFlow's
    # ExponentialMovingAverage), so that the initial weights do not linger.
    average = get_ema_multi_avg_fn(min(ema_decay, (1 + position) / (10 + position)))
    average(list(state.averages.values()), list(state.parameters.values()), None)


@contextmanager
def averaged(state: TrainingState) -> Iterator[None]:
    """The running means, where there are any, in place of the weights."""
    if state.averages is None:
        yield
        return
    current = {name: parameter.data for name, parameter in state.parameters.items()}
    try:
        for name, parameter in state.parameters.items():
            parameter.data = state.averages[name]
        yield
    finally:
        for name, parameter in state.parameters.items():
            parameter.data = current[name]
