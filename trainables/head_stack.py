"""Heads on their way through a fold, stacked so that they share their matrix products.

Shape legend: N images, B images of a minibatch, D coordinates of their features (`trainables.fold_features`),
E = D + 1 (the bias is the weight of a last coordinate that is always 1), C labels, K heads still in training,
P of them that are evaluated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from search_spaces.configuration import Configuration
from trainables.initial_weights import xavier_uniform
from trainables.losses import LOSSES, BankLoss

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # AdamW's own defaults, as in the paper
# What a random generator is for: streams of one seed and one index stay apart.
WEIGHTS, ORDER, GLANCE = range(3)


Group = tuple[str, str]
"""Kind and normalisation of features."""


def group_of(config: Configuration) -> Group:
    """Of the features that a head reads: heads of one group share a product."""
    return config["features"], config.get("normalisation", "standardize")


def initial_weights(config: Configuration, coordinates: int, labels: int, start: str) -> np.ndarray:
    """weight_CE, float32, with bias 0: `zeros`, from which a loss that is all but convex descends as well as
    from anywhere and has nothing to forget, or `xavier` for Xavier-uniform."""
    weight_CE = np.zeros((labels, coordinates + 1), np.float32)
    if start == "xavier":
        weight_CE[:, :-1] = xavier_uniform(coordinates, labels, (config.seed, WEIGHTS, config.number))
    return weight_CE


class HeadStack:
    """The heads still in training: weights, AdamW moments and settings, one entry per head in each tensor.

    All read equally many coordinates. Heads of one group are neighbours, so that they share a product, and
    among them heads of one loss.
    """

    def __init__(
        self,
        heads: Mapping[int, Configuration],
        coordinates: int,
        targets_NC: Tensor,
        anchors: Mapping[Group, np.ndarray],
        start: str,
    ) -> None:
        """
        Args:
            heads: one at least, by their place in the bank.
            coordinates: D.
            targets_NC: those that are trained on, 0, 1 or NaN.
            anchors: of each group with heads that have one, float32 (C, E).
            start: where weights begin, see `initial_weights`.
        """
        ordered = sorted(
            heads.items(), key=lambda head: (group_of(head[1]), list(LOSSES).index(head[1]["loss"]))
        )
        self.places, self.configs = [place for place, _ in ordered], [config for _, config in ordered]
        weights = [initial_weights(one, coordinates, targets_NC.shape[1], start) for one in self.configs]
        self.weight_KCE = torch.from_numpy(np.stack(weights)).to(targets_NC.device)
        self.anchor_KCE = torch.zeros_like(self.weight_KCE)
        for k, config in enumerate(self.configs):
            if (strength := config.get("anchor_strength", 0.0)) > 0:
                anchor_CE = torch.from_numpy(anchors[group_of(config)] * np.float32(strength))
                self.anchor_KCE[k] = anchor_CE
                self.weight_KCE[k] += anchor_CE.to(self.weight_KCE.device)
        self.first_KCE, self.second_KCE = torch.zeros_like(self.weight_KCE), torch.zeros_like(self.weight_KCE)
        self.steps = 0
        self.loss = BankLoss.of(self.configs, targets_NC)
        self._lay_out()

    def keep(self, heads: list[int]) -> None:
        """Takes every head but these out of every tensor."""
        if len(heads) == len(self.places):
            return
        self.places, self.configs = [self.places[k] for k in heads], [self.configs[k] for k in heads]
        self.weight_KCE, self.first_KCE, self.second_KCE, self.anchor_KCE = (
            stacked_KCE[heads]
            for stacked_KCE in (self.weight_KCE, self.first_KCE, self.second_KCE, self.anchor_KCE)
        )
        self.loss = self.loss.select(heads)
        self._lay_out()

    def _lay_out(self) -> None:
        """What follows from which heads there are."""
        self.gradient_KCE = torch.empty_like(self.weight_KCE)
        self.scratch_KCE = torch.empty_like(self.weight_KCE)
        self.rate_K11 = self._setting("learning_rate")[:, None, None]
        self.decay_K11 = self._setting("weight_decay")[:, None, None]
        self.epochs_K11 = self._setting("epochs")[:, None, None]
        labels = self.weight_KCE.shape[1]
        # A head's loss is the mean of its labels' losses, and so is its penalty.
        self.penalty_K11 = self._setting("l2_penalty")[:, None, None] / labels
        self.anchored = bool(self.anchor_KCE.any())
        self.runs: list[tuple[Group, slice]] = []  # a group, its rows of the (K * C)
        for group, run in groupby(range(len(self.configs)), key=lambda k: group_of(self.configs[k])):
            heads = list(run)
            self.runs.append((group, slice(heads[0] * labels, (heads[-1] + 1) * labels)))

    def _setting(self, name: str) -> Tensor:
        values = [float(config[name]) for config in self.configs]
        return torch.tensor(values, device=self.weight_KCE.device)

    def rates(self, epoch: int) -> Tensor:
        """rate_K11 in this epoch (counted from 1): down a cosine over each head's own epochs."""
        return self.rate_K11 * (0.5 + 0.5 * torch.cos((epoch - 1) / self.epochs_K11 * math.pi))

    def step(
        self,
        rows_NE: Mapping[Group, Tensor],
        index_B: Tensor,
        targets_BC: Tensor,
        rate_K11: Tensor,
        clip_norm: float | None,
    ) -> None:
        """One AdamW step of every head on the images `index_B` of the training rows."""
        K, C, E = self.weight_KCE.shape
        B = len(index_B)
        inputs = [rows_NE[group].index_select(0, index_B) for group, _ in self.runs]
        logits_KCB = self.weight_KCE.new_empty(K, C, B)
        for (_, rows), x_BE in zip(self.runs, inputs, strict=True):
            torch.mm(self.weight_KCE.view(K * C, E)[rows], x_BE.T, out=logits_KCB.view(K * C, B)[rows])
        slope_KBC = self.loss.gradient(logits_KCB.transpose(1, 2), targets_BC)
        slope_KCB = slope_KBC.transpose(1, 2).contiguous()
        for (_, rows), x_BE in zip(self.runs, inputs, strict=True):
            torch.mm(slope_KCB.view(K * C, B)[rows], x_BE, out=self.gradient_KCE.view(K * C, E)[rows])
        weight_KCD = self.weight_KCE[..., :-1]  # without the bias
        anchor_KCD = self.anchor_KCE[..., :-1]
        self.gradient_KCE[..., :-1].addcmul_(weight_KCD, self.penalty_K11)
        if self.anchored:
            self.gradient_KCE[..., :-1].addcmul_(anchor_KCD, -self.penalty_K11)

        if clip_norm is not None:
            norm_K11 = torch.linalg.vector_norm(self.gradient_KCE, dim=(1, 2), keepdim=True)
            self.gradient_KCE.mul_((clip_norm / (norm_K11 + 1e-6)).clamp_(max=1))
        # AdamW (Loshchilov and Hutter, ICLR 2019, algorithm 2), its bias corrections moved into two scalars.
        self.steps += 1
        correction1, correction2 = 1 - BETA1**self.steps, math.sqrt(1 - BETA2**self.steps)
        kept_K11 = (1 - rate_K11 * self.decay_K11).clamp_(min=0)  # past 0 it would oscillate
        weight_KCD.mul_(kept_K11)
        if self.anchored:
            weight_KCD.addcmul_(anchor_KCD, 1 - kept_K11)
        self.first_KCE.lerp_(self.gradient_KCE, 1 - BETA1)
        self.second_KCE.mul_(BETA2).addcmul_(self.gradient_KCE, self.gradient_KCE, value=1 - BETA2)
        torch.sqrt(self.second_KCE, out=self.scratch_KCE).add_(EPSILON * correction2)
        torch.div(self.first_KCE, self.scratch_KCE, out=self.scratch_KCE)
        self.weight_KCE.addcmul_(self.scratch_KCE, rate_K11, value=-correction2 / correction1)

    def logits(self, rows_NE: Mapping[Group, Tensor], heads: list[int]) -> Tensor:
        """logits_PNC of these P heads of the stack; P may be 0."""
        images = len(next(iter(rows_NE.values())))
        logits_PNC = self.weight_KCE.new_empty(len(heads), images, self.weight_KCE.shape[1])
        for logits_NC, k in zip(logits_PNC, heads, strict=True):
            torch.mm(rows_NE[group_of(self.configs[k])], self.weight_KCE[k].T, out=logits_NC)
        return logits_PNC
