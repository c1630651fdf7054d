"""Fine-tuning: one image tower and a linear head, trained together on images.

Every draw is keyed by what it is for: the initial weights by (seed, trial), the order of the images by (seed,
epoch), distortions and dropout by (seed, trial, epoch, step). So there is no generator state to carry from
epoch to epoch: a resumed epoch draws what the uninterrupted one draws, and nothing outside the trial is
disturbed.

Shape legend: N images of a split, B images of a batch, H height, W width, D features, C labels, S steps.
"""

from __future__ import annotations

import math
import resource
import sys
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import get_ema_multi_avg_fn

from cohort.errors import InputError
from scoring import judging
from search_spaces.configuration import Configuration
from search_spaces.fine_tune import SPACE
from trainables import checkpoints
from trainables.augmentation import STRONGEST, Draw, distort, draw
from trainables.checkpoints import CorruptCheckpoint
from trainables.fine_tune_config import Method, Training, learning_rate_factor, tower_method, tower_rate
from trainables.fine_tune_data import Batches, FineTuneData
from trainables.losses import BankLoss, bce
from trainables.records import TrialRecord
from trainables.tower import TrainableTower
from vlm.encoders import Encoder
from vlm.linear_head import LinearHead
from vlm.precision import resolve_precision

CHECKPOINT, BEST = "trial.safetensors", "best.safetensors"

# Looking at a loss waits for the device, so it is looked at in groups of this many steps.
_STEPS_BETWEEN_LOOKS = 50
# Without gradients a batch this many times larger takes no more memory than a training step.
_VALIDATION_BATCHES = 4


class TrialFailed(RuntimeError):
    """This configuration cannot be trained on; others can. One line, for the trial's record."""


class Diverged(TrialFailed):
    """A loss that is no number."""


class OutOfMemory(TrialFailed):
    """Not even one image at a time fits the device."""


class Head(nn.Module):
    """A `LinearHead` in training: weight and bias move, its normalisation of the features stays.

    A head that was trained on normalised features goes on with them, so that its learning rate means what
    it meant there.
    """

    def __init__(self, head: LinearHead) -> None:
        super().__init__()
        self.weight_DC = nn.Parameter(torch.tensor(head.weight_DC))
        self.bias_C = nn.Parameter(torch.tensor(head.bias_C))
        self.register_buffer("mean_D", torch.tensor(head.mean_D))
        self.register_buffer("scale_D", torch.tensor(head.scale_D))
        self.l2 = head.l2

    @classmethod
    def fresh(cls, features: int, labels: int, key: Sequence[int]) -> Head:
        """Xavier-uniform (Glorot and Bengio, AISTATS 2010, eq. 16) and bias 0, on features as they are."""
        bound = math.sqrt(6 / (features + labels))
        weight_CD = np.random.default_rng(key).uniform(-bound, bound, (labels, features))
        return cls(
            LinearHead(
                weight_DC=np.ascontiguousarray(weight_CD.T, dtype=np.float32),
                bias_C=np.zeros(labels, np.float32),
                mean_D=np.zeros(features, np.float32),
                scale_D=np.ones(features, np.float32),
            )
        )

    def forward(self, features_BD: Tensor) -> Tensor:
        """float32 logits (B, C)."""
        if self.l2:
            features_BD = F.normalize(features_BD, dim=1)
        return (features_BD - self.mean_D) / self.scale_D @ self.weight_DC + self.bias_C

    def linear_head(self, weight_DC: Tensor, bias_C: Tensor) -> LinearHead:
        """The head with these weights, as it is exported."""
        arrays = (weight_DC, bias_C, self.mean_D, self.scale_D)
        weight_DC, bias_C, mean_D, scale_D = (tensor.detach().cpu().numpy().copy() for tensor in arrays)
        return LinearHead(weight_DC=weight_DC, bias_C=bias_C, mean_D=mean_D, scale_D=scale_D, l2=self.l2)


@dataclass(eq=False)
class _Best:
    """The best epoch so far."""

    epoch: int = 0
    score: float = -math.inf
    weights: dict[str, Tensor] | None = None
    """Trained parameters, on the CPU."""
    logits_NC: np.ndarray | None = None
    """On validation."""


