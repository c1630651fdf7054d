"""The linear probe: a bank of K heads trained at once on cached embeddings.

A head is a few thousand numbers, so one alone leaves the processor idle between its matrix products. A bank
stacks K of them and takes every step for all: one product forward, one back, one AdamW update. Nothing
passes from head to head: each has its own learning rate, decay, loss, length and initial weights, its own
gradient clip, and leaves the stack when it ends, lags behind or diverges. A bank of one is the same code.

Shape legend: N images of a split, B images of a minibatch, D features, E = D + 1 (the bias is the weight of
a last feature that is always 1), C labels, K heads still in training.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scoring.judging import OBJECTIVES, judge, objective
from search_spaces.configuration import Configuration
from search_spaces.linear_probe import PAPER, PARAMETERS
from trainables.losses import LOSSES, BankLoss, plain_loss
from trainables.records import TrialRecord, judged_fields
from trainables.trial_data import ProbeData
from vlm.linear_head import LinearHead, normalised, standardisation

NORMALISATIONS = PARAMETERS["normalisation"].search
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

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {self.batch_size}")
        if any(rung < 1 for rung in self.rungs):
            raise ValueError(f"rungs must be epochs from 1, not {tuple(self.rungs)}")
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"patience must be at least 1 or None, not {self.patience}")
        if self.best_by not in ("objective", "loss"):
            raise ValueError(f"best_by must be objective or loss, not {self.best_by!r}")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ValueError(f"clip_norm must be positive or None, not {self.clip_norm}")


PAPER_TRAINING = BankTraining(
    batch_size=24,
    rungs=tuple(range(1, PAPER["epochs"] + 1)),
    patience=5,
    best_by="loss",
    clip_norm=None,
)
"""Of the paper's configuration (arXiv 2506.14136): batch 24, and after every epoch a look at the validation
loss, which chooses the weights and ends training after five looks without gain."""


def training_of(preset: str, batch_size: int) -> BankTraining:
    """How a configuration is trained: a published one as published, whatever the study's batch size."""
    return PAPER_TRAINING if preset == "paper" else BankTraining(batch_size=batch_size)


BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # AdamW's own defaults, as in the paper
# What a random generator is for: streams of one seed and one index stay apart.
_WEIGHTS, _ORDER, _GLANCE = range(3)


# ---- the stack ----


class _Features:
    """The features under one normalisation, with a last column of ones."""

    def __init__(self, data: ProbeData, normalisation: str, device: str) -> None:
        train_ND = data.features_ND[data.training_N()]
        width = train_ND.shape[1]
        self.mean_D, self.scale_D = np.zeros(width, np.float32), np.ones(width, np.float32)
        self.l2 = normalisation == "l2"
        if normalisation in ("center", "standardize"):
            mean_D, scale_D = standardisation(train_ND, one_scale=normalisation == "center")
            self.mean_D, self.scale_D = mean_D.astype(np.float32), scale_D.astype(np.float32)
        self.train_NE = torch.from_numpy(self._normalised(train_ND)).to(device)
        self.val_NE = torch.from_numpy(self._normalised(data.features_ND[data.judged_N()])).to(device)

    def _normalised(self, features_ND: np.ndarray) -> np.ndarray:
        features_NE = np.ones((len(features_ND), features_ND.shape[1] + 1), np.float32)
        features_NE[:, :-1] = normalised(features_ND, self.mean_D, self.scale_D, l2=self.l2)
        return features_NE

    def head(self, weight_CE: np.ndarray) -> LinearHead:
        return LinearHead(
            weight_DC=np.ascontiguousarray(weight_CE[:, :-1].T),
            bias_C=weight_CE[:, -1].copy(),
            mean_D=self.mean_D,
            scale_D=self.scale_D,
            l2=self.l2,
        )


