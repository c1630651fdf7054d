"""The linear probe: a bank of K heads trained at once on cached embeddings.

A head is a few thousand numbers, so one alone leaves the processor idle between its matrix products. A bank
stacks K of them and takes every step for all: one product forward, one back, one AdamW update. Nothing
passes from head to head: each has its own learning rate, decay, loss, length and initial weights, its own
gradient clip, and leaves the stack when it ends, lags behind or diverges. A bank of one is the same code.

On a single split the weights of the best evaluation on validation are kept. In cross-validation every
configuration trains once a fold, for the epochs that it names and no fewer: an end chosen by the scores of
the fold that is held out would make these scores too good. Its objective is that of all folds' held-out
scores together, and its head the average of the folds' heads.

Shape legend: N images, M of them judged, B images of a minibatch, R coordinates of their features
(`trainables.fold_features`), E = R + 1 (the bias is the weight of a last coordinate that is always 1), C
labels, K heads still in training, P of them that are looked at.
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
from search_spaces.linear_probe import PAPER
from trainables.fold_features import fold_features
from trainables.losses import LOSSES, BankLoss, plain_loss
from trainables.records import TrialRecord, judged_fields
from trainables.trial_data import ProbeData
from vlm.linear_head import LinearHead, combined

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


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """What a bank is told of the configurations before it, so that those that lag behind are stopped."""

    prune_below: Mapping[int, float] = field(default_factory=dict)
    """Rung -> objective; a head below it there, on the first fold and with epochs left, ends as PRUNED."""
    fold_objectives: Sequence[Sequence[float]] = ()
    """Of each earlier configuration that came through its first fold, its objective on each fold."""


CONTENDERS = 20
"""After each fold a head goes on that may still be among so many best ones, which is what an ensemble of them
can use."""


def contending(
    fold_objectives: Sequence[Sequence[float]], earlier: Sequence[Sequence[float]], folds: int
) -> list[bool]:
    """Which heads may still be among the CONTENDERS best of all, themselves included, once their folds are
    averaged.

    A head is out where its mean over the folds so far lies below the CONTENDERS-th best mean over the same
    folds by more than one standard deviation of what the missing folds may change. That deviation is measured
    on configurations that have more folds: their scores less what is common to a fold, so that a difficult
    fold counts against nobody.

    Args:
        fold_objectives: of the heads in question, the same number of folds each.
        earlier: of other configurations, one fold or more each.
        folds: of the study.
    """
    done = len(fold_objectives[0])
    whole = [tuple(one) for one in (*earlier, *fold_objectives)]
    means = sorted((float(np.mean(one[:done])) for one in whole if len(one) >= done), reverse=True)
    most = max(len(one) for one in whole)
    measured = np.array([one for one in whole if len(one) == most])
    if len(means) <= CONTENDERS or most < 2 or len(measured) < 2:
        return [True] * len(fold_objectives)
    apart = measured - measured.mean(axis=0) - measured.mean(axis=1, keepdims=True) + measured.mean()
    variance = float((apart**2).sum()) / ((len(measured) - 1) * (most - 1))
    floor = means[CONTENDERS - 1] - math.sqrt(2 * variance * (1 / done - 1 / folds))
    return [bool(np.mean(one) >= floor) for one in fold_objectives]


BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # AdamW's own defaults, as in the paper
# What a random generator is for: streams of one seed and one index stay apart.
_WEIGHTS, _ORDER, _GLANCE = range(3)


# ---- the stack ----


def _group(config: Configuration) -> tuple[str, str]:
    """Kind and normalisation of its features: heads alike in both share a product."""
    return config["features"], config.get("normalisation", "standardize")


class _Features:
    """The features of one group in one fold, with a last column of ones."""

    def __init__(self, data: ProbeData, fold: int, group: tuple[str, str], device: str) -> None:
        self._seen = fold_features(data, fold, *group)
        x_NE = np.ones((len(data.rows_N), self._seen.x_NR.shape[1] + 1), np.float32)
        x_NE[:, :-1] = self._seen.x_NR
        self.train_NE = torch.from_numpy(x_NE[data.training_N(fold)]).to(device)
        self.val_NE = torch.from_numpy(x_NE[data.judged_N(fold)]).to(device)

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


@dataclass(eq=False)
class _Head:
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
        anywhere and has nothing to forget; a published configuration as published, Xavier-uniform (Glorot and
        Bengio, AISTATS 2010, eq. 16) and bias 0."""
        weight_CE = np.zeros((labels, coordinates + 1), np.float32)
        if self.config.preset:
            bound = math.sqrt(6 / (coordinates + labels))
            draw = np.random.default_rng([self.config.seed, _WEIGHTS, self.config.number])
            weight_CE[:, :-1] = draw.uniform(-bound, bound, (labels, coordinates))
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
            f"mean objective {np.mean(self.fold_objectives):.4f} over {folds} fold{'s' * (folds > 1)} is "
            f"behind that of the best {CONTENDERS}"
        )


