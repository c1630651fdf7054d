"""Heads on their way through a fold, stacked so that they share their matrix products.

Shape legend: N images, M of them judged, B images of a minibatch, R coordinates of their features
(`trainables.fold_features`), E = R + 1 (the bias is the weight of a last coordinate that is always 1), C
labels, K heads still in training, P of them that are looked at.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from search_spaces.configuration import Configuration
from trainables.bank_training import BankTraining
from trainables.fold_features import fold_features
from trainables.initial_weights import xavier_uniform
from trainables.losses import LOSSES, BankLoss
from trainables.racing import CONTENDERS
from trainables.trial_data import ProbeData
from vlm.linear_head import LinearHead

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # AdamW's own defaults, as in the paper
# What a random generator is for: streams of one seed and one index stay apart.
WEIGHTS, ORDER, GLANCE = range(3)


def group_of(config: Configuration) -> tuple[str, str]:
    """Kind and normalisation of its features: heads alike in both share a product."""
    return config["features"], config.get("normalisation", "standardize")


class GroupFeatures:
    """The features of one group in one fold, with a last column of ones."""

    def __init__(self, data: ProbeData, fold: int, group: tuple[str, str], device: str) -> None:
        self._seen = fold_features(data, fold, *group)
        seen = self._seen
        self.train_NE = _with_ones(seen.training(data.training_N(fold))).to(device)
        """Of all views of each image."""
        self.val_NE = _with_ones(seen.x_NR[data.judged_N(fold)]).to(device)
        """Of the mean of an image's views."""

    def anchor(self, text_CD: np.ndarray) -> np.ndarray:
        """float32 (C, E): weights whose logits point along the text, with deviation 1 on the training rows,
        and bias 0."""
        weight_RC = self._seen.direction(text_CD.T)
        deviation_C = (self.train_NE[:, :-1].cpu().numpy() @ weight_RC).std(axis=0)
        anchor_CE = np.zeros((len(text_CD), len(weight_RC) + 1), np.float32)
        anchor_CE[:, :-1] = (weight_RC / np.maximum(deviation_C, 1e-12)).T
        return anchor_CE

    def head(self, weight_CE: np.ndarray) -> LinearHead:
        return self._seen.head(np.ascontiguousarray(weight_CE[:, :-1].T), weight_CE[:, -1])


def _with_ones(x_NR: np.ndarray) -> Tensor:
    """(N, E): a last column of ones."""
    x_NE = np.ones((len(x_NR), x_NR.shape[1] + 1), np.float32)
    x_NE[:, :-1] = x_NR
    return torch.from_numpy(x_NE)


@dataclass(eq=False)
class Head:
    """One configuration on its way: what it is, and what became of it so far."""

    config: Configuration
    state: str = "COMPLETE"
    reason: str = ""
    done: bool = False
    """With the fold that is trained."""
    curve: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    score: float = -math.inf
    waited: int = 0
    """Evaluations since the best one."""
    best: dict[str, float] = field(default_factory=dict)
    """The curve's entry of the best evaluation, in cross-validation of the last one of a fold."""
    weight_CE: np.ndarray | None = None
    logits_MC: np.ndarray | None = None
    """On the fold's held-out images, at that evaluation."""
    folds: list[LinearHead] = field(default_factory=list)
    """The heads of the folds that are through."""
    fold_objectives: list[float] = field(default_factory=list)
    held_out_MC: np.ndarray | None = None
    """Of all judged images, as far as their folds are through."""

    @property
    def out(self) -> bool:
        """Whether it trains on no further fold."""
        return self.state != "COMPLETE"

    def initial_weights(self, coordinates: int, labels: int) -> np.ndarray:
        """weight_CE, float32: zeros, from which a loss that is all but convex descends as well as from
        anywhere and has nothing to forget; a published configuration as published, Xavier-uniform and
        bias 0."""
        weight_CE = np.zeros((labels, coordinates + 1), np.float32)
        if self.config.preset:
            key = (self.config.seed, WEIGHTS, self.config.number)
            weight_CE[:, :-1] = xavier_uniform(coordinates, labels, key)
        return weight_CE

    def begin_fold(self) -> None:
        self.done, self.score, self.waited, self.best = False, -math.inf, 0, {}
        self.weight_CE = self.logits_MC = None

    def diverge(self, epoch: int, rate: float) -> None:
        self.state, self.done = "FAIL", True
        self.reason = f"diverged in epoch {epoch} at learning rate {rate:.3g}"
        self.best = {"epoch": epoch, "objective": math.nan}
        self.weight_CE = self.logits_MC = None

    def look(
        self,
        point: dict[str, float],
        weight_CE: Tensor,
        logits_MC: np.ndarray,
        training: BankTraining,
        floor: float,
        *,
        keep_last: bool,
    ) -> None:
        """Notes one evaluation, keeps it if it is the best or with `keep_last` the last one, and decides
        whether the head goes on."""
        epoch, value = int(point["epoch"]), point["objective"]
        last = epoch == self.config["epochs"]
        score = value if training.best_by == "objective" else -point["val_loss"]
        self.waited += 1
        if keep_last or score > self.score:
            self.score, self.waited, self.best = score, 0, point
            self.weight_CE, self.logits_MC = weight_CE.cpu().numpy().copy(), logits_MC
        if last:
            self.done = True
        elif value < floor:
            self.done, self.state = True, "PRUNED"
            self.reason = f"objective {value:.4f} after epoch {epoch} is below the floor {floor:.4f}"
        elif training.patience is not None and self.waited >= training.patience:
            self.done = True
            self.reason = (
                f"no better {training.best_by} in {training.patience} evaluations up to epoch {epoch}"
            )

    def fall_behind(self) -> None:
        """After a fold: the ensemble has no use for it."""
        self.state = "PRUNED"
        folds = len(self.fold_objectives)
        self.reason = (
            f"mean objective {np.nanmean(self.fold_objectives):.4f} over {folds} fold{'s' * (folds > 1)} is "
            f"behind that of the best {CONTENDERS}"
        )


