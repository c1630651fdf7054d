"""What a fine-tuning trial is told: its own configuration, and how all trials of its study are trained."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scoring.judging import OBJECTIVES
from search_spaces.configuration import Configuration
from search_spaces.fine_tune import SPACE
from trainables.tower import Method


@dataclass(frozen=True, kw_only=True)
class FineTuneConfig(Configuration):
    """One configuration of the space `search_spaces.fine_tune`.

    Its number and seed key the initial weights, the distortions and the dropout.
    """

    space = SPACE

    method: str
    """full, lora, last_blocks or bitfit; see `trainables.tower`."""
    tower_learning_rate: float = 0.0
    """Greatest step of the tower's top layer, under full and last_blocks."""
    adapter_learning_rate: float = 0.0
    """Greatest step of the tower's trained parameters under lora and bitfit."""
    head_learning_rate: float
    layer_decay: float = 1.0
    """Learning rate of a layer, in that of the layer above it; under full and last_blocks."""
    last_blocks: int = 0
    lora_rank: int = 0
    lora_alpha: float = 0.0
    lora_dropout: float = 0.0
    lora_targets: str = ""
    weight_decay: float
    """Decoupled decay of weights, not of biases, norms and embeddings."""
    epochs: int
    """Passes over the training images."""
    loss: str
    """bce, focal or asymmetric."""
    focal_gamma: float = 0.0
    asymmetric_gamma_negative: float = 0.0
    asymmetric_gamma_positive: float = 0.0
    asymmetric_clip: float = 0.0
    positive_weight: float
    """Exponent in [0, 1] of (negatives / positives), the weight of a positive entry."""
    ema_decay: float
    """Decay a step of the running mean of the weights that is judged and kept; 0: the weights themselves."""
    augmentation: float
    """Strength in [0, 1] of `trainables.augmentation.STRONGEST`."""
    init_head: str
    """probe or fresh."""
    threshold_shrinkage: float
    """Strength of the threshold strategy `shrunk`."""

    @property
    def rate(self) -> float:
        """Greatest step of the trained parameters of the tower's top layer."""
        own = "tower_learning_rate" if "tower_learning_rate" in self.params else "adapter_learning_rate"
        return getattr(self, own)

    @property
    def tower_method(self) -> Method:
        return Method(
            name=self.method,
            last_blocks=self.last_blocks,
            lora_rank=self.lora_rank,
            lora_alpha=self.lora_alpha,
            lora_dropout=self.lora_dropout,
            lora_targets=self.lora_targets,
        )


@dataclass(frozen=True, kw_only=True)
class Training:
    """How every trial of a study is trained, whatever its configuration; ValueError for nonsense."""

    batch_size: int = 32
    """Images a step, however few of them the memory takes at once; the last step of an epoch takes what is
    left."""
    objective: str = "macro_ap"
    """macro_ap, macro_auroc or macro_f1 (cross-fitted, of the best threshold strategy) on validation."""
    best_by: str = "objective"
    """What the kept epoch is the best of: objective, or loss for the lowest validation BCE."""
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
            ("objective", OBJECTIVES),
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
