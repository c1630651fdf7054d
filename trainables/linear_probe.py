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

from cohort.errors import InputError
from scoring import judging
from scoring.judging import OBJECTIVES, JudgedRows, judge
from search_spaces.configuration import Configuration
from search_spaces.linear_probe import PAPER, PARAMETERS
from trainables.losses import LOSSES, BankLoss, bce
from vlm.linear_head import LinearHead

NORMALISATIONS = PARAMETERS["normalisation"].search
RUNGS = (5, 10, 20, 40)
"""Epochs after which validation is looked at and a lagging head may be stopped."""
PAPER_TRAINING: dict[str, Any] = {
    "batch_size": 24,
    "rungs": tuple(range(1, PAPER["epochs"] + 1)),
    "patience": 5,
    "best_by": "loss",
    "clip_norm": None,
}
"""`train_bank`'s arguments for the paper's configuration (arXiv 2506.14136): batch 24, and after every epoch
a look at the validation loss, which chooses the weights and ends training after five looks without gain."""
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # AdamW's own defaults, as in the paper
# What a random generator is for: streams of one seed and one index stay apart.
_WEIGHTS, _ORDER, _GLANCE = range(3)


@dataclass(frozen=True, kw_only=True, eq=False)
class ProbeData:
    """What a trial may see: training and validation, never test. ValueError where the parts do not fit."""

    train_features_ND: np.ndarray
    """float32, finite, as the encoder gave them."""
    train_targets_NC: np.ndarray
    """float32: 0, 1 or NaN (masked)."""
    val_features_ND: np.ndarray
    """float32, finite."""
    val_targets_NC: np.ndarray
    """float32: 0, 1 or NaN (masked)."""
    val_patients_N: np.ndarray
    """int64, the patient of each validation image."""
    val_folds_N: np.ndarray
    """int64, the fold of each validation image, from `cohort.patients.patient_folds`; fixed for a study."""
    labels: tuple[str, ...]
    objective_labels_C: np.ndarray
    """bool: labels with enough positive patients on validation to count in an average. A label without
    positives in training is trained on but never counts, see `scored_C`."""

    def __post_init__(self) -> None:
        for side in ("train", "val"):
            name = f"{side}_features_ND"
            features_ND = getattr(self, name)
            if features_ND.ndim != 2 or 0 in features_ND.shape or features_ND.dtype != np.float32:
                raise ValueError(f"{name} must be float32 (images, features), not {_described(features_ND)}")
            bad = np.flatnonzero(~np.isfinite(features_ND).all(1))
            if len(bad):
                raise ValueError(
                    f"{name} must be finite, not NaN or infinite in {len(bad)} rows, first row {bad[0]}"
                )
            expected = (len(features_ND), len(self.labels))
            name = f"{side}_targets_NC"
            targets_NC = getattr(self, name)
            if targets_NC.shape != expected or targets_NC.dtype != np.float32:
                raise ValueError(f"{name} must be float32 {expected}, not {_described(targets_NC)}")
            strange = targets_NC[~((targets_NC == 0) | (targets_NC == 1) | np.isnan(targets_NC))]
            if strange.size:
                raise ValueError(f"{name} must be 0, 1 or NaN, not {strange[0]:g}")
        if self.train_features_ND.shape[1] != self.val_features_ND.shape[1]:
            widths = self.train_features_ND.shape[1], self.val_features_ND.shape[1]
            raise ValueError(f"train and val features must have one width, not {widths[0]} and {widths[1]}")
        for name in ("val_patients_N", "val_folds_N"):
            if getattr(self, name).shape != (len(self.val_features_ND),):
                raise ValueError(
                    f"{name} must have shape ({len(self.val_features_ND)},), not {getattr(self, name).shape}"
                )
        if self.objective_labels_C.shape != (len(self.labels),) or self.objective_labels_C.dtype != bool:
            raise ValueError(
                f"objective_labels_C must be bool ({len(self.labels)},), "
                f"not {_described(self.objective_labels_C)}"
            )
        one_sided = [
            label
            for label, counts, targets_N in zip(
                self.labels, self.objective_labels_C, self.val_targets_NC.T, strict=True
            )
            if counts and not {0, 1} <= set(np.unique(targets_N[~np.isnan(targets_N)]))
        ]
        if one_sided:
            raise ValueError(
                "objective_labels_C must have positives and negatives on validation, "
                f"unlike {', '.join(one_sided)}"
            )
        if not self.scored_C.any():
            raise InputError(
                "no label has enough positive patients on validation and a positive on training, so there is "
                "nothing to optimise: pool labels, or give validation more patients"
            )

    @property
    def scored_C(self) -> np.ndarray:
        """bool: the labels over which every macro average of a trial is taken."""
        return self.objective_labels_C & (self.train_targets_NC == 1).any(0)

    @property
    def judged(self) -> JudgedRows:
        """Validation, as every trial is judged on it."""
        return JudgedRows(
            targets_NC=self.val_targets_NC,
            patients_N=self.val_patients_N,
            folds_N=self.val_folds_N,
            averaged_C=self.scored_C,
        )