@dataclass(eq=False)
class _Head:
    """One head on its way: what it is, what became of it so far, and its best evaluation."""

    config: Configuration
    state: str = "COMPLETE"
    reason: str = ""
    ended: bool = False
    curve: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    score: float = -math.inf
    waited: int = 0
    """Evaluations since the best one."""
    best: dict[str, float] = field(default_factory=dict)
    """The curve's entry of the best evaluation."""
    weight_CE: np.ndarray | None = None
    logits_NC: np.ndarray | None = None
    """On validation, at the best evaluation."""

    def initial_weights(self, features: int, labels: int) -> np.ndarray:
        """weight_CE, float32: Xavier-uniform (Glorot and Bengio, AISTATS 2010, eq. 16) and bias 0."""
        bound = math.sqrt(6 / (features + labels))
        draw = np.random.default_rng([self.config.seed, _WEIGHTS, self.config.number])
        weight_CE = np.zeros((labels, features + 1), np.float32)
        weight_CE[:, :-1] = draw.uniform(-bound, bound, (labels, features))
        return weight_CE

    def diverge(self, epoch: int, rate: float) -> None:
        self.state, self.ended = "FAIL", True
        self.reason = f"diverged in epoch {epoch} at learning rate {rate:.3g}"
        self.best = {"epoch": epoch, "objective": math.nan}
        self.weight_CE = self.logits_NC = None

    def judge(
        self,
        point: dict[str, float],
        weight_CE: Tensor,
        logits_NC: np.ndarray,
        training: BankTraining,
        floor: float,
    ) -> None:
        """Notes one evaluation, keeps it if it is the best, and decides whether the head goes on."""
        epoch, value = int(point["epoch"]), point["objective"]
        self.curve.append(point)
        score = value if training.best_by == "objective" else -point["val_loss"]
        self.waited += 1
        if score > self.score:
            self.score, self.waited, self.best = score, 0, point
            self.weight_CE, self.logits_NC = weight_CE.cpu().numpy().copy(), logits_NC
        if epoch == self.config["epochs"]:
            self.ended = True
        elif value < floor:
            self.ended, self.state = True, "PRUNED"
            self.reason = f"objective {value:.4f} after epoch {epoch} is below the floor {floor:.4f}"
        elif training.patience is not None and self.waited >= training.patience:
            self.ended = True
            self.reason = (
                f"no better {training.best_by} in {training.patience} evaluations up to epoch {epoch}"
            )


