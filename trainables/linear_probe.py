"""The linear probe: a bank of K heads trained at once on cached embeddings.

A head is a few thousand numbers, so one alone leaves the processor idle between its matrix products. A bank
stacks K of them and takes every step for all: one product forward, one back, one AdamW update. Nothing
passes from head to head: each has its own learning rate, decay, loss, length and initial weights, its own
gradient clip, and leaves the stack when it ends, lags behind or diverges. A bank of one is the same code.

On a single split the weights of the best evaluation on validation are kept. In cross-validation every
configuration trains once a fold, for the epochs that it names and no fewer: an end chosen by the scores of
the fold that is held out would make these scores too good. Its objective is that of all folds' held-out
scores together (`trainables.pooling`), and its head the average of the folds' heads.

Shape legend: N images, M of them judged, B images of a minibatch, R coordinates of their features
(`trainables.fold_features`), E = R + 1 (the bias is the weight of a last coordinate that is always 1), C
labels, K heads still in training, P of them that are looked at.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scoring.judging import OBJECTIVES, judge, objective
from search_spaces.configuration import Configuration
from trainables.bank_training import BankTraining
from trainables.head_stack import GLANCE, ORDER, GroupFeatures, Head, HeadStack, group_of
from trainables.losses import plain_loss
from trainables.pooling import pooled
from trainables.racing import Earlier, contending
from trainables.records import TrialRecord, judged_fields
from trainables.trial_data import ProbeData
from vlm.linear_head import combined


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
        cross-validation the curve is that of the first fold, and one that is stopped keeps no head and has
        no objective: that of some folds cannot be held beside that of all.

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
        heads=[Head(config) for config in configs],
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

    heads: list[Head]
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
        fields = {}
        if kept:
            losses = [head.best["val_loss"] for head in kept]
            fields = self._judged(kept, np.stack([head.logits_MC for head in kept]), losses)
        return [
            self._record(
                head,
                objective=head.best["objective"],
                epoch=int(head.best["epoch"]),
                arrays={}
                if head.weight_CE is None
                else features[group_of(head.config)].head(head.weight_CE).tensors(),
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
                break
            if fold + 1 < data.folds:
                self._race([head for head in going if not head.out])
        whole = [head for head in self.heads if not head.out and len(head.folds) == data.folds]
        fields = self._judged_together(whole) if whole else {}
        records = []
        for head in self.heads:
            if id(head) in fields:
                own = fields[id(head)]
                (average,) = combined(head.folds, [1 / data.folds] * data.folds)
                own["arrays"] = average.tensors() | own["arrays"]
                value, trained = own["metrics"][f"val.{self.objective_name}"], head.config["epochs"]
            elif head.out:
                own, value = {}, math.nan
                trained = len(head.fold_objectives) * head.config["epochs"] or int(head.best["epoch"])
            else:
                continue
            records.append(
                self._record(
                    head, objective=value, fold_objectives=head.fold_objectives, epoch=trained, **own
                )
            )
        return records

    def _judged_together(self, heads: Sequence[Head]) -> dict[int, dict[str, Any]]:
        """As `_judged`, of heads that are through all folds, by all their held-out scores."""
        rows = self.data.judged()
        held_out_KMC = pooled(np.stack([head.held_out_MC for head in heads]), self.data)
        losses_K = plain_loss(
            [head.config["loss"] for head in heads],
            torch.from_numpy(held_out_KMC),
            torch.tensor(rows.targets_NC),
        )
        fields = self._judged(heads, held_out_KMC, losses_K.tolist())
        for head, held_out_MC in zip(heads, held_out_KMC, strict=True):
            fields[id(head)]["arrays"] = {"held_out_MC": held_out_MC}
        return fields

    def _close_fold(
        self, fold: int, heads: Sequence[Head], features: Mapping[tuple[str, str], GroupFeatures]
    ) -> None:
        """Keep what the heads say of the images that the fold held out, and the heads themselves."""
        if not heads:
            return
        data = self.data
        own_M = data.fold_N[data.judged_N()] == fold
        logits_KMC = np.stack([head.logits_MC for head in heads])
        for head, value in zip(heads, self._objectives(fold, heads, logits_KMC), strict=True):
            head.held_out_MC[own_M] = head.logits_MC
            head.folds.append(features[group_of(head.config)].head(head.weight_CE))
            head.fold_objectives.append(value)

    def _race(self, heads: Sequence[Head]) -> None:
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

    def _train_fold(self, fold: int, heads: Sequence[Head]) -> dict[tuple[str, str], GroupFeatures]:
        """Train the heads until each is done with this fold, or the deadline has passed; the features that
        they saw."""
        data, device = self.data, self.device
        for head in heads:
            head.begin_fold()
        features = {
            group: GroupFeatures(data, fold, group, device)
            for group in dict.fromkeys(group_of(head.config) for head in heads)
        }
        # A view is a further row of its image.
        own_NC = np.tile(data.targets_NC[data.training_N(fold)], (data.views, 1))
        targets_NC = torch.tensor(own_NC, device=device)
        targets_CN = targets_NC.T.contiguous()  # a minibatch of them is then laid out like its logits
        images = len(targets_NC)
        by_width: dict[int, list[Head]] = {}
        for head in heads:
            by_width.setdefault(features[group_of(head.config)].train_NE.shape[1] - 1, []).append(head)
        anchored = {group_of(head.config) for head in heads if head.config.get("anchor", "none") != "none"}
        anchors = {group: features[group].anchor(data.text_CD) for group in anchored}
        stacks = [HeadStack(alike, width, targets_NC, anchors) for width, alike in by_width.items()]
        judge = _Looks(self, fold, features, targets_NC)
        epoch = 0
        while stacks:
            epoch += 1
            draw = np.random.default_rng([self.seed, ORDER, epoch])
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

    def _objectives(self, fold: int, heads: Sequence[Head], logits_KMC: np.ndarray) -> list[float]:
        """Of each head on the images that the fold holds out; NaN where these lack both classes of every
        label that counts."""
        rows = self.data.judged(fold)
        rows = rows.some(np.ones(len(rows.targets_NC), dtype=bool))
        if not rows.averaged_C.any():
            return [math.nan] * len(heads)
        shrinkage_K = [head.config["threshold_shrinkage"] for head in heads]
        return objective(self.objective_name, logits_KMC, rows, shrinkage_K).tolist()

    def _judged(
        self, heads: Sequence[Head], logits_KMC: np.ndarray, losses: Sequence[float]
    ) -> dict[int, dict[str, Any]]:
        """id of a head -> the fields of its record that its judgement fills; `losses` are those of the
        logits, see `plain_loss`."""
        shrinkage_K = [head.config["threshold_shrinkage"] for head in heads]
        judged_K = judge(logits_KMC, self.data.judged(), shrinkage_K)
        found = {}
        for head, judged, loss in zip(heads, judged_K, losses, strict=True):
            fields = judged_fields(judged)
            fields["metrics"] = fields["metrics"] | {"val.loss": loss}
            found[id(head)] = fields
        return found

    def _record(self, head: Head, **fields: Any) -> TrialRecord:
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
        features: Mapping[tuple[str, str], GroupFeatures],
        targets_NC: Tensor,
    ) -> None:
        self.bank, self.fold = bank, fold
        self.at_rungs = fold == 0
        """On later folds nobody is stopped at a rung, so only the last epoch is looked at."""
        self.val = {group: side.val_NE for group, side in features.items()}
        self.val_targets_MC = torch.tensor(bank.data.judged(fold).targets_NC, device=bank.device)
        # The training loss is read off as many images as validation has; all would cost half an epoch.
        glance_N = np.random.default_rng([bank.seed, GLANCE]).permutation(len(targets_NC))
        glance_N = glance_N[: len(self.val_targets_MC)]
        self.glance = {group: side.train_NE[glance_N] for group, side in features.items()}
        self.glance_targets_NC = targets_NC[glance_N]

    def look(self, stack: HeadStack, epoch: int, rate_K11: Tensor) -> None:
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