class HeadStack:
    """The heads still in training: weights, AdamW moments and settings, one entry a head in each tensor.

    All read equally many coordinates. Heads of one group are neighbours, so that they share a product, and
    among them heads of one loss.
    """

    def __init__(
        self,
        heads: Sequence[Head],
        coordinates: int,
        targets_NC: Tensor,
        anchors: Mapping[tuple[str, str], np.ndarray],
    ) -> None:
        """
        Args:
            heads: one at least.
            coordinates: R.
            targets_NC: those that are trained on, 0, 1 or NaN.
            anchors: of each group with heads that have one, float32 (C, E).
        """
        self.heads = sorted(
            heads, key=lambda head: (group_of(head.config), list(LOSSES).index(head.config["loss"]))
        )
        weights = [head.initial_weights(coordinates, targets_NC.shape[1]) for head in self.heads]
        self.weight_KCE = torch.from_numpy(np.stack(weights)).to(targets_NC.device)
        self.anchor_KCE = torch.zeros_like(self.weight_KCE)
        for k, head in enumerate(self.heads):
            if (strength := head.config.get("anchor_strength", 0.0)) > 0:
                anchor_CE = torch.from_numpy(anchors[group_of(head.config)] * np.float32(strength))
                self.anchor_KCE[k] = anchor_CE
                self.weight_KCE[k] += anchor_CE.to(self.weight_KCE.device)
        self.first_KCE, self.second_KCE = torch.zeros_like(self.weight_KCE), torch.zeros_like(self.weight_KCE)
        self.steps = 0
        self.loss = BankLoss.of([head.config for head in self.heads], targets_NC)
        self._lay_out()

    def drop_done(self) -> None:
        """Takes the heads that are done with the fold out of every tensor: they cost nothing from here on."""
        places = [k for k, head in enumerate(self.heads) if not head.done]
        if len(places) == len(self.heads):
            return
        self.heads = [self.heads[k] for k in places]
        self.weight_KCE, self.first_KCE, self.second_KCE, self.anchor_KCE = (
            stacked_KCE[places]
            for stacked_KCE in (self.weight_KCE, self.first_KCE, self.second_KCE, self.anchor_KCE)
        )
        self.loss = self.loss.select(places)
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
        self.runs: list[tuple[tuple[str, str], slice]] = []  # a group, its rows of the (K * C)
        for group, run in groupby(range(len(self.heads)), key=lambda k: group_of(self.heads[k].config)):
            places = list(run)
            self.runs.append((group, slice(places[0] * labels, (places[-1] + 1) * labels)))

    def _setting(self, name: str) -> Tensor:
        values = [float(head.config[name]) for head in self.heads]
        return torch.tensor(values, device=self.weight_KCE.device)

    def rates(self, epoch: int) -> Tensor:
        """rate_K11 in this epoch (counted from 1): down a cosine over each head's own epochs."""
        return self.rate_K11 * (0.5 + 0.5 * torch.cos((epoch - 1) / self.epochs_K11 * math.pi))

    def step(
        self,
        features: Mapping[tuple[str, str], GroupFeatures],
        index_B: Tensor,
        targets_BC: Tensor,
        rate_K11: Tensor,
        clip_norm: float | None,
    ) -> None:
        """One AdamW step of every head on the training images `index_B`."""
        K, C, E = self.weight_KCE.shape
        B = len(index_B)
        inputs = [features[group].train_NE.index_select(0, index_B) for group, _ in self.runs]
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

    def logits(self, rows_NE: Mapping[tuple[str, str], Tensor], places: list[int]) -> Tensor:
        """logits_PNC of the heads at these P places; P may be 0."""
        images = len(next(iter(rows_NE.values())))
        logits_PNC = self.weight_KCE.new_empty(len(places), images, self.weight_KCE.shape[1])
        for logits_NC, k in zip(logits_PNC, places, strict=True):
            torch.mm(rows_NE[group_of(self.heads[k].config)], self.weight_KCE[k].T, out=logits_NC)
        return logits_PNC