class _Stack:
    """The heads still in training: weights, AdamW moments and settings, one entry a head in each tensor.

    Heads of one normalisation are neighbours, so that they share a product, and among them heads of one loss.
    """

    def __init__(self, heads: Sequence[_Head], data: ProbeData, device: str) -> None:
        self.heads = sorted(
            heads,
            key=lambda head: (
                NORMALISATIONS.index(head.config["normalisation"]),
                list(LOSSES).index(head.config["loss"]),
            ),
        )
        features, labels = data.features_ND.shape[1], len(data.labels)
        weights = [head.initial_weights(features, labels) for head in self.heads]
        self.weight_KCE = torch.from_numpy(np.stack(weights)).to(device)
        self.first_KCE, self.second_KCE = torch.zeros_like(self.weight_KCE), torch.zeros_like(self.weight_KCE)
        self.steps = 0
        targets_NC = torch.tensor(data.targets_NC[data.training_N()], device=device)
        self.loss = BankLoss.of([head.config for head in self.heads], targets_NC)
        self._lay_out()

    def drop_ended(self) -> None:
        """Takes the heads that have ended out of every tensor: they cost nothing from here on."""
        places = [k for k, head in enumerate(self.heads) if not head.ended]
        if len(places) == len(self.heads):
            return
        self.heads = [self.heads[k] for k in places]
        self.weight_KCE, self.first_KCE, self.second_KCE = (
            stacked_KCE[places] for stacked_KCE in (self.weight_KCE, self.first_KCE, self.second_KCE)
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
        self.runs: list[tuple[str, slice]] = []  # normalisation, its rows of the (K * C)
        for name, run in groupby(range(len(self.heads)), key=lambda k: self.heads[k].config["normalisation"]):
            places = list(run)
            self.runs.append((name, slice(places[0] * labels, (places[-1] + 1) * labels)))

    def _setting(self, name: str) -> Tensor:
        values = [float(head.config[name]) for head in self.heads]
        return torch.tensor(values, device=self.weight_KCE.device)

    def rates(self, epoch: int) -> Tensor:
        """rate_K11 in this epoch (counted from 1): down a cosine over each head's own epochs."""
        return self.rate_K11 * (0.5 + 0.5 * torch.cos((epoch - 1) / self.epochs_K11 * math.pi))

    def step(
        self,
        features: Mapping[str, _Features],
        index_B: Tensor,
        targets_BC: Tensor,
        rate_K11: Tensor,
        clip_norm: float | None,
    ) -> None:
        """One AdamW step of every head on the training images `index_B`."""
        K, C, E = self.weight_KCE.shape
        B = len(index_B)
        inputs = [features[name].train_NE.index_select(0, index_B) for name, _ in self.runs]
        logits_KCB = self.weight_KCE.new_empty(K, C, B)
        for (_, rows), x_BE in zip(self.runs, inputs, strict=True):
            torch.mm(self.weight_KCE.view(K * C, E)[rows], x_BE.T, out=logits_KCB.view(K * C, B)[rows])
        slope_KBC = self.loss.gradient(logits_KCB.transpose(1, 2), targets_BC)
        slope_KCB = slope_KBC.transpose(1, 2).contiguous()
        for (_, rows), x_BE in zip(self.runs, inputs, strict=True):
            torch.mm(slope_KCB.view(K * C, B)[rows], x_BE, out=self.gradient_KCE.view(K * C, E)[rows])
        weight_KCD = self.weight_KCE[..., :-1]  # without the bias
        self.gradient_KCE[..., :-1].addcmul_(weight_KCD, self.penalty_K11)

        if clip_norm is not None:
            norm_K11 = torch.linalg.vector_norm(self.gradient_KCE, dim=(1, 2), keepdim=True)
            self.gradient_KCE.mul_((clip_norm / (norm_K11 + 1e-6)).clamp_(max=1))
        # AdamW (Loshchilov and Hutter, ICLR 2019, algorithm 2), its bias corrections moved into two scalars.
        self.steps += 1
        correction1, correction2 = 1 - BETA1**self.steps, math.sqrt(1 - BETA2**self.steps)
        weight_KCD.mul_((1 - rate_K11 * self.decay_K11).clamp_(min=0))  # past 0 it would oscillate
        self.first_KCE.lerp_(self.gradient_KCE, 1 - BETA1)
        self.second_KCE.mul_(BETA2).addcmul_(self.gradient_KCE, self.gradient_KCE, value=1 - BETA2)
        torch.sqrt(self.second_KCE, out=self.scratch_KCE).add_(EPSILON * correction2)
        torch.div(self.first_KCE, self.scratch_KCE, out=self.scratch_KCE)
        self.weight_KCE.addcmul_(self.scratch_KCE, rate_K11, value=-correction2 / correction1)

    def logits(self, features_NE: Mapping[str, Tensor], places: list[int]) -> Tensor:
        """logits_PNC of the heads at these P places; P may be 0."""
        images = len(next(iter(features_NE.values())))
        logits_PNC = self.weight_KCE.new_empty(len(places), images, self.weight_KCE.shape[1])
        for logits_NC, k in zip(logits_PNC, places, strict=True):
            torch.mm(features_NE[self.heads[k].config["normalisation"]], self.weight_KCE[k].T, out=logits_NC)
        return logits_PNC


# ---- training ----


def train_bank(
    configs: Sequence[Configuration],
    data: ProbeData,
    *,
    training: BankTraining = BankTraining(),
    objective_name: str = "macro_ap",
    seed: int = 0,
    prune_below: Mapping[int, float] | None = None,
    device: str = "cpu",
    deadline: float = math.inf,
) -> list[TrialRecord]:
    """Trains a bank of linear probes and judges each on validation.

    Every head takes the same minibatches, in an order that follows from (seed, epoch) alone, so a head comes
    out of a bank as it comes out of a bank of one, up to the order in which float32 products are summed.

    Args:
        configs: the heads, at least one, of the space `search_spaces.linear_probe`.
        data: development rows with one fold, which is validation.
        training: what the heads share.
        objective_name: one of `scoring.judging.OBJECTIVES`, averaged over `data.scored_C`.
        seed: of the order of the images.
        prune_below: rung -> objective; a head below it there, with epochs left, ends as PRUNED.
        device: "cpu", "cuda", ...; how many threads torch may use is the caller's business.
        deadline: `time.time()` at which training is given up, after the epoch that the heads are in.

    Returns:
        one record a configuration, in the order of `configs`; none of those that the deadline cut off.

    Raises:
        ValueError: an argument out of its bounds.
    """
    if not configs:
        raise ValueError("configs must hold at least one head, not 0")
    if data.folds != 1:
        raise ValueError(f"data must have one fold, not {data.folds}")
    prune_below = prune_below or {}
    if stray := sorted(set(prune_below) - set(training.rungs)):
        raise ValueError(f"prune_below must speak of the rungs {tuple(training.rungs)}, not of {stray[0]}")
    if objective_name not in OBJECTIVES:
        raise ValueError(f"objective_name must be one of {', '.join(OBJECTIVES)}, not {objective_name!r}")

    used = {config["normalisation"] for config in configs}
    features = {name: _Features(data, name, device) for name in used}
    train_N, rows = data.training_N(), data.judged()
    images = len(train_N)
    # Labels lie as (C, N): a minibatch of them is then laid out like its logits.
    targets_CN = torch.tensor(np.ascontiguousarray(data.targets_NC[train_N].T), device=device)
    val_targets_NC = torch.tensor(rows.targets_NC, device=device)
    # The training loss is read off as many images as validation has; all of them would cost half an epoch.
    glance_N = np.random.default_rng([seed, _GLANCE]).permutation(images)[: len(rows.targets_NC)]
    glance = {name: side.train_NE[glance_N] for name, side in features.items()}
    val = {name: side.val_NE for name, side in features.items()}

    heads = [_Head(config) for config in configs]
    stack = _Stack(heads, data, device)
    epoch = 0
    while stack.heads:
        epoch += 1
        started = time.perf_counter()
        draw = np.random.default_rng([seed, _ORDER, epoch])
        order_N = torch.from_numpy(draw.permutation(images)).to(device)
        rate_K11 = stack.rates(epoch)
        for index_B in order_N.split(training.batch_size):
            targets_BC = targets_CN.index_select(1, index_B).T
            stack.step(features, index_B, targets_BC, rate_K11, training.clip_norm)

        due = [
            k
            for k, head in enumerate(stack.heads)
            if epoch in training.rungs or epoch == head.config["epochs"]
        ]
        val_PNC = stack.logits(val, due)
        finite_K = stack.weight_KCE.isfinite().all(-1).all(-1)
        finite_K[due] &= val_PNC.isfinite().all(-1).all(-1)
        for k, finite in enumerate(finite_K.tolist()):
            if not finite:
                stack.heads[k].diverge(epoch, rate_K11[k].item())
        sound = [place for place, k in enumerate(due) if not stack.heads[k].ended]
        if sound:
            due, val_PNC = [due[place] for place in sound], val_PNC[sound]
            losses_P = [stack.heads[k].config["loss"] for k in due]
            val_loss_P = plain_loss(losses_P, val_PNC, val_targets_NC).tolist()
            train_loss_P = plain_loss(losses_P, stack.logits(glance, due), targets_CN[:, glance_N].T).tolist()
            val_PNC = val_PNC.cpu().numpy()
            shrinkage_P = [stack.heads[k].config["threshold_shrinkage"] for k in due]
            objective_P = objective(objective_name, val_PNC, rows, shrinkage_P).tolist()
            for k, train_loss, val_loss, value, logits_NC in zip(
                due, train_loss_P, val_loss_P, objective_P, val_PNC, strict=True
            ):
                point = {"epoch": epoch, "train_loss": train_loss, "val_loss": val_loss, "objective": value}
                floor = prune_below.get(epoch, -math.inf)
                stack.heads[k].judge(point, stack.weight_KCE[k], logits_NC, training, floor)

        share = (time.perf_counter() - started) / len(stack.heads)
        for head in stack.heads:
            head.seconds += share
        stack.drop_ended()
        if time.time() >= deadline:
            heads = [head for head in heads if head.ended]
            break

    scores = _scores([head for head in heads if head.logits_NC is not None], data)
    return [
        TrialRecord(
            number=head.config.number,
            preset=head.config.preset,
            params=dict(head.config.params),
            state=head.state,
            reason=head.reason,
            objective=head.best["objective"],
            curve=head.curve,
            epoch=int(head.best["epoch"]),
            seconds=head.seconds,
            precision=data.precision,
            arrays=features[head.config["normalisation"]].head(head.weight_CE).tensors()
            if head.weight_CE is not None
            else {},
            **scores.get(id(head), {}),
        )
        for head in heads
    ]


def _scores(heads: Sequence[_Head], data: ProbeData) -> dict[int, dict[str, Any]]:
    """id of a head -> the fields of its record that its best evaluation fills."""
    if not heads:
        return {}
    logits_KNC = np.stack([head.logits_NC for head in heads])
    shrinkage_K = [head.config["threshold_shrinkage"] for head in heads]
    found = {}
    for head, judged in zip(heads, judge(logits_KNC, data.judged(), shrinkage_K), strict=True):
        fields = judged_fields(judged)
        fields["metrics"] = fields["metrics"] | {"val.loss": head.best["val_loss"]}
        found[id(head)] = fields
    return found
