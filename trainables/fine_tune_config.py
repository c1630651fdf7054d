"""What a fine-tuning trial is given: its configuration in the tower's terms, and how all trials are trained.

Imports nothing of weight, so that a study file can be checked against it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from search_spaces.configuration import Configuration


@dataclass(frozen=True, kw_only=True)
class Method:
    """What is trained of a tower, with what the method needs to know; see `trainables.tower`."""

    name: str
    """full, lora, last_blocks or bitfit."""
    last_blocks: int = 0
    """Of last_blocks only: how many."""
    lora_rank: int = 0
    """Of lora only, like the rest: the rank of an addition."""
    lora_alpha: float = 0.0
    """The addition is multiplied by alpha / rank."""
    lora_dropout: float = 0.0
    """Dropout before the addition."""
    lora_targets: str = ""
    """Kinds of layers (`vlm.towers.base.LORA_KINDS`) or names of layers, joined by +; those inside the
    blocks are meant."""


def tower_method(config: Configuration) -> Method:
    """The method of a configuration of the space `search_spaces.fine_tune`."""
    own = ("last_blocks", "lora_rank", "lora_alpha", "lora_dropout", "lora_targets")
    given = {name: config[name] for name in own if name in config.params}
    return Method(name=config["method"], **given)


def tower_rate(config: Configuration) -> float:
    """Greatest step of the trained parameters of the tower's top layer: each method has one of the two."""
    adapters = config.get("adapter_learning_rate", None)
    return config["tower_learning_rate"] if adapters is None else adapters


@dataclass(frozen=True, kw_only=True)
class Training:
    """How every trial of a study is trained, whatever its configuration; ValueError for nonsense."""

    batch_size: int = 32
    """Images a step, however few of them the memory takes at once; the last step of an epoch takes what is
    left."""
    best_by: str = "objective"
    """What the kept epoch is the best of: objective, or loss for the lowest validation loss
    (`trainables.losses.plain_loss`)."""
    patience: int | None = 3
    """Epochs without a better one after which a trial ends; None: never."""
    schedule: str = "cosine"
    """cosine: up to the learning rate over `warm_up`, then down to 0, by step; or constant."""
    warm_up: float = 0.1
    """Share of all steps, under cosine."""
    clip_norm: float | None = 1.0
    """Greatest Euclidean norm of the gradient; None: not clipped."""
    fresh_optimizer: bool = False
    """A new AdamW every epoch: its moments and their bias correction start anew."""
    horizontal_flip: bool = False
    """Mirror every other training image; see `trainables.augmentation` for why not."""

    def __post_init__(self) -> None:
        for name, choices in (
            ("best_by", ("objective", "loss")),
            ("schedule", ("cosine", "constant")),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, not {getattr(self, name)!r}")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {self.batch_size}")
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"patience must be at least 1 or None, not {self.patience}")
        if not 0 <= self.warm_up < 1:
            raise ValueError(f"warm_up must be a share from 0 to below 1, not {self.warm_up}")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ValueError(f"clip_norm must be positive or None, not {self.clip_norm}")


PAPER_TRAINING = Training(
    batch_size=24, best_by="loss", patience=5, schedule="constant", clip_norm=None, fresh_optimizer=True
)
"""How Sadman et al. (arXiv 2506.14136) fine-tune: their notebook builds optimiser and schedule anew every
epoch, in effect a constant rate, and stops by validation BCE. With `search_spaces.fine_tune.PAPER`."""


def training_of(preset: str, training: Training) -> Training:
    """How a configuration is trained: a published one as published, others as the study says."""
    return PAPER_TRAINING if preset == "paper" else training


def learning_rate_factor(step: int, steps: int, training: Training) -> float:
    """The share of the learning rate in step `step` of `steps`, counted from 0.

    With w = round(warm_up * steps): (step + 1) / (w + 1) in the first w steps, then half a cosine from 1
    (Loshchilov and Hutter, ICLR 2017, eq. 5), which would reach 0 one step after the last.
    """
    if training.schedule == "constant":
        return 1.0
    warm_up = round(training.warm_up * steps)
    if step < warm_up:
        return (step + 1) / (warm_up + 1)
    return 0.5 + 0.5 * math.cos(math.pi * (step - warm_up) / (steps - warm_up))