def _described(array: np.ndarray) -> str:
    return f"{array.dtype} {array.shape}"


@dataclass(kw_only=True, eq=False)
class HeadResult:
    """What became of one configuration."""

    number: int
    state: str
    """COMPLETE, PRUNED (below the floor of a rung) or FAIL (diverged)."""
    reason: str = ""
    """Why it ended before its last epoch; empty otherwise."""
    objective: float = math.nan
    """The objective at the kept evaluation, whatever chose it; NaN where there was none."""
    metrics: dict[str, float] = field(default_factory=dict)
    """val.macro_ap, val.macro_auroc, val.macro_f1 (cross-fitted, of the best threshold strategy),
    val.macro_f1_<strategy>, val.loss (unweighted BCE over every unmasked entry)."""
    curve: list[dict[str, float]] = field(default_factory=list)
    """One entry an evaluation: epoch, train_loss, val_loss (unweighted BCE both), objective."""
    head: LinearHead | None = None
    """The weights of the best evaluation, not of the last."""
    strategy: str = ""
    """The threshold strategy with the best cross-fitted macro-F1."""
    thresholds: dict[str, np.ndarray] = field(default_factory=dict)
    """strategy -> one probability threshold a label, refitted on all of validation."""
    few_C: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    """bool: labels with too few positive patients for a threshold of their own; empty at FAIL."""
    epoch: int = 0
    """Epochs trained when the kept weights were evaluated."""
    seconds: float = 0.0
    """Its share of the bank's time."""


# ---- the stack ----


