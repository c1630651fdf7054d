"""How the heads of a bank are trained, whatever they are: the study's way, and the published one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from search_spaces.linear_probe import PAPER

RUNGS = (5, 10, 20, 40)
"""Epochs after which validation is looked at and a lagging head may be stopped."""


@dataclass(frozen=True, kw_only=True)
class BankTraining:
    """How all heads of a bank are trained, whatever their configurations; ValueError for nonsense."""

    batch_size: int = 256
    """Images a step; the last step of an epoch takes what is left."""
    rungs: Sequence[int] = RUNGS
    """Epochs after which validation is looked at. A head is also judged after its own last epoch."""
    patience: int | None = None
    """Evaluations without a better one after which a head ends, as COMPLETE; None: never."""
    best_by: str = "objective"
    """What the best evaluation is the best of, for `patience` and for the weights that are kept: objective,
    or loss for the lowest validation loss (`trainables.losses.plain_loss`)."""
    clip_norm: float | None = 1.0
    """Greatest Euclidean norm of a head's gradient; None: not clipped."""
    initial_weights: str = "zeros"
    """zeros, or xavier for Xavier-uniform, see `trainables.head_stack.initial_weights`."""
    raced: bool = True
    """Whether heads that lag behind others are stopped, at rungs and between folds."""
    on_given_split: bool = False
    """Whether heads are judged on the given validation split even where the study judges by folds."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {self.batch_size}")
        if any(rung < 1 for rung in self.rungs):
            raise ValueError(f"rungs must be epochs from 1, not {tuple(self.rungs)}")
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"patience must be at least 1 or None, not {self.patience}")
        if self.best_by not in ("objective", "loss"):
            raise ValueError(f"best_by must be objective or loss, not {self.best_by!r}")
        if self.initial_weights not in ("zeros", "xavier"):
            raise ValueError(f"initial_weights must be zeros or xavier, not {self.initial_weights!r}")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ValueError(f"clip_norm must be positive or None, not {self.clip_norm}")


PAPER_TRAINING = BankTraining(
    batch_size=24,
    rungs=tuple(range(1, PAPER["epochs"] + 1)),
    patience=5,
    best_by="loss",
    clip_norm=None,
    initial_weights="xavier",
    raced=False,
    on_given_split=True,
)
"""Of the paper's configuration (arXiv 2506.14136): batch 24, initial weights drawn at random, and after every
epoch an evaluation of the validation loss, which chooses the weights and ends training after five without
gain."""


def training_of(preset: str, batch_size: int) -> BankTraining:
    """How a configuration is trained: a published one as published, whatever the study's batch size."""
    return PAPER_TRAINING if preset == "paper" else BankTraining(batch_size=batch_size)
