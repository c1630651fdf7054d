"""Fit one fold: every head of a bank from its first step to its end, on the images of that fold.

Shape legend: M held-out images, E coordinates with the bias, C labels, K heads of a stack, P of them that are
evaluated.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from search_spaces.configuration import Configuration
from trainables.bank_fold import BankFold
from trainables.head_stack import HeadStack
from trainables.stopping import Ending, Point, Stopping


@dataclass(frozen=True, eq=False)
class Kept:
    """A head as it was at the evaluation that is kept."""

    point: Point
    weight_CE: np.ndarray
    """float32."""
    logits_MC: np.ndarray
    """float32, on the fold's held-out images."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FoldFit:
    """One configuration on one fold, as far as it is trained."""

    config: Configuration
    curve: tuple[Point, ...] = ()
    kept: Kept | None = None
    """None where it was not evaluated yet, or diverged."""
    ending: Ending | None = None
    """None while it trains, and where the deadline cut it off."""
    seconds: float = 0.0


def fit_fold(configs: Sequence[Configuration], fold: BankFold, stopping: Stopping) -> list[FoldFit]:
    """Train the heads until each has ended, or the bank's deadline has passed.

    Args:
        configs: of the configurations that `fold` was prepared for.
        stopping: when they are evaluated and end.

    Returns:
        one fit per configuration, in their order; without `ending` those that the deadline cut off.
    """
    fits = [FoldFit(config=config) for config in configs]
    stacks = fold.stacks(configs)
    epoch = 0
    while stacks:
        epoch += 1
        batches = fold.batches(epoch)
        for stack in stacks:
            started = time.perf_counter()
            rate_K11 = stack.rates(epoch)
            for index_B in batches:
                targets_BC = fold.targets(index_B)
                stack.step(fold.train_NE, index_B, targets_BC, rate_K11, fold.bank.training.clip_norm)
            _evaluate(stack, epoch, rate_K11, fold, stopping, fits)
            share = (time.perf_counter() - started) / len(stack.places)
            for place in stack.places:
                fits[place] = replace(fits[place], seconds=fits[place].seconds + share)
            # A head that has ended costs nothing from here on.
            stack.keep([k for k, place in enumerate(stack.places) if fits[place].ending is None])
        stacks = [stack for stack in stacks if stack.places]
        if time.time() >= fold.bank.deadline:
            break
    return fits


def _evaluate(
    stack: HeadStack, epoch: int, rate_K11: Tensor, fold: BankFold, stopping: Stopping, fits: list[FoldFit]
) -> None:
    """Evaluate the heads that are due, and find those that have diverged; their fits are replaced."""
    due = [k for k, config in enumerate(stack.configs) if stopping.due(epoch, config["epochs"])]
    logits_PMC = fold.logits(stack, due)
    finite_K = stack.weight_KCE.isfinite().all(-1).all(-1)
    finite_K[due] &= logits_PMC.isfinite().all(-1).all(-1)
    sound_K = finite_K.tolist()
    for k, place in enumerate(stack.places):
        if not sound_K[k]:
            reason = f"diverged in epoch {epoch} at learning rate {rate_K11[k].item():.3g}"
            fits[place] = replace(fits[place], kept=None, ending=Ending(epoch, "FAIL", reason))
    sound = [p for p, k in enumerate(due) if sound_K[k]]
    if not sound:
        return
    due, logits_PMC = [due[p] for p in sound], logits_PMC[sound]
    points = fold.points(stack, due, logits_PMC, epoch)
    for point, k, logits_MC in zip(points, due, logits_PMC.cpu().numpy(), strict=True):
        place = stack.places[k]
        fits[place] = _evaluated(fits[place], point, stack.weight_KCE[k], logits_MC, stopping)


def _evaluated(
    fit: FoldFit, point: Point, weight_CE: Tensor, logits_MC: np.ndarray, stopping: Stopping
) -> FoldFit:
    """The fit with one more evaluation."""
    curve, kept = (*fit.curve, point), fit.kept
    if stopping.kept(curve) == len(curve) - 1:
        kept = Kept(point, weight_CE.cpu().numpy().copy(), logits_MC)
    return replace(fit, curve=curve, kept=kept, ending=stopping.ending(curve, fit.config["epochs"]))