class FineTuneTrial:
    """One configuration in training, an epoch at a time.

    Attributes:
        epoch: epochs trained.
        curve: what `run_epoch` returned, one entry an epoch.
        micro_batch: images that are on the device at once in a training step; falls when the memory is full.
    """

    def __init__(
        self,
        config: Configuration,
        encoder: Encoder,
        data: FineTuneData,
        *,
        head: LinearHead | None = None,
        training: Training | None = None,
        device: str | torch.device = "cpu",
        precision: str = "auto",
        micro_batch: int | None = None,
        compile_tower: bool = False,
    ) -> None:
        """
        Args:
            config: of the space `search_spaces.fine_tune`.
            encoder: where the tower starts; it is copied and stays as it is.
            data: training and validation, stored at the encoder's size.
            head: a probe trained on this encoder's features, for `init_head` probe.
            training: what the study holds still; None: the defaults.
            device: "cpu", "cuda", ...; how many threads torch may use is the caller's business.
            precision: of the tower's products: fp32, bf16, fp16 (with a gradient scaler), or auto: bf16
                where the device computes in it, otherwise fp16 on a GPU and fp32 elsewhere.
            micro_batch: how many images to try first at once; None: the whole batch.
            compile_tower: hand the tower to `torch.compile`; worth its minute only for long trainings.

        Raises:
            InputError: a method that does not fit the tower, an unknown precision or device.
            ValueError: parts that do not fit each other.
        """
        self.config, self.data, self.training = config, data, training or Training()
        self.device = _existing(device)
        self.precision = resolve_precision(precision, self.device, training=True)
        size, labels = encoder.geometry.size, len(data.labels)
        if data.images_NHWC.shape[1:3] != (size, size):
            raise ValueError(
                f"{data.images_file} must hold images of {size} x {size} pixels for encoder {encoder.name}, "
                f"not {data.images_NHWC.shape[1]} x {data.images_NHWC.shape[2]}"
            )
        if micro_batch is not None and micro_batch < 1:
            raise ValueError(f"micro_batch must be at least 1 or None, not {micro_batch}")
        if config["init_head"] == "probe":
            if head is None:
                raise ValueError("head must be given for init_head probe")
            if head.weight_DC.shape != (encoder.width, labels):
                raise ValueError(f"head must be {(encoder.width, labels)}, not {head.weight_DC.shape}")
        self.micro_batch = min(micro_batch or self.training.batch_size, self.training.batch_size)
        self.epoch = 0
        self.curve: list[dict[str, float]] = []
        self._encoder, self._best, self._waited, self._seconds = encoder, _Best(), 0, 0.0
        self._failure = ""

        self._tower = TrainableTower(encoder, tower_method(config), seed=self._key("tower")).to(self.device)
        if config["init_head"] == "probe":
            self._head = Head(head).to(self.device)
        else:
            self._head = Head.fresh(encoder.width, labels, (config.seed, config.number)).to(self.device)
        self._features = self._tower
        if compile_tower:
            # Graphs of the trials before it in this process count against the limit, past which nothing is
            # compiled any more.
            torch.compiler.reset()
            self._features = torch.compile(self._tower)
        self._parameters = {f"tower.{name}": parameter for name, parameter in self._tower.trained.items()}
        self._parameters |= {f"head.{name}": parameter for name, parameter in self._head.named_parameters()}
        self._averages = None
        if config["ema_decay"]:
            self._averages = {name: p.detach().clone() for name, p in self._parameters.items()}
        self._optimizer = self._new_optimizer()
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")

        self._train_targets_NC = torch.tensor(data.train_targets_NC, device=self.device)
        self._loss = BankLoss.of([config], self._train_targets_NC)
        self._augmentation = STRONGEST.scaled(config["augmentation"])
        if self.training.horizontal_flip:
            self._augmentation = self._augmentation.mirrored()

    # -- what it is --

    @property
    def finished(self) -> bool:
        """Whether the last epoch is done, the patience spent, or the trial has failed."""
        patience = self.training.patience
        stale = patience is not None and self._waited >= patience
        return self.epoch >= self.config["epochs"] or stale or bool(self._failure)

    @property
    def best_epoch(self) -> int:
        """The epoch whose weights are kept, from 1; 0 before the first."""
        return self._best.epoch

    @property
    def trained_parameters(self) -> int:
        """How many numbers are trained, the head's included."""
        return sum(parameter.numel() for parameter in self._parameters.values())

    @property
    def steps_an_epoch(self) -> int:
        return math.ceil(len(self.data.train_rows_N) / self.training.batch_size)

    # -- training --

    def run_epoch(self) -> dict[str, float]:
        """Trains one epoch and judges it on validation.

        Returns:
            epoch (from 1); train_loss (unweighted BCE of the training entries, each as its batch came up) and
            val_loss (unweighted BCE); objective; images_per_second (of training); data_wait_share (of
            training time, an upper bound: the device may still have been busy); peak_device_memory_mb (on the
            CPU: of the whole process); tower_learning_rate and head_learning_rate (of the epoch's last step);
            micro_batch; seconds.

        Raises:
            Diverged: a loss is not finite.
            OutOfMemory: not one image at a time fits.
            RuntimeError: the trial is finished.
        """
        if self.finished:
            raise RuntimeError(f"trial {self.config.number} is finished after epoch {self.epoch}")
        started = time.perf_counter()
        cuda = self.device.type == "cuda"
        if cuda:
            torch.cuda.reset_peak_memory_stats(self.device)
        try:
            with torch.random.fork_rng(devices=[self.device] if cuda else []):
                train_loss, waited = self._train()
            training_seconds = time.perf_counter() - started
            point = {
                "epoch": self.epoch + 1,
                "train_loss": train_loss,
                **self._judge(),
                "images_per_second": len(self.data.train_rows_N) / training_seconds,
                "data_wait_share": waited / training_seconds,
                "peak_device_memory_mb": _peak_memory(self.device) / 2**20,
                "tower_learning_rate": self._optimizer.param_groups[0]["lr"],
                "head_learning_rate": self._optimizer.param_groups[-1]["lr"],
                "micro_batch": self.micro_batch,
            }
        except TrialFailed as failure:
            self._failure = str(failure)
            raise
        point["seconds"] = time.perf_counter() - started
        self._seconds += point["seconds"]
        self.epoch += 1
        self.curve.append(point)
        return point

    def _train(self) -> tuple[float, float]:
        """One epoch of steps; the training loss and the seconds waited for data."""
        config, training, steps = self.config, self.training, self.steps_an_epoch
        self._tower.train()
        if training.fresh_optimizer:
            self._optimizer = self._new_optimizer()
        images = len(self.data.train_rows_N)
        order_N = np.random.default_rng([config.seed, self.epoch + 1]).permutation(images)
        orders = np.split(order_N, range(training.batch_size, images, training.batch_size))
        batches = Batches(
            self.data.images_NHWC, [self.data.train_rows_N[order_B] for order_B in orders], self.device
        )
        targets_NC = self._train_targets_NC[torch.from_numpy(order_N).to(self.device)]
        losses_S = torch.zeros(steps, device=self.device)
        bce_S = torch.zeros(steps, device=self.device)
        entries_S = torch.zeros(steps, device=self.device)
        for step, images_BHWC in enumerate(batches):
            position = self.epoch * steps + step
            factor = learning_rate_factor(position, config["epochs"] * steps, training)
            for group in self._optimizer.param_groups:
                group["lr"] = group["greatest_lr"] * factor
            targets_BC = targets_NC[step * training.batch_size :][: len(images_BHWC)]
            entries_S[step] = targets_BC.isfinite().sum()
            losses_S[step], bce_S[step] = self._gradients(images_BHWC, targets_BC, step)
            self._update(position)
            if (step + 1) % _STEPS_BETWEEN_LOOKS == 0 or step + 1 == steps:
                self._check_finite(losses_S[: step + 1])
        return ((bce_S * entries_S).sum() / entries_S.sum()).item(), batches.waited

    def _gradients(self, images_BHWC: Tensor, targets_BC: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Leaves the gradients of the batch's loss in the parameters; returns that loss and the plain BCE.

        Where the memory does not hold a micro-batch, the step is repeated with half as many images at once:
        nothing has moved yet, and the same distortions are drawn again. (Dropout is drawn by micro-batch.)
        """
        key = self._key("step", self.epoch + 1, step)
        drawn = None
        if not self._augmentation.changes_nothing:
            generator = torch.Generator().manual_seed(key)
            drawn = draw(self._augmentation, len(images_BHWC), generator).to(self.device)
        while True:
            self._seed_dropout(key)
            self._optimizer.zero_grad()
            try:
                return self._accumulate(images_BHWC, targets_BC, drawn)
            except torch.OutOfMemoryError:
                pass  # repeated outside this clause, where the traceback no longer holds the activations
            self._optimizer.zero_grad()
            self.micro_batch = self._half(min(self.micro_batch, len(images_BHWC)))

    def _accumulate(
        self, images_BHWC: Tensor, targets_BC: Tensor, drawn: Draw | None
    ) -> tuple[Tensor, Tensor]:
        """Adds up the gradients of the micro-batches, each weighed by its share of the batch's unmasked
        entries: their sum is the gradient of the batch's own masked mean."""
        counted_BC = ~targets_BC.isnan()
        entries = counted_BC.sum().clamp(min=1)
        loss, plain = torch.zeros((), device=self.device), torch.zeros((), device=self.device)
        for start in range(0, len(images_BHWC), self.micro_batch):
            part = slice(start, start + self.micro_batch)
            images = images_BHWC[part]
            if drawn is not None:
                images = distort(images, drawn[part])
            logits_BC = self._logits(images)
            share = counted_BC[part].sum() / entries
            part_loss = self._loss.loss(logits_BC[None], targets_BC[part])[0] * share
            self._scaler.scale(part_loss).backward()
            with torch.no_grad():
                loss += part_loss
                plain += bce(logits_BC[None], targets_BC[part])[0] * share
        return loss, plain

    def _logits(self, images_BHWC: Tensor) -> Tensor:
        """float32; only the tower computes in a lower precision."""
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float16
        with torch.autocast(self.device.type, dtype=dtype, enabled=self.precision != "fp32"):
            features_BD = self._features(images_BHWC)
        return self._head(features_BD)

    def _update(self, position: int) -> None:
        """One AdamW step, and one of the running means."""
        if self.training.clip_norm is not None:
            self._scaler.unscale_(self._optimizer)
            nn.utils.clip_grad_norm_(self._parameters.values(), self.training.clip_norm)
        try:
            self._scaler.step(self._optimizer)
        except torch.OutOfMemoryError:
            raise OutOfMemory(
                f"out of memory: AdamW's moments of {self.trained_parameters:,} parameters do not fit beside "
                f"them on {self.device}; run fewer trials on it, or train lora, bitfit or last_blocks"
            ) from None
        self._scaler.update()
        if self._averages is not None:
            # In the first steps the mean is over the steps there were (as in TensorFlow's
            # ExponentialMovingAverage), so that the initial weights do not linger.
            decay = min(self.config["ema_decay"], (1 + position) / (10 + position))
            average = get_ema_multi_avg_fn(decay)
            average(list(self._averages.values()), list(self._parameters.values()), None)

    def _new_optimizer(self) -> torch.optim.AdamW:
        """AdamW with a group for each rate and decay: the tower's from the top down, then the head's."""
        config, tower = self.config, self._tower
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name in sorted(tower.trained, key=lambda name: -tower.layer[name]):
            below_top = tower.top_layer - tower.layer[name]
            rate = tower_rate(config) * config.get("layer_decay", 1.0) ** below_top
            decay = config["weight_decay"] if tower.decays(name) else 0.0
            groups.setdefault((rate, decay), []).append(tower.trained[name])
        settings = [(parameters, rate, decay) for (rate, decay), parameters in groups.items()]
        settings.append(([self._head.weight_DC], config["head_learning_rate"], config["weight_decay"]))
        settings.append(([self._head.bias_C], config["head_learning_rate"], 0.0))
        return torch.optim.AdamW(
            [
                {"params": parameters, "lr": rate, "greatest_lr": rate, "weight_decay": decay}
                for parameters, rate, decay in settings
            ],
            fused=self.device.type in ("cpu", "cuda"),
        )

    def _check_finite(self, losses_S: Tensor) -> None:
        bad = (~losses_S.isfinite()).nonzero().flatten().tolist()
        if bad:
            self._diverge(f"the training loss was {losses_S[bad[0]].item()}", bad[0])

    def _diverge(self, what: str, step: int) -> None:
        position = self.epoch * self.steps_an_epoch + step
        factor = learning_rate_factor(position, self.config["epochs"] * self.steps_an_epoch, self.training)
        raise Diverged(
            f"diverged: {what} in step {position + 1} (epoch {self.epoch + 1}) at learning rate "
            f"{tower_rate(self.config) * factor:.3g} of the tower and "
            f"{self.config['head_learning_rate'] * factor:.3g} of the head"
        )

    def _half(self, images: int) -> int:
        """How many images to try at once where `images` did not fit."""
        if images == 1:
            raise OutOfMemory(
                f"out of memory: one image of encoder {self._encoder.name} under method "
                f"{self.config['method']} does not fit {self.device}; run fewer trials on it, or train lora, "
                "bitfit or last_blocks"
            )
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return (images + 1) // 2

    # -- judging --

    def _judge(self) -> dict[str, float]:
        """val_loss and objective of the weights as they are; the best are kept."""
        logits_NC = self._validation_logits()
        if not np.isfinite(logits_NC).all():
            self._diverge("a logit on validation was not finite", self.steps_an_epoch - 1)
        val_loss = bce(torch.from_numpy(logits_NC)[None], torch.from_numpy(self.data.val_targets_NC)).item()
        shrinkage_K = [self.config["threshold_shrinkage"]]
        objective_K = judging.objective(
            self.training.objective, logits_NC[None], self.data.judged, shrinkage_K
        )
        objective = float(objective_K[0])
        score = objective if self.training.best_by == "objective" else -val_loss
        self._waited += 1
        if score > self._best.score:
            self._waited = 0
            kept = self._averages or self._parameters
            weights = {name: tensor.detach().to("cpu", copy=True) for name, tensor in kept.items()}
            self._best = _Best(self.epoch + 1, score, weights, logits_NC)
        return {"val_loss": val_loss, "objective": objective}

    def _validation_logits(self) -> np.ndarray:
        """float32 (N, C), of the running means where there are any."""
        self._tower.eval()
        rows_N = self.data.val_rows_N
        batch = min(self.micro_batch * _VALIDATION_BATCHES, len(rows_N))
        while True:
            batches = Batches(
                self.data.images_NHWC, np.split(rows_N, range(batch, len(rows_N), batch)), self.device
            )
            try:
                with self._averaged(), torch.no_grad():
                    return torch.cat([self._logits(images_BHWC) for images_BHWC in batches]).cpu().numpy()
            except torch.OutOfMemoryError:
                pass
            batch = self._half(batch)

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The running means in place of the weights."""
        if self._averages is None:
            yield
            return
        current = {name: parameter.data for name, parameter in self._parameters.items()}
        try:
            for name, parameter in self._parameters.items():
                parameter.data = self._averages[name]
            yield
        finally:
            for name, parameter in self._parameters.items():
                parameter.data = current[name]

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
            if not reason and self.finished and self.epoch < self.config["epochs"]:
                kept_by, patience = self.training.best_by, self.training.patience
                reason = f"no better {kept_by} in {patience} epochs up to epoch {self.epoch}"
        common = {
            "number": self.config.number,
            "params": self.config.params,
            "state": state,
            "reason": reason,
            "curve": list(self.curve),
            "seconds": self._seconds,
        }
        if state == "FAIL" or self._best.logits_NC is None:
            return TrialRecord(**common, epoch=self.epoch)
        best = self.curve[self._best.epoch - 1]
        shrinkage_K = [self.config["threshold_shrinkage"]]
        (judged,) = judging.judge(self._best.logits_NC[None], self.data.judged, shrinkage_K)
        return TrialRecord(
            **common,
            objective=best["objective"],
            metrics=judged.metrics | {"val.loss": best["val_loss"]},
            epoch=self._best.epoch,
            strategy=judged.strategy,
            thresholds={name: values_C.tolist() for name, values_C in judged.thresholds.items()},
            few=judged.few_C.tolist(),
            head=self.best_head(),
        )

    def best_head(self) -> LinearHead:
        """The head of the best epoch; RuntimeError before the first."""
        weights = self._best_weights()
        return self._head.linear_head(weights["head.weight_DC"], weights["head.bias_C"])

    def best_encoder(self) -> Encoder:
        """The encoder with the tower of the best epoch, LoRA merged; RuntimeError before the first."""
        return _tuned_encoder(self._encoder, tower_method(self.config), self._best_weights())

    def _best_weights(self) -> dict[str, Tensor]:
        if self._best.weights is None:
            raise RuntimeError(f"trial {self.config.number} has no judged epoch yet")
        return self._best.weights

    # -- checkpoint --

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next epoch and the final record depend on, as copies on the CPU; RuntimeError
        where the trial has failed.

        `tensors`: trained weights, AdamW's moments, running means, best weights and logits; `progress`: the
        rest as plain JSON values.
        """
        tensors = {name: tensor.detach().to("cpu", copy=True) for name, tensor in self._tensors().items()}
        return {"tensors": tensors, "progress": self._progress()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict()` of a trial with the same configuration, encoder and data."""
        tensors, progress = state["tensors"], state["progress"]
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(tensors[f"weights/{name}"])
            for name, average in (self._averages or {}).items():
                average.copy_(tensors[f"averages/{name}"])
            self._head.mean_D.copy_(tensors["head_mean_D"])
            self._head.scale_D.copy_(tensors["head_scale_D"])
        self._head.l2 = progress["head_l2"]
        self._optimizer = self._new_optimizer()
        if progress["optimizer_steps"]:
            whole = self._optimizer.state_dict()
            names = self._names_in_optimizer()
            whole["state"] = {
                i: {
                    "step": torch.tensor(float(progress["optimizer_steps"])),
                    "exp_avg": tensors[f"first/{name}"].clone(),
                    "exp_avg_sq": tensors[f"second/{name}"].clone(),
                }
                for i, name in enumerate(names)
            }
            self._optimizer.load_state_dict(whole)
        if progress["scaler"]:
            self._scaler.load_state_dict(progress["scaler"])
        self.epoch, self.curve = progress["epoch"], [dict(point) for point in progress["curve"]]
        self.micro_batch = progress["micro_batch"]
        self._waited, self._seconds = progress["waited"], progress["seconds"]
        self._best = _Best(epoch=progress["best_epoch"], score=progress["best_score"])
        if self._best.epoch:
            # Kept weights that are the current ones stand in the file once.
            current = "averages" if self._averages is not None else "weights"
            prefix = current if self._best.epoch == self.epoch else "best"
            self._best.weights = {name: tensors[f"{prefix}/{name}"].clone() for name in self._parameters}
            self._best.logits_NC = tensors["best_logits_NC"].numpy().copy()

    def save_checkpoint(self, folder: Path | str) -> Path:
        """Write the state into `folder`, whole or not at all; returns the file. RuntimeError where the trial
        has failed."""
        path = Path(folder) / CHECKPOINT
        checkpoints.write(path, self._tensors(), {"identity": self._identity(), "progress": self._progress()})
        return path

    def load_checkpoint(self, folder: Path | str) -> None:
        """Continue from `save_checkpoint`.

        Raises:
            InputError: it belongs to another tower, label set, configuration or way of training.
            CorruptCheckpoint: it is damaged or not there.
        """
        path = Path(folder) / CHECKPOINT
        tensors, description = checkpoints.read(path)
        _check_identity(path, description["identity"], self._identity())
        self.load_state_dict({"tensors": tensors, "progress": description["progress"]})

    def save_best(self, folder: Path | str) -> Path:
        """Write what `load_best` needs of the best epoch, and nothing that only training needs."""
        path = Path(folder) / BEST
        head = {f"linear_head/{name}": torch.from_numpy(a) for name, a in self.best_head().tensors().items()}
        checkpoints.write(path, self._best_weights() | head, {"identity": self._identity()})
        return path

    def _tensors(self) -> dict[str, Tensor]:
        if self._failure:
            raise RuntimeError(f"trial {self.config.number} has failed: there is nothing to continue from")
        tensors = {f"weights/{name}": parameter.detach() for name, parameter in self._parameters.items()}
        tensors |= {"head_mean_D": self._head.mean_D, "head_scale_D": self._head.scale_D}
        tensors |= {f"averages/{name}": average for name, average in (self._averages or {}).items()}
        if self._optimizer_steps():
            for name in self._names_in_optimizer():
                moments = self._optimizer.state[self._parameters[name]]
                tensors |= {f"first/{name}": moments["exp_avg"], f"second/{name}": moments["exp_avg_sq"]}
        if self._best.epoch:
            tensors["best_logits_NC"] = torch.from_numpy(self._best.logits_NC)
            if self._best.epoch != self.epoch:
                tensors |= {f"best/{name}": tensor for name, tensor in self._best.weights.items()}
        return tensors

    def _progress(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "curve": [dict(point) for point in self.curve],
            "micro_batch": self.micro_batch,
            "waited": self._waited,
            "seconds": self._seconds,
            "best_epoch": self._best.epoch,
            "best_score": self._best.score,
            "optimizer_steps": self._optimizer_steps(),
            "scaler": self._scaler.state_dict(),
            "head_l2": self._head.l2,
        }

    def _identity(self) -> dict[str, Any]:
        """What a checkpoint must agree on with the trial that continues from it."""
        return {
            "encoder": self._encoder.fingerprint,
            "labels": list(self.data.labels),
            "params": self.config.params,
            "number": self.config.number,
            "seed": self.config.seed,
            "training": {field.name: getattr(self.training, field.name) for field in fields(self.training)},
        }

    def _optimizer_steps(self) -> int:
        """AdamW's count of steps, 0 where the next epoch starts a new one anyway."""
        if self.training.fresh_optimizer:
            return 0
        moments = self._optimizer.state.get(self._head.bias_C)
        return int(moments["step"].item()) if moments else 0

    def _names_in_optimizer(self) -> list[str]:
        """Names of the parameters in the order in which the optimiser numbers them."""
        names = {parameter: name for name, parameter in self._parameters.items()}
        return [names[parameter] for group in self._optimizer.param_groups for parameter in group["params"]]

    # -- chance --

    def _key(self, purpose: str, *numbers: int) -> int:
        """A seed for one purpose."""
        words = (zlib.crc32(purpose.encode()), self.config.seed, self.config.number, *numbers)
        return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)

    def _seed_dropout(self, key: int) -> None:
        torch.default_generator.manual_seed(key)
        if self.device.type == "cuda":
            torch.cuda.default_generators[self.device.index].manual_seed(key)


def _existing(device: str | torch.device) -> torch.device:
    device = torch.device(device)
    if device.type != "cuda":
        return device
    count = torch.cuda.device_count()
    if count == 0 or (device.index or 0) >= count:
        raise InputError(f"device {device} is not there: this machine shows {count} GPUs; use cpu")
    return torch.device("cuda", device.index if device.index is not None else torch.cuda.current_device())


def _peak_memory(device: torch.device) -> int:
    """Bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


# ---- checkpoint ----


def checkpoint_bytes(trained_parameters: int, *, ema: bool, fresh_optimizer: bool = False) -> int:
    """The most that one checkpoint takes on disk: weights, two moments, running means, best weights."""
    return 4 * trained_parameters * (2 + (0 if fresh_optimizer else 2) + ema)


def load_newest(trial: FineTuneTrial, folders: Sequence[Path | str]) -> tuple[Path | None, list[str]]:
    """Continue from the first whole checkpoint of `folders`, newest first.

    Returns:
        the folder that was loaded, None where none is whole, and a line about each that was passed over.

    Raises:
        InputError: as `FineTuneTrial.load_checkpoint`.
    """
    passed_over: list[str] = []
    for folder in folders:
        try:
            trial.load_checkpoint(folder)
            return Path(folder), passed_over
        except CorruptCheckpoint as error:
            passed_over.append(str(error))
    return None, passed_over


def load_best(folder: Path | str, encoder: Encoder) -> tuple[Encoder, LinearHead]:
    """The tuned encoder and the head of `FineTuneTrial.save_best`; `encoder` is the one it started from.

    Raises:
        InputError: `encoder` is another one.
        CorruptCheckpoint: the file is damaged or not there.
    """
    path = Path(folder) / BEST
    tensors, description = checkpoints.read(path)
    identity = description["identity"]
    _check_identity(path, identity, identity | {"encoder": encoder.fingerprint})
    config = Configuration(SPACE, identity["number"], identity["params"], identity["seed"])
    prefix = "linear_head/"
    head = {name.removeprefix(prefix): t.numpy() for name, t in tensors.items() if name.startswith(prefix)}
    return _tuned_encoder(encoder, tower_method(config), tensors), LinearHead.from_tensors(head)


def _tuned_encoder(encoder: Encoder, method: Method, weights: Mapping[str, Tensor]) -> Encoder:
    tower = TrainableTower(encoder, method, seed=0)
    with torch.no_grad():
        for name, parameter in tower.trained.items():
            parameter.copy_(weights[f"tower.{name}"])
    return tower.into_encoder()


def _check_identity(path: Path, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    for name, wanted in expected.items():
        if found.get(name) == wanted:
            continue
        if name == "encoder":
            raise InputError(
                f"{path}: it was trained on another encoder (fingerprint {found[name][:12]}, here "
                f"{wanted[:12]}); give the encoder that the study started from"
            )
        raise InputError(
            f"{path}: {name} must be {wanted}, as in this trial, not {found.get(name)}; "
            "resume the study it belongs to, or remove it"
        )