class _Features:
    """The features under one normalisation, with a last column of ones."""

    def __init__(self, data: ProbeData, normalisation: str, device: str) -> None:
        width = data.train_features_ND.shape[1]
        self.mean_D, self.scale_D = np.zeros(width, np.float32), np.ones(width, np.float32)
        self.l2 = normalisation == "l2"
        if normalisation in ("center", "standardize"):
            mean_D = data.train_features_ND.mean(0, dtype=np.float64)
            deviation_D = data.train_features_ND.std(0, dtype=np.float64)
            if normalisation == "center":
                deviation_D[:] = np.sqrt((deviation_D**2).mean())
            # A feature that is constant up to rounding says nothing; its rounding must not be blown up.
            constant_D = deviation_D <= np.maximum(1e-6 * np.abs(mean_D), np.finfo(np.float32).tiny)
            self.mean_D = mean_D.astype(np.float32)
            self.scale_D = np.where(constant_D, 1, deviation_D).astype(np.float32)
        self.train_NE = torch.from_numpy(self._normalised(data.train_features_ND)).to(device)
        self.val_NE = torch.from_numpy(self._normalised(data.val_features_ND)).to(device)

    def _normalised(self, features_ND: np.ndarray) -> np.ndarray:
        """As `LinearHead.logits`, which is what is exported, does it."""
        if self.l2:
            norm_N1 = np.linalg.norm(features_ND, axis=1, keepdims=True)
            features_ND = features_ND / np.where(norm_N1 == 0, np.float32(1), norm_N1)
        features_NE = np.ones((len(features_ND), features_ND.shape[1] + 1), np.float32)
        features_NE[:, :-1] = (features_ND - self.mean_D) / self.scale_D
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
    result: HeadResult
    ended: bool = False
    score: float = -math.inf
    waited: int = 0
    """Evaluations since the best one."""
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
        self.result.state, self.result.epoch, self.ended = "FAIL", epoch, True
        self.result.reason = f"diverged in epoch {epoch} at learning rate {rate:.3g}"
        self.result.objective = math.nan
        self.weight_CE = self.logits_NC = None

    def judge(
        self,
        curve: dict[str, float],
        best_by: str,
        weight_CE: Tensor,
        logits_NC: np.ndarray,
        floor: float,
        patience: int | None,
    ) -> None:
        """Records one evaluation, keeps it if it is the best, and decides whether the head goes on."""
        epoch, objective = int(curve["epoch"]), curve["objective"]
        self.result.curve.append(curve)
        score = objective if best_by == "objective" else -curve["val_loss"]
        self.waited += 1
        if score > self.score:
            self.score, self.waited = score, 0
            self.weight_CE, self.logits_NC = weight_CE.cpu().numpy().copy(), logits_NC
            self.result.objective, self.result.epoch = objective, epoch
        if epoch == self.config["epochs"]:
            self.ended = True
        elif objective < floor:
            self.ended, self.result.state = True, "PRUNED"
            self.result.reason = (
                f"objective {objective:.4f} after epoch {epoch} is below the floor {floor:.4f}"
            )
        elif patience is not None and self.waited >= patience:
            self.ended = True
            self.result.reason = f"no better {best_by} in {patience} evaluations up to epoch {epoch}"


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
        features, labels = data.train_features_ND.shape[1], len(data.labels)
        weights = [head.initial_weights(features, labels) for head in self.heads]
        self.weight_KCE = torch.from_numpy(np.stack(weights)).to(device)
        self.first_KCE, self.second_KCE = torch.zeros_like(self.weight_KCE), torch.zeros_like(self.weight_KCE)
        self.steps = 0
        targets_NC = torch.tensor(data.train_targets_NC, device=device)
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
    batch_size: int = 256,
    seed: int = 0,
    rungs: Sequence[int] = RUNGS,
    rung_floor: Mapping[int, float] | None = None,
    patience: int | None = None,
    best_by: str = "objective",
    objective: str = "macro_ap",
    clip_norm: float | None = 1.0,
    device: str = "cpu",
) -> list[HeadResult]:
    """Trains a bank of linear probes and judges each on validation.

    Every head takes the same minibatches, in an order that follows from (seed, epoch) alone, so a head comes
    out of a bank as it comes out of a bank of one, up to the order in which float32 products are summed.

    Args:
        configs: the heads, at least one, of the space `search_spaces.linear_probe`.
        data: training and validation.
        batch_size: images a step; the last step of an epoch takes what is left.
        seed: of the order of the images.
        rungs: epochs after which validation is looked at. A head is also judged after its own last epoch.
        rung_floor: rung -> objective; a head below it there, with epochs left, ends as PRUNED.
        patience: evaluations without a better one after which a head ends, as COMPLETE; None: never.
        best_by: what the best evaluation is the best of, for `patience` and for the weights that are kept:
            "objective", or "loss" for the lowest validation BCE.
        objective: macro_ap, macro_auroc or macro_f1 (cross-fitted, of the best threshold strategy), averaged
            over `data.scored_C`.
        clip_norm: greatest Euclidean norm of a head's gradient; None: not clipped.
        device: "cpu", "cuda", ...; how many threads torch may use is the caller's business.

    Returns:
        one result a configuration, in the order of `configs`.

    Raises:
        ValueError: an argument out of its bounds.
    """
    if not configs:
        raise ValueError("configs must hold at least one head, not 0")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    if any(rung < 1 for rung in rungs):
        raise ValueError(f"rungs must be epochs from 1, not {tuple(rungs)}")
    if stray := sorted(set(rung_floor or {}) - set(rungs)):
        raise ValueError(f"rung_floor must speak of the rungs {tuple(rungs)}, not of {stray[0]}")
    if patience is not None and patience < 1:
        raise ValueError(f"patience must be at least 1 or None, not {patience}")
    if best_by not in ("objective", "loss"):
        raise ValueError(f"best_by must be objective or loss, not {best_by!r}")
    if objective not in OBJECTIVES:
        raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}, not {objective!r}")
    if clip_norm is not None and not clip_norm > 0:
        raise ValueError(f"clip_norm must be positive or None, not {clip_norm}")

    used = {config["normalisation"] for config in configs}
    features = {name: _Features(data, name, device) for name in used}
    images = len(data.train_features_ND)
    # Labels lie as (C, N): a minibatch of them is then laid out like its logits.
    targets_CN = torch.tensor(np.ascontiguousarray(data.train_targets_NC.T), device=device)
    val_targets_NC = torch.tensor(data.val_targets_NC, device=device)
    # The training loss is read off as many images as validation has; all of them would cost half an epoch.
    glance_N = np.random.default_rng([seed, _GLANCE]).permutation(images)[: len(data.val_features_ND)]
    glance = {name: side.train_NE[glance_N] for name, side in features.items()}
    val = {name: side.val_NE for name, side in features.items()}

    heads = [_Head(config, HeadResult(number=config.number, state="COMPLETE")) for config in configs]
    stack = _Stack(heads, data, device)
    epoch = 0
    while stack.heads:
        epoch += 1
        started = time.perf_counter()
        draw = np.random.default_rng([seed, _ORDER, epoch])
        order_N = torch.from_numpy(draw.permutation(images)).to(device)
        rate_K11 = stack.rates(epoch)
        for index_B in order_N.split(batch_size):
            stack.step(features, index_B, targets_CN.index_select(1, index_B).T, rate_K11, clip_norm)

        due = [k for k, head in enumerate(stack.heads) if epoch in rungs or epoch == head.config["epochs"]]
        val_PNC = stack.logits(val, due)
        finite_K = stack.weight_KCE.isfinite().all(-1).all(-1)
        finite_K[due] &= val_PNC.isfinite().all(-1).all(-1)
        for k, finite in enumerate(finite_K.tolist()):
            if not finite:
                stack.heads[k].diverge(epoch, rate_K11[k].item())
        sound = [place for place, k in enumerate(due) if not stack.heads[k].ended]
        if sound:
            due, val_PNC = [due[place] for place in sound], val_PNC[sound]
            val_loss_P = bce(val_PNC, val_targets_NC).tolist()
            train_loss_P = bce(stack.logits(glance, due), targets_CN[:, glance_N].T).tolist()
            val_PNC = val_PNC.cpu().numpy()
            shrinkage_P = [stack.heads[k].config["threshold_shrinkage"] for k in due]
            objective_P = judging.objective(objective, val_PNC, data.judged, shrinkage_P).tolist()
            for k, train_loss, val_loss, value, logits_NC in zip(
                due, train_loss_P, val_loss_P, objective_P, val_PNC, strict=True
            ):
                curve = {"epoch": epoch, "train_loss": train_loss, "val_loss": val_loss, "objective": value}
                floor = (rung_floor or {}).get(epoch, -math.inf)
                stack.heads[k].judge(curve, best_by, stack.weight_KCE[k], logits_NC, floor, patience)

        share = (time.perf_counter() - started) / len(stack.heads)
        for head in stack.heads:
            head.result.seconds += share
        stack.drop_ended()

    _score([head for head in heads if head.logits_NC is not None], data)
    for head in heads:
        if head.weight_CE is not None:
            head.result.head = features[head.config["normalisation"]].head(head.weight_CE)
    return [head.result for head in heads]


def _score(heads: Sequence[_Head], data: ProbeData) -> None:
    """Fills in the metrics and thresholds of each head at its best evaluation."""
    if not heads:
        return
    logits_KNC = np.stack([head.logits_NC for head in heads])
    shrinkage_K = [head.config["threshold_shrinkage"] for head in heads]
    for head, judged in zip(heads, judge(logits_KNC, data.judged, shrinkage_K), strict=True):
        result = head.result
        val_loss = next(point["val_loss"] for point in result.curve if point["epoch"] == result.epoch)
        result.metrics = judged.metrics | {"val.loss": val_loss}
        result.strategy, result.thresholds = judged.strategy, judged.thresholds
        result.few_C = judged.few_C
