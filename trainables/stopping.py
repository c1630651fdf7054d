"""When a head ends within a fold, and which of its evaluations is kept."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Point = Mapping[str, float]
"""One evaluation of a head, an entry of its curve: epoch, train_loss, val_loss, objective."""


@dataclass(frozen=True)
class Ending:
    """How a head ended."""

    epoch: int
    """The last one that it trained."""
    state: str = "COMPLETE"
    """COMPLETE, PRUNED or FAIL."""
    reason: str = ""
    """Why it did not complete, or stopped early; empty otherwise."""


@dataclass(frozen=True, kw_only=True)
class Stopping:
    """The policy of one fold; by default a head is evaluated once, after its last epoch."""

    rungs: Sequence[int] = ()
    """Further epochs after which heads are evaluated."""
    prune_below: Mapping[int, float] = field(default_factory=dict)
    """Rung -> objective below which a head with epochs left ends as PRUNED."""
    patience: int | None = None
    """Evaluations without a better one after which a head ends as COMPLETE; None: never."""
    best_by: str = "objective"
    """What the kept evaluation is the best of: objective, or loss for the lowest validation loss."""
    keep_last: bool = False
    """Keep the last evaluation in place of the best."""

    def due(self, epoch: int, epochs: int) -> bool:
        """Whether a head of so many epochs is evaluated after this one."""
        return epoch == epochs or epoch in self.rungs

    def kept(self, curve: Sequence[Point]) -> int | None:
        """Place of the evaluation that is kept, the first of equally good ones; None where none has a
        score."""
        if self.keep_last:
            return len(curve) - 1
        best, greatest = None, -math.inf
        for place, point in enumerate(curve):
            score = point["objective"] if self.best_by == "objective" else -point["val_loss"]
            if score > greatest:
                best, greatest = place, score
        return best

    def ending(self, curve: Sequence[Point], epochs: int) -> Ending | None:
        """How a head of so many epochs ends with the last evaluation of its curve; None: it goes on."""
        epoch, value = int(curve[-1]["epoch"]), curve[-1]["objective"]
        floor = self.prune_below.get(epoch, -math.inf)
        if epoch == epochs:
            return Ending(epoch)
        if value < floor:
            reason = f"objective {value:.4f} after epoch {epoch} is below the floor {floor:.4f}"
            return Ending(epoch, "PRUNED", reason)
        best = self.kept(curve)
        without_gain = len(curve) - 1 - (-1 if best is None else best)
        if self.patience is not None and without_gain >= self.patience:
            reason = f"no better {self.best_by} in {self.patience} evaluations up to epoch {epoch}"
            return Ending(epoch, reason=reason)
        return None
