"""Averages of tuned towers: model soups, and the way back to the pretrained one.

Towers that were tuned from the same weights lie in one basin often enough for their average to be better than
any of them (Wortsman et al., "Model soups", ICML 2022), and the line from the pretrained tower to a tuned one
passes through better ones than its ends (Wortsman et al., "Robust fine-tuning of zero-shot models", WiSE-FT,
CVPR 2022).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from trainables.records import TrialRecord

State = Mapping[str, Tensor]
"""Parameters and buffers of a tower by name."""


def averaged(states: Sequence[State]) -> dict[str, Tensor]:
    """The mean of each tensor, in its dtype; what is not a floating-point number is taken from the first."""
    first, *_ = states
    return {
        name: torch.stack([state[name].double() for state in states]).mean(0).to(tensor.dtype)
        if tensor.is_floating_point()
        else tensor.clone()
        for name, tensor in first.items()
    }


def interpolated(start: State, end: State, share: float) -> dict[str, Tensor]:
    """(1 - share) x start + share x end of each tensor: 0 is `start` to the bit, 1 is `end`."""
    return {
        name: torch.lerp(start[name].double(), tensor.double(), share).to(tensor.dtype)
        if tensor.is_floating_point()
        else tensor.clone()
        for name, tensor in end.items()
    }


def greedy_soup(
    states: Sequence[State], judge: Callable[[State], TrialRecord]
) -> tuple[list[int], TrialRecord]:
    """Which towers are averaged, and what `judge` says of their average ("Model soups", recipe 1).

    Each joins in its turn where the average is then no worse, so that the last one judged best is never worse
    than the first tower alone.

    Args:
        states: the best first; at least one.
        judge: of a higher objective is better; called once for the first, then once for each that might join.
    """
    members, reached = [0], judge(states[0])
    for k in range(1, len(states)):
        joined = judge(averaged([states[member] for member in (*members, k)]))
        if joined.objective >= reached.objective:
            members, reached = [*members, k], joined
    return members, reached
