"""One fold of a bank: what its heads are trained and evaluated on, on the device.

Shape legend: N images, M of them judged, B images of a minibatch, R coordinates of their features
(`trainables.fold_features`), D columns of text features, E = R + 1 (the bias is the weight of a last
coordinate that is always 1), C labels, P heads that are evaluated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scoring.judging import objective
from search_spaces.configuration import Configuration
from trainables.bank_training import BankTraining
from trainables.fold_features import fold_features
from trainables.head_stack import GLANCE, ORDER, Group, HeadStack, group_of
from trainables.losses import plain_loss
from trainables.stopping import Point
from trainables.trial_data import ProbeData
from vlm.linear_head import LinearHead


@dataclass(frozen=True, kw_only=True, eq=False)
class Bank:
    """What the heads of a bank share; see the arguments of `trainables.linear_probe.train_bank`."""

    data: ProbeData
    training: BankTraining
    objective_name: str
    seed: int
    device: str
    deadline: float


class GroupFeatures:
    """The features of one group in one fold, with a last column of ones."""

    def __init__(self, data: ProbeData, fold: int, group: Group, device: str) -> None:
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


class BankFold:
    """Training and held-out images of one fold, as features of every group of a bank."""

    def __init__(self, configs: Sequence[Configuration], bank: Bank, fold: int) -> None:
        """`configs`: one at least; whose features are prepared."""
        data, device = bank.data, bank.device
        self.bank, self.fold = bank, fold
        self._features = {
            group: GroupFeatures(data, fold, group, device) for group in dict.fromkeys(map(group_of, configs))
        }
        self.train_NE = {group: features.train_NE for group, features in self._features.items()}
        self._val_NE = {group: features.val_NE for group, features in self._features.items()}
        # A view is a further row of its image.
        own_NC = np.tile(data.targets_NC[data.training_N(fold)], (data.image_views, 1))
        self.targets_NC = torch.tensor(own_NC, device=device)
        self._targets_CN = self.targets_NC.T.contiguous()  # a minibatch is then laid out like its logits
        self._val_targets_MC = torch.tensor(data.judged(fold).targets_NC, device=device)
        # The training loss is read off as many images as validation has; all would cost half an epoch.
        glance_N = np.random.default_rng([bank.seed, GLANCE]).permutation(len(own_NC))
        glance_N = glance_N[: len(self._val_targets_MC)]
        self._glance_NE = {group: train_NE[glance_N] for group, train_NE in self.train_NE.items()}
        self._glance_targets_NC = self.targets_NC[glance_N]

    def stacks(self, configs: Sequence[Configuration]) -> list[HeadStack]:
        """The heads about to be trained, a stack for those of equally many coordinates; each knows their
        places in `configs`."""
        by_width: dict[int, dict[int, Configuration]] = {}
        for place, config in enumerate(configs):
            coordinates = self.train_NE[group_of(config)].shape[1] - 1
            by_width.setdefault(coordinates, {})[place] = config
        anchored = {group_of(config) for config in configs if config.get("anchor", "none") != "none"}
        anchors = {group: self._features[group].anchor(self.bank.data.text_CD) for group in anchored}
        start = self.bank.training.initial_weights
        return [HeadStack(alike, width, self.targets_NC, anchors, start) for width, alike in by_width.items()]

    def batches(self, epoch: int) -> tuple[Tensor, ...]:
        """index_B of the training images, minibatch by minibatch."""
        draw = np.random.default_rng([self.bank.seed, ORDER, epoch])
        order_N = torch.from_numpy(draw.permutation(len(self.targets_NC))).to(self.bank.device)
        return order_N.split(self.bank.training.batch_size)

    def targets(self, index_B: Tensor) -> Tensor:
        """targets_BC of these training images."""
        return self._targets_CN.index_select(1, index_B).T

    def logits(self, stack: HeadStack, heads: list[int]) -> Tensor:
        """logits_PMC on the held-out images."""
        return stack.logits(self._val_NE, heads)

    def points(self, stack: HeadStack, heads: list[int], logits_PMC: Tensor, epoch: int) -> list[Point]:
        """The evaluation of these heads of the stack, whose logits on the held-out images are given."""
        configs = [stack.configs[k] for k in heads]
        losses_P = [config["loss"] for config in configs]
        val_loss_P = plain_loss(losses_P, logits_PMC, self._val_targets_MC)
        train_loss_P = plain_loss(losses_P, stack.logits(self._glance_NE, heads), self._glance_targets_NC)
        columns = train_loss_P.tolist(), val_loss_P.tolist(), self._objectives(configs, logits_PMC)
        return [
            {"epoch": epoch, "train_loss": train_loss, "val_loss": val_loss, "objective": value}
            for train_loss, val_loss, value in zip(*columns, strict=True)
        ]

    def _objectives(self, configs: Sequence[Configuration], logits_PMC: Tensor) -> list[float]:
        """NaN where the held-out images lack both classes of every label that counts."""
        rows = self.bank.data.judged(self.fold)
        rows = rows.some(np.ones(len(rows.targets_NC), dtype=bool))
        if not rows.averaged_C.any():
            return [math.nan] * len(configs)
        shrinkage_P = [config["threshold_shrinkage"] for config in configs]
        return objective(self.bank.objective_name, logits_PMC.cpu().numpy(), rows, shrinkage_P).tolist()

    def head(self, config: Configuration, weight_CE: np.ndarray) -> LinearHead:
        """A head of the bank on the encoder's own features."""
        return self._features[group_of(config)].head(weight_CE)