class _Stack:
    """The heads still in training: weights, AdamW moments and settings, one entry a head in each tensor.

    All read equally many coordinates. Heads of one group are neighbours, so that they share a product, and
    among them heads of one loss.
    """

    def __init__(
        self,
        heads: Sequence[_Head],
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
            heads, key=lambda head: (_group(head.config), list(LOSSES).index(head.config["loss"]))
        )
        weights = [head.initial_weights(coordinates, targets_NC.shape[1]) for head in self.heads]
        self.weight_KCE = torch.from_numpy(np.stack(weights)).to(targets_NC.device)
        self.anchor_KCE = torch.zeros_like(self.weight_KCE)
        for k, head in enumerate(self.heads):
            if (strength := head.config.get("anchor_strength", 0.0)) > 0:
                anchor_CE = torch.from_numpy(anchors[_group(head.config)] * np.float32(strength))
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
        for group, run in groupby(range(len(self.heads)), key=lambda k: _group(self.heads[k].config)):
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
        features: Mapping[tuple[str, str], _Features],
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
            torch.mm(rows_NE[_group(self.heads[k].config)], self.weight_KCE[k].T, out=logits_NC)
        return logits_PNC


# ---- training ----


def train_bank(
    configs: Sequence[Configuration],
    data: ProbeData,
    *,
    training: BankTraining = BankTraining(),
    objective_name: str = "macro_ap",
    seed: int = 0,
    earlier: Earlier = Earlier(),
    device: str = "cpu",
    deadline: float = math.inf,
) -> list[TrialRecord]:
    """Trains a bank of linear probes and judges each on the rows that it did not train on.

    Every head takes the same minibatches, in an order that follows from (seed, epoch) alone, so a head comes
    out of a bank as it comes out of a bank of one, up to the order in which float32 products are summed.

    Args:
        configs: the heads, at least one, of the space `search_spaces.linear_probe`.
        data: development rows with one fold, which is validation, or several, for cross-validation.
        training: what the heads share.
        objective_name: one of `scoring.judging.OBJECTIVES`, averaged over `data.scored_C`.
        seed: of the order of the images.
        earlier: what lags behind it ends as PRUNED.
        device: "cpu", "cuda", ...; how many threads torch may use is the caller's business.
        deadline: `time.time()` at which training is given up, after the epoch that the heads are in.

    Returns:
        one record a configuration, in the order of `configs`; none of those that the deadline cut off. In
        cross-validation the curve is that of the first fold, and one that is stopped keeps no head.

    Raises:
        ValueError: an argument out of its bounds.
    """
    if not configs:
        raise ValueError("configs must hold at least one head, not 0")
    if stray := sorted(set(earlier.prune_below) - set(training.rungs)):
        raise ValueError(f"prune_below must speak of the rungs {tuple(training.rungs)}, not of {stray[0]}")
    if objective_name not in OBJECTIVES:
        raise ValueError(f"objective_name must be one of {', '.join(OBJECTIVES)}, not {objective_name!r}")
    if missing := sorted({config["features"] for config in configs} - set(data.kinds)):
        raise ValueError(f"features must be a kind of {', '.join(data.kinds)}, not {missing[0]}")
    if data.text_CD is None and any(config.get("anchor", "none") != "none" for config in configs):
        raise ValueError("anchor must be none where data have no text_CD")
    bank = _Bank(
        heads=[_Head(config) for config in configs],
        data=data,
        training=training,
        objective_name=objective_name,
        seed=seed,
        earlier=earlier,
        device=device,
        deadline=deadline,
    )
    return bank.records() if data.folds == 1 else bank.cross_validated_records()


