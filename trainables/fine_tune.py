"""Fine-tuning: one image tower and a linear head, trained together on images.

A trial is put together of what is trained (`fine_tune_model`), its training (`fine_tune_step`, with
`fine_tune_optimizer`), its judging (`fine_tune_judging`), and all that moves with the files in which it rests
(`fine_tune_state`).

Every draw is keyed by what it is for: the initial weights by (seed, trial), the order of the images by (seed,
epoch), distortions and dropout by (seed, trial, epoch, step). So there is no generator state to carry from
epoch to epoch: a resumed epoch draws what the uninterrupted one draws, and nothing outside the trial is
disturbed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scoring.judging import OBJECTIVES
from search_spaces.configuration import Configuration
from trainables.fine_tune_compute import Compute, TrialFailed, peak_memory
from trainables.fine_tune_config import Training
from trainables.fine_tune_judging import Validation
from trainables.fine_tune_model import FineTuneModel
from trainables.fine_tune_optimizer import new_optimizer
from trainables.fine_tune_state import TrainingState, load_newest, save_best, save_checkpoint
from trainables.fine_tune_step import Steps
from trainables.records import TrialRecord
from trainables.trial_data import FineTuneData
from vlm.encoders import Encoder
from vlm.linear_head import LinearHead


class FineTuneTrial:
    """One configuration in training, an epoch at a time.

    Attributes:
        model: the tower and the head.
        state: epochs trained, the curve, weights and moments: all that moves.
        steps: the training side.
    """

    def __init__(
        self,
        config: Configuration,
        encoder: Encoder,
        data: FineTuneData,
        *,
        head: LinearHead | None = None,
        training: Training = Training(),
        objective_name: str = "macro_ap",
        compute: Compute = Compute(),
    ) -> None:
        """
        Args:
            config: of the space `search_spaces.fine_tune`.
            encoder: where the tower starts; it is copied and stays as it is.
            data: development rows with one fold, which is validation, stored at the encoder's size.
            head: a probe trained on this encoder's features, for `init_head` probe.
            training: what the study holds still.
            objective_name: one of `scoring.judging.OBJECTIVES`.
            compute: where and how.

        Raises:
            InputError: a method that does not fit the tower, an unknown precision or device.
            ValueError: parts that do not fit each other.
        """
        self.config, self.data, self.training, self.objective_name = config, data, training, objective_name
        size = encoder.geometry.size
        if data.images_NHWC.shape[1:3] != (size, size):
            raise ValueError(
                f"{data.images_file} must hold images of {size} x {size} pixels for encoder {encoder.name}, "
                f"not {data.images_NHWC.shape[1]} x {data.images_NHWC.shape[2]}"
            )
        if data.folds != 1:
            raise ValueError(f"data must have one fold, not {data.folds}")
        if objective_name not in OBJECTIVES:
            raise ValueError(f"objective_name must be one of {', '.join(OBJECTIVES)}, not {objective_name!r}")
        self._fingerprint, self._failure = encoder.fingerprint, ""
        self.model = model = FineTuneModel(config, encoder, len(data.labels), head=head, compute=compute)
        parameters = model.parameters()
        averages = None
        if config["ema_decay"]:
            averages = {name: p.detach().clone() for name, p in parameters.items()}
        self.state = TrainingState(
            parameters=parameters,
            averages=averages,
            head=model.head,
            new_optimizer=lambda: new_optimizer(config, model),
            fresh_optimizer=training.fresh_optimizer,
            scaler=torch.amp.GradScaler(model.device.type, enabled=model.precision == "fp16"),
            micro_batch=min(compute.micro_batch or training.batch_size, training.batch_size),
        )
        self.steps = Steps(config, model, self.state, data, training)
        self._validation = Validation(config, data, objective_name, training.best_by)

    # -- what it is --

    @property
    def finished(self) -> bool:
        """Whether the last epoch is done, the patience spent, or the trial has failed."""
        patience = self.training.patience
        stale = patience is not None and self.state.epochs_waited >= patience
        return self.state.epoch >= self.config["epochs"] or stale or bool(self._failure)

    @property
    def best_epoch(self) -> int:
        """The epoch whose weights are kept, from 1; 0 before the first."""
        return self.state.best.epoch

    @property
    def trained_parameters(self) -> int:
        """How many numbers are trained, the head's included."""
        return self.state.trained_parameters

    # -- training --

    def run_epoch(self, deadline: float = math.inf) -> dict[str, float]:
        """Trains one epoch and judges it on validation.

        Args:
            deadline: `time.time()` after which no step is taken.

        Returns:
            epoch (from 1); train_loss (`losses.plain_loss` of the training entries, each as its batch came
            up) and val_loss (the same of validation); objective; images_per_second (of training);
            data_wait_share (of training time, an upper bound: the device may still have been busy);
            peak_device_memory_mb (on the CPU: of the whole process); tower_learning_rate and
            head_learning_rate (of the epoch's last step); micro_batch; seconds.

        Raises:
            Diverged: a loss is not finite.
            OutOfMemory: not one image at a time fits.
            RuntimeError: the trial is finished.
            TimeoutError: the deadline came within the epoch; go on from the last resume point.
        """
        if self.finished:
            raise RuntimeError(f"trial {self.config.number} is finished after epoch {self.state.epoch}")
        started = time.perf_counter()
        device = self.model.device
        cuda = device.type == "cuda"
        if cuda:
            torch.cuda.reset_peak_memory_stats(device)
        try:
            with torch.random.fork_rng(devices=[device] if cuda else []):
                train_loss, wait_seconds = self.steps.run_epoch(deadline)
            training_seconds = time.perf_counter() - started
            point = {
                "epoch": self.state.epoch + 1,
                "train_loss": train_loss,
                **self._judge(),
                "images_per_second": self.steps.images / training_seconds,
                "data_wait_share": wait_seconds / training_seconds,
                "peak_device_memory_mb": peak_memory(device) / 2**20,
                "tower_learning_rate": self.state.optimizer.param_groups[0]["lr"],
                "head_learning_rate": self.state.optimizer.param_groups[-1]["lr"],
                "micro_batch": self.state.micro_batch,
            }
        except TrialFailed as failure:
            self._failure = str(failure)
            raise
        point["seconds"] = time.perf_counter() - started
        self.state.seconds += point["seconds"]
        self.state.epoch += 1
        self.state.curve.append(point)
        return point

    def _judge(self) -> dict[str, float]:
        """val_loss and objective of the weights as they are; the best are kept."""
        logits_NC = self._validation.logits(self.model, self.state)
        if not np.isfinite(logits_NC).all():
            raise self.steps.diverged("a logit on validation was not finite", self.steps.an_epoch - 1)
        return self._validation.judge(logits_NC, self.state)

    # -- results --

    def record(self, state: str | None = None, reason: str = "") -> TrialRecord:
        """The trial so far, at its best epoch.

        Args:
            state: COMPLETE, PRUNED or FAIL; None: FAIL where training failed, otherwise COMPLETE.
            reason: why it ended early; empty: what the trial itself knows.
        """
        state = state or ("FAIL" if self._failure else "COMPLETE")
        if not reason:
            reason = self._failure
            if not reason and self.finished and self.state.epoch < self.config["epochs"]:
                kept_by, patience = self.training.best_by, self.training.patience
                reason = f"no better {kept_by} in {patience} epochs up to epoch {self.state.epoch}"
        common = {
            "number": self.config.number,
            "preset": self.config.preset,
            "params": dict(self.config.params),
            "state": state,
            "reason": reason,
            "curve": list(self.state.curve),
            "seconds": self.state.seconds,
            "precision": self.model.precision,
        }
        if state == "FAIL" or self.state.best.logits_NC is None:
            return TrialRecord(**common, epoch=self.state.epoch)
        fields = self._validation.record_fields(self.state)
        return TrialRecord(**common, arrays=self.best_head().tensors(), **fields)

    def best_head(self) -> LinearHead:
        """The head of the best epoch; RuntimeError before the first."""
        weights = self._best_weights()
        return self.model.head.linear_head(weights["head.weight_DC"], weights["head.bias_C"])

    def _best_weights(self) -> dict[str, Tensor]:
        if self.state.best.weights is None:
            raise RuntimeError(f"trial {self.config.number} has no judged epoch yet")
        return self.state.best.weights

    # -- checkpoint --

    def save_checkpoint(self, folder: Path | str) -> Path:
        """Write the state into `folder`, whole or not at all; returns the file. RuntimeError where the trial
        has failed."""
        if self._failure:
            raise RuntimeError(f"trial {self.config.number} has failed: there is nothing to continue from")
        return save_checkpoint(folder, self.state, self.identity)

    def load_newest(self, folders: Sequence[Path | str]) -> tuple[Path | None, list[str]]:
        """Continue from the first whole checkpoint of `folders`; see `fine_tune_state.load_newest`."""
        return load_newest(folders, self.state, self.identity)

    def save_best(self, folder: Path | str) -> Path:
        """Write what `load_best` needs of the best epoch, and nothing that only training needs."""
        return save_best(folder, self._best_weights(), self.best_head(), self.identity)

    @property
    def identity(self) -> dict[str, Any]:
        """What a checkpoint must agree on with the trial that continues from it."""
        return {
            "encoder": self._fingerprint,
            "labels": list(self.data.labels),
            "data": self.data.digest,
            "params": dict(self.config.params),
            "number": self.config.number,
            "seed": self.config.seed,
            "objective": self.objective_name,
            "training": asdict(self.training),
        }
