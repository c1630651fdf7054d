"""The steps of a fine-tuning trial, each in as many micro-batches as the memory asks for.

Shape legend: N images that are trained on, B images of a batch, H height, W width, C labels, S steps.
"""

from __future__ import annotations

import math
import time

import numpy as np
import torch
from torch import Tensor

from search_spaces.configuration import Configuration
from trainables.augmentation import STRONGEST, Draw, distort, draw
from trainables.fine_tune_compute import Diverged
from trainables.fine_tune_config import Training, learning_rate_factor, tower_rate
from trainables.fine_tune_model import FineTuneModel, key_of
from trainables.fine_tune_optimizer import new_optimizer, update, update_averages
from trainables.fine_tune_state import TrainingState
from trainables.image_batches import Batches
from trainables.losses import BankLoss, plain_loss
from trainables.trial_data import FineTuneData

# Looking at a loss waits for the device, so it is looked at in groups of this many steps.
_STEPS_BETWEEN_LOOKS = 50


class Steps:
    """Trains a model on the training images."""

    def __init__(
        self,
        config: Configuration,
        model: FineTuneModel,
        state: TrainingState,
        data: FineTuneData,
        training: Training,
    ) -> None:
        self._config, self._model, self._state, self._training = config, model, state, training
        self._images_NHWC, train_N = data.images_NHWC, data.training_N()
        self._rows_N = data.rows_N[train_N]
        self._targets_NC = torch.tensor(data.targets_NC[train_N], device=model.device)
        self._loss = BankLoss.of([config], self._targets_NC)
        self._augmentation = STRONGEST.scaled(config["augmentation"])
        if training.horizontal_flip:
            self._augmentation = self._augmentation.mirrored()

    @property
    def images(self) -> int:
        """How many are trained on."""
        return len(self._rows_N)

    @property
    def an_epoch(self) -> int:
        """How many steps an epoch has."""
        return math.ceil(self.images / self._training.batch_size)

    def run_epoch(self, deadline: float) -> tuple[float, float]:
        """One epoch of steps.

        Args:
            deadline: `time.time()` after which no step is taken.

        Returns:
            the training loss (`losses.plain_loss` of all entries, each as its batch came up) and the seconds
            spent waiting for data.

        Raises:
            Diverged, OutOfMemory, TimeoutError: see `FineTuneTrial.run_epoch`.
        """
        config, training, state, steps = self._config, self._training, self._state, self.an_epoch
        device = self._model.device
        self._model.tower.train()
        if training.fresh_optimizer:
            state.optimizer = new_optimizer(config, self._model)
        order_N = np.random.default_rng([config.seed, state.epoch + 1]).permutation(self.images)
        orders = np.split(order_N, range(training.batch_size, self.images, training.batch_size))
        batches = Batches(self._images_NHWC, [self._rows_N[order_B] for order_B in orders], device)
        targets_NC = self._targets_NC[torch.from_numpy(order_N).to(device)]
        losses_S, plain_S, entries_S = torch.zeros(3, steps, device=device)
        for step, images_BHWC in enumerate(batches):
            if time.time() >= deadline:
                raise TimeoutError
            position = state.epoch * steps + step
            factor = learning_rate_factor(position, config["epochs"] * steps, training)
            for group in state.optimizer.param_groups:
                group["lr"] = group["greatest_lr"] * factor
            targets_BC = targets_NC[step * training.batch_size :][: len(images_BHWC)]
            entries_S[step] = targets_BC.isfinite().sum()
            losses_S[step], plain_S[step] = self.gradients(images_BHWC, targets_BC, step)
            update(state, training.clip_norm)
            update_averages(state, config["ema_decay"], position)
            if (step + 1) % _STEPS_BETWEEN_LOOKS == 0 or step + 1 == steps:
                self._check_finite(losses_S[: step + 1])
        return ((plain_S * entries_S).sum() / entries_S.sum()).item(), batches.wait_seconds

    def gradients(self, images_BHWC: Tensor, targets_BC: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Leaves the gradients of the batch's loss in the parameters; returns that loss and the plain one.

        Where the memory does not hold a micro-batch, the step is repeated with half as many images at once:
        nothing has moved yet, and the same distortions are drawn again. (Dropout is drawn by micro-batch.)
        """
        key = key_of(self._config, "step", self._state.epoch + 1, step)
        drawn = None
        if not self._augmentation.changes_nothing:
            generator = torch.Generator().manual_seed(key)
            drawn = draw(self._augmentation, len(images_BHWC), generator).to(self._model.device)
        while True:
            self._seed_dropout(key)
            self._state.optimizer.zero_grad()
            try:
                return self._accumulate(images_BHWC, targets_BC, drawn)
            except torch.OutOfMemoryError:
                pass  # repeated outside this clause, where the traceback no longer holds the activations
            self._state.optimizer.zero_grad()
            self._state.micro_batch = self._model.half(min(self._state.micro_batch, len(images_BHWC)))

    def _accumulate(
        self, images_BHWC: Tensor, targets_BC: Tensor, drawn: Draw | None
    ) -> tuple[Tensor, Tensor]:
        """Adds up the gradients of the micro-batches, each weighed by its share of the batch's unmasked
        entries: their sum is the gradient of the batch's own masked mean."""
        counted_BC = ~targets_BC.isnan()
        entries = counted_BC.sum().clamp(min=1)
        loss, plain = torch.zeros((), device=self._model.device), torch.zeros((), device=self._model.device)
        for start in range(0, len(images_BHWC), self._state.micro_batch):
            part = slice(start, start + self._state.micro_batch)
            images = images_BHWC[part]
            if drawn is not None:
                images = distort(images, drawn[part])
            logits_BC = self._model.logits(images)
            share = counted_BC[part].sum() / entries
            part_loss = self._loss.loss(logits_BC[None], targets_BC[part])[0] * share
            self._state.scaler.scale(part_loss).backward()
            with torch.no_grad():
                loss += part_loss
                plain += plain_loss([self._config["loss"]], logits_BC[None], targets_BC[part])[0] * share
        return loss, plain

    def _seed_dropout(self, key: int) -> None:
        device = self._model.device
        torch.default_generator.manual_seed(key)
        if device.type == "cuda":
            torch.cuda.default_generators[device.index].manual_seed(key)

    def _check_finite(self, losses_S: Tensor) -> None:
        bad = (~losses_S.isfinite()).nonzero().flatten().tolist()
        if bad:
            raise self.diverged(f"the training loss was {losses_S[bad[0]].item()}", bad[0])

    def diverged(self, what: str, step: int) -> Diverged:
        """The failure of step `step`, from 0, of the current epoch."""
        config, steps = self._config, self.an_epoch
        position = self._state.epoch * steps + step
        factor = learning_rate_factor(position, config["epochs"] * steps, self._training)
        return Diverged(
            f"diverged: {what} in step {position + 1} (epoch {self._state.epoch + 1}) at learning rate "
            f"{tower_rate(config) * factor:.3g} of the tower and "
            f"{config['head_learning_rate'] * factor:.3g} of the head"
        )