@dataclass(kw_only=True, eq=False)
class _Bank:
    """A bank in training; its fields are the arguments of `train_bank`."""

    heads: list[_Head]
    data: ProbeData
    training: BankTraining
    objective_name: str
    seed: int
    earlier: Earlier
    device: str
    deadline: float

    # A single split -----------------------------------------------------------------------------------------

    def records(self) -> list[TrialRecord]:
        features = self._train_fold(0, self.heads)
        ended = [head for head in self.heads if head.done]
        kept = [head for head in ended if head.logits_MC is not None]
        fields = self._judged(kept, [head.logits_MC for head in kept])
        return [
            self._record(
                head,
                objective=head.best["objective"],
                epoch=int(head.best["epoch"]),
                arrays={}
                if head.weight_CE is None
                else features[_group(head.config)].head(head.weight_CE).tensors(),
                **fields.get(id(head), {}),
            )
            for head in ended
        ]

    # Cross-validation ---------------------------------------------------------------------------------------

    def cross_validated_records(self) -> list[TrialRecord]:
        data = self.data
        shape = (len(data.judged_N()), len(data.labels))
        for head in self.heads:
            head.held_out_MC = np.zeros(shape, np.float32)
        for fold in range(data.folds):
            going = [head for head in self.heads if not head.out]
            if not going:
                break
            features = self._train_fold(fold, going)
            self._close_fold(fold, [head for head in going if head.done and not head.out], features)
            if not all(head.done for head in going):  # the deadline
                self.heads = [head for head in self.heads if head.out]
            elif fold + 1 < data.folds:
                self._race([head for head in going if not head.out])
        whole = [head for head in self.heads if not head.out]
        fields = self._judged(whole, [head.held_out_MC for head in whole])
        records = []
        for head in self.heads:
            own = fields.get(id(head), {})
            arrays, trained = {}, len(head.fold_objectives) * head.config["epochs"]
            value = head.best["objective"]
            if own:
                (average,) = combined(head.folds, [1 / data.folds] * data.folds)
                arrays = average.tensors() | {"held_out_MC": head.held_out_MC}
                value, trained = own["metrics"][f"val.{self.objective_name}"], head.config["epochs"]
            elif head.state == "PRUNED" and head.fold_objectives:
                value = float(np.mean(head.fold_objectives))
            records.append(
                self._record(
                    head,
                    objective=value,
                    fold_objectives=head.fold_objectives,
                    epoch=trained or int(head.best["epoch"]),
                    arrays=arrays,
                    **own,
                )
            )
        return records

    def _close_fold(
        self, fold: int, heads: Sequence[_Head], features: Mapping[tuple[str, str], _Features]
    ) -> None:
        """Keep what the heads say of the images that the fold held out, and the heads themselves."""
        if not heads:
            return
        data = self.data
        own_M = data.fold_N[data.judged_N()] == fold
        logits_KMC = np.stack([head.logits_MC for head in heads])
        for head, value in zip(heads, self._objectives(fold, heads, logits_KMC), strict=True):
            head.held_out_MC[own_M] = head.logits_MC
            head.folds.append(features[_group(head.config)].head(head.weight_CE))
            head.fold_objectives.append(value)

    def _race(self, heads: Sequence[_Head]) -> None:
        """Stop those that the ensemble can no longer use."""
        if not heads or heads[0].config.preset:
            return
        going = contending(
            [head.fold_objectives for head in heads], self.earlier.fold_objectives, self.data.folds
        )
        for head, goes_on in zip(heads, going, strict=True):
            if not goes_on:
                head.fall_behind()

    # Both ---------------------------------------------------------------------------------------------------

    def _train_fold(self, fold: int, heads: Sequence[_Head]) -> dict[tuple[str, str], _Features]:
        """Train the heads until each is done with this fold, or the deadline has passed; the features that
        they saw."""
        data, device = self.data, self.device
        for head in heads:
            head.begin_fold()
        features = {
            group: _Features(data, fold, group, device)
            for group in dict.fromkeys(_group(head.config) for head in heads)
        }
        targets_NC = torch.tensor(data.targets_NC[data.training_N(fold)], device=device)
        targets_CN = targets_NC.T.contiguous()  # a minibatch of them is then laid out like its logits
        images = len(targets_NC)
        by_width: dict[int, list[_Head]] = {}
        for head in heads:
            by_width.setdefault(features[_group(head.config)].train_NE.shape[1] - 1, []).append(head)
        anchored = {_group(head.config) for head in heads if head.config.get("anchor", "none") != "none"}
        anchors = {group: features[group].anchor(data.text_CD) for group in anchored}
        stacks = [_Stack(alike, width, targets_NC, anchors) for width, alike in by_width.items()]
        judge = _Looks(self, fold, features, targets_NC)
        epoch = 0
        while stacks:
            epoch += 1
            draw = np.random.default_rng([self.seed, _ORDER, epoch])
            order_N = torch.from_numpy(draw.permutation(images)).to(device)
            batches = order_N.split(self.training.batch_size)
            for stack in stacks:
                started = time.perf_counter()
                rate_K11 = stack.rates(epoch)
                for index_B in batches:
                    targets_BC = targets_CN.index_select(1, index_B).T
                    stack.step(features, index_B, targets_BC, rate_K11, self.training.clip_norm)
                judge.look(stack, epoch, rate_K11)
                share = (time.perf_counter() - started) / len(stack.heads)
                for head in stack.heads:
                    head.seconds += share
                stack.drop_done()
            stacks = [stack for stack in stacks if stack.heads]
            if time.time() >= self.deadline:
                break
        return features

    def _objectives(self, fold: int, heads: Sequence[_Head], logits_KMC: np.ndarray) -> list[float]:
        """Of each head on the images that the fold holds out; NaN where these lack both classes of every
        label that counts."""
        rows = self.data.judged(fold)
        rows = rows.some(np.ones(len(rows.targets_NC), dtype=bool))
        if not rows.averaged_C.any():
            return [math.nan] * len(heads)
        shrinkage_K = [head.config["threshold_shrinkage"] for head in heads]
        return objective(self.objective_name, logits_KMC, rows, shrinkage_K).tolist()

    def _judged(self, heads: Sequence[_Head], logits: Sequence[np.ndarray]) -> dict[int, dict[str, Any]]:
        """id of a head -> the fields of its record that its judgement fills."""
        if not heads:
            return {}
        shrinkage_K = [head.config["threshold_shrinkage"] for head in heads]
        found = {}
        for head, judged in zip(heads, judge(np.stack(logits), self.data.judged(), shrinkage_K), strict=True):
            fields = judged_fields(judged)
            fields["metrics"] = fields["metrics"] | {"val.loss": head.best["val_loss"]}
            found[id(head)] = fields
        return found

    def _record(self, head: _Head, **fields: Any) -> TrialRecord:
        return TrialRecord(
            number=head.config.number,
            preset=head.config.preset,
            params=dict(head.config.params),
            state=head.state,
            reason=head.reason,
            curve=head.curve,
            seconds=head.seconds,
            precision=self.data.precision,
            **fields,
        )


class _Looks:
    """The evaluations of one fold."""

    def __init__(
        self,
        bank: _Bank,
        fold: int,
        features: Mapping[tuple[str, str], _Features],
        targets_NC: Tensor,
    ) -> None:
        self.bank, self.fold = bank, fold
        self.at_rungs = fold == 0
        """On later folds nobody is stopped at a rung, so only the last epoch is looked at."""
        self.val = {group: side.val_NE for group, side in features.items()}
        self.val_targets_MC = torch.tensor(bank.data.judged(fold).targets_NC, device=bank.device)
        # The training loss is read off as many images as validation has; all would cost half an epoch.
        glance_N = np.random.default_rng([bank.seed, _GLANCE]).permutation(len(targets_NC))
        glance_N = glance_N[: len(self.val_targets_MC)]
        self.glance = {group: side.train_NE[glance_N] for group, side in features.items()}
        self.glance_targets_NC = targets_NC[glance_N]

    def look(self, stack: _Stack, epoch: int, rate_K11: Tensor) -> None:
        """Evaluate the heads that are due, and find those that have diverged."""
        bank, training = self.bank, self.bank.training
        rung = self.at_rungs and epoch in training.rungs
        due = [k for k, head in enumerate(stack.heads) if rung or epoch == head.config["epochs"]]
        val_PMC = stack.logits(self.val, due)
        finite_K = stack.weight_KCE.isfinite().all(-1).all(-1)
        finite_K[due] &= val_PMC.isfinite().all(-1).all(-1)
        for k, finite in enumerate(finite_K.tolist()):
            if not finite:
                stack.heads[k].diverge(epoch, rate_K11[k].item())
        sound = [place for place, k in enumerate(due) if not stack.heads[k].done]
        if not sound:
            return
        due, val_PMC = [due[place] for place in sound], val_PMC[sound]
        heads = [stack.heads[k] for k in due]
        losses_P = [head.config["loss"] for head in heads]
        val_loss_P = plain_loss(losses_P, val_PMC, self.val_targets_MC).tolist()
        train_loss_P = plain_loss(losses_P, stack.logits(self.glance, due), self.glance_targets_NC).tolist()
        logits_PMC = val_PMC.cpu().numpy()
        objective_P = bank._objectives(self.fold, heads, logits_PMC)
        floor = bank.earlier.prune_below.get(epoch, -math.inf) if self.at_rungs else -math.inf
        for p, (head, k) in enumerate(zip(heads, due, strict=True)):
            point = {
                "epoch": epoch,
                "train_loss": train_loss_P[p],
                "val_loss": val_loss_P[p],
                "objective": objective_P[p],
            }
            if self.fold == 0:
                head.curve.append(point)
            keep_last = bank.data.folds > 1
            head.look(point, stack.weight_KCE[k], logits_PMC[p], training, floor, keep_last=keep_last)
