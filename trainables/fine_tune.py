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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from cohort.errors import InputError
from scoring.judging import OBJECTIVES, judge, objective
from search_spaces.configuration import Configuration
from trainables.augmentation import STRONGEST, Draw, distort, draw
from trainables.fine_tune_config import Training, learning_rate_factor, tower_method, tower_rate
from trainables.fine_tune_state import Best, TrainingState, load_newest, save_best, save_checkpoint
from trainables.image_batches import Batches
from trainables.initial_weights import xavier_uniform
from trainables.losses import BankLoss, plain_loss
from trainables.records import TrialRecord, judged_fields
from trainables.tower import TrainableTower
from trainables.trial_data import FineTuneData
from vlm.encoders import Encoder
from vlm.linear_head import LinearHead
from vlm.precision import resolve_precision
from vlm.torch_head import TorchHead

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


@dataclass(frozen=True, kw_only=True)
class Compute:
    """Where and how a trial computes; none of it is a hyperparameter."""

    device: str | torch.device = "cpu"
    """"cpu", "cuda", ...; how many threads torch may use is the caller's business."""
    precision: str = "auto"
    """Of the tower's products: fp32, bf16, fp16 (with a gradient scaler), or auto: bf16 where the device
    computes in it, otherwise fp16 on a GPU and fp32 elsewhere."""
    micro_batch: int | None = None
    """How many images to try first at once; None: the whole batch."""
    compile_tower: bool = False
    """Hand the tower to `torch.compile`; worth its minute only for long trainings."""

    def __post_init__(self) -> None:
        if self.micro_batch is not None and self.micro_batch < 1:
            raise ValueError(f"micro_batch must be at least 1 or None, not {self.micro_batch}")


class FineTuneTrial:
    """One configuration in training, an epoch at a time.

    Attributes:
        state: epochs trained, the curve, weights and moments: all that moves.
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
        self.device = _existing(compute.device)
        self.precision = resolve_precision(compute.precision, self.device, training=True)
        size, labels = encoder.geometry.size, len(data.labels)
        if data.images_NHWC.shape[1:3] != (size, size):
            raise ValueError(
                f"{data.images_file} must hold images of {size} x {size} pixels for encoder {encoder.name}, "
                f"not {data.images_NHWC.shape[1]} x {data.images_NHWC.shape[2]}"
            )
        if data.folds != 1:
            raise ValueError(f"data must have one fold, not {data.folds}")
        if objective_name not in OBJECTIVES:
            raise ValueError(f"objective_name must be one of {', '.join(OBJECTIVES)}, not {objective_name!r}")
        if config["init_head"] == "probe":
            if head is None:
                raise ValueError("head must be given for init_head probe")
            if head.weight_DC.shape != (encoder.width, labels):
                raise ValueError(f"head must be {(encoder.width, labels)}, not {head.weight_DC.shape}")
        self._encoder, self._failure = encoder, ""
        self._train_N, self._val_rows_N = data.training_N(), data.rows_N[data.judged_N()]
        self._judged = data.judged()

        self._tower = TrainableTower(encoder, tower_method(config), seed=self._key("tower")).to(self.device)
        if config["init_head"] == "probe":
            start = head
        else:
            weight_CD = xavier_uniform(encoder.width, labels, (config.seed, config.number))
            start = LinearHead.plain(weight_CD.T)
        self._head = TorchHead(start).to(self.device)
        self._features = self._tower
        if compute.compile_tower:
            # Graphs of the trials before it in this process count against the limit, past which nothing is
            # compiled any more.
            torch.compiler.reset()
            self._features = torch.compile(self._tower)
        parameters = {f"tower.{name}": parameter for name, parameter in self._tower.trained.items()}
        parameters |= {f"head.{name}": parameter for name, parameter in self._head.named_parameters()}
        averages = None
        if config["ema_decay"]:
            averages = {name: p.detach().clone() for name, p in parameters.items()}
        self.state = TrainingState(
            parameters=parameters,
            averages=averages,
            head=self._head,
            new_optimizer=self._new_optimizer,
            fresh_optimizer=training.fresh_optimizer,
            scaler=torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16"),
            micro_batch=min(compute.micro_batch or training.batch_size, training.batch_size),
        )

        self._train_targets_NC = torch.tensor(data.targets_NC[self._train_N], device=self.device)
        self._loss = BankLoss.of([config], self._train_targets_NC)
        self._augmentation = STRONGEST.scaled(config["augmentation"])
        if training.horizontal_flip:
            self._augmentation = self._augmentation.mirrored()

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
        return sum(parameter.numel() for parameter in self.state.parameters.values())

    @property
    def steps_an_epoch(self) -> int:
        return math.ceil(len(self._train_N) / self.training.batch_size)

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
        cuda = self.device.type == "cuda"
        if cuda:
            torch.cuda.reset_peak_memory_stats(self.device)
        try:
            with torch.random.fork_rng(devices=[self.device] if cuda else []):
                train_loss, wait_seconds = self._train(deadline)
            training_seconds = time.perf_counter() - started
            point = {
                "epoch": self.state.epoch + 1,
                "train_loss": train_loss,
                **self._judge(),
                "images_per_second": len(self._train_N) / training_seconds,
                "data_wait_share": wait_seconds / training_seconds,
                "peak_device_memory_mb": _peak_memory(self.device) / 2**20,
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

    def _train(self, deadline: float) -> tuple[float, float]:
        """One epoch of steps; the training loss and the seconds spent waiting for data. TimeoutError."""
        config, training, steps = self.config, self.training, self.steps_an_epoch
        self._tower.train()
        if training.fresh_optimizer:
            self.state.optimizer = self._new_optimizer()
        train_rows_N = self.data.rows_N[self._train_N]
        images = len(train_rows_N)
        order_N = np.random.default_rng([config.seed, self.state.epoch + 1]).permutation(images)
        orders = np.split(order_N, range(training.batch_size, images, training.batch_size))
        batches = Batches(self.data.images_NHWC, [train_rows_N[order_B] for order_B in orders], self.device)
        targets_NC = self._train_targets_NC[torch.from_numpy(order_N).to(self.device)]
        losses_S = torch.zeros(steps, device=self.device)
        plain_S = torch.zeros(steps, device=self.device)
        entries_S = torch.zeros(steps, device=self.device)
        for step, images_BHWC in enumerate(batches):
            if time.time() >= deadline:
                raise TimeoutError
            position = self.state.epoch * steps + step
            factor = learning_rate_factor(position, config["epochs"] * steps, training)
            for group in self.state.optimizer.param_groups:
                group["lr"] = group["greatest_lr"] * factor
            targets_BC = targets_NC[step * training.batch_size :][: len(images_BHWC)]
            entries_S[step] = targets_BC.isfinite().sum()
            losses_S[step], plain_S[step] = self._gradients(images_BHWC, targets_BC, step)
            self._update(position)
            if (step + 1) % _STEPS_BETWEEN_LOOKS == 0 or step + 1 == steps:
                self._check_finite(losses_S[: step + 1])
        return ((plain_S * entries_S).sum() / entries_S.sum()).item(), batches.wait_seconds

    def _gradients(self, images_BHWC: Tensor, targets_BC: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Leaves the gradients of the batch's loss in the parameters; returns that loss and the plain one.

        Where the memory does not hold a micro-batch, the step is repeated with half as many images at once:
        nothing has moved yet, and the same distortions are drawn again. (Dropout is drawn by micro-batch.)
        """
        key = self._key("step", self.state.epoch + 1, step)
        drawn = None
        if not self._augmentation.changes_nothing:
            generator = torch.Generator().manual_seed(key)
            drawn = draw(self._augmentation, len(images_BHWC), generator).to(self.device)
        while True:
            self._seed_dropout(key)
            self.state.optimizer.zero_grad()
            try:
                return self._accumulate(images_BHWC, targets_BC, drawn)
            except torch.OutOfMemoryError:
                pass  # repeated outside this clause, where the traceback no longer holds the activations
            self.state.optimizer.zero_grad()
            self.state.micro_batch = self._half(min(self.state.micro_batch, len(images_BHWC)))

    def _accumulate(
        self, images_BHWC: Tensor, targets_BC: Tensor, drawn: Draw | None
    ) -> tuple[Tensor, Tensor]:
        """Adds up the gradients of the micro-batches, each weighed by its share of the batch's unmasked
        entries: their sum is the gradient of the batch's own masked mean."""
        counted_BC = ~targets_BC.isnan()
        entries = counted_BC.sum().clamp(min=1)
        loss, plain = torch.zeros((), device=self.device), torch.zeros((), device=self.device)
        for start in range(0, len(images_BHWC), self.state.micro_batch):
            part = slice(start, start + self.state.micro_batch)
            images = images_BHWC[part]
            if drawn is not None:
                images = distort(images, drawn[part])
            logits_BC = self._logits(images)
            share = counted_BC[part].sum() / entries
            part_loss = self._loss.loss(logits_BC[None], targets_BC[part])[0] * share
            self.state.scaler.scale(part_loss).backward()
            with torch.no_grad():
                loss += part_loss
                plain += plain_loss([self.config["loss"]], logits_BC[None], targets_BC[part])[0] * share
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
            self.state.scaler.unscale_(self.state.optimizer)
            nn.utils.clip_grad_norm_(self.state.parameters.values(), self.training.clip_norm)
        try:
            self.state.scaler.step(self.state.optimizer)
        except torch.OutOfMemoryError:
            raise OutOfMemory(
                f"out of memory: AdamW's moments of {self.trained_parameters:,} parameters do not fit beside "
                f"them on {self.device}; run fewer trials on it, or train lora, bitfit or last_blocks"
            ) from None
        self.state.scaler.update()
        if self.state.averages is not None:
            # In the first steps the mean is over the steps there were (as in TensorFlow's
            # ExponentialMovingAverage), so that the initial weights do not linger.
            decay = min(self.config["ema_decay"], (1 + position) / (10 + position))
            average = get_ema_multi_avg_fn(decay)
            average(list(self.state.averages.values()), list(self.state.parameters.values()), None)

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
        position = self.state.epoch * self.steps_an_epoch + step
        factor = learning_rate_factor(position, self.config["epochs"] * self.steps_an_epoch, self.training)
        raise Diverged(
            f"diverged: {what} in step {position + 1} (epoch {self.state.epoch + 1}) at learning rate "
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
        targets_NC = torch.from_numpy(self._judged.targets_NC)
        val_loss = plain_loss([self.config["loss"]], torch.from_numpy(logits_NC)[None], targets_NC).item()
        shrinkage_K = [self.config["threshold_shrinkage"]]
        value = float(objective(self.objective_name, logits_NC[None], self._judged, shrinkage_K)[0])
        score = value if self.training.best_by == "objective" else -val_loss
        self.state.epochs_waited += 1
        if score > self.state.best.score:
            self.state.epochs_waited = 0
            kept = self.state.averages or self.state.parameters
            weights = {name: tensor.detach().to("cpu", copy=True) for name, tensor in kept.items()}
            self.state.best = Best(self.state.epoch + 1, score, weights, logits_NC)
        return {"val_loss": val_loss, "objective": value}

    def _validation_logits(self) -> np.ndarray:
        """float32 (N, C), of the running means where there are any."""
        self._tower.eval()
        rows_N = self._val_rows_N
        batch = min(self.state.micro_batch * _VALIDATION_BATCHES, len(rows_N))
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
        if self.state.averages is None:
            yield
            return
        current = {name: parameter.data for name, parameter in self.state.parameters.items()}
        try:
            for name, parameter in self.state.parameters.items():
                parameter.data = self.state.averages[name]
            yield
        finally:
            for name, parameter in self.state.parameters.items():
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
            "precision": self.precision,
        }
        if state == "FAIL" or self.state.best.logits_NC is None:
            return TrialRecord(**common, epoch=self.state.epoch)
        best = self.state.curve[self.state.best.epoch - 1]
        shrinkage_K = [self.config["threshold_shrinkage"]]
        (judged,) = judge(self.state.best.logits_NC[None], self._judged, shrinkage_K)
        fields = judged_fields(judged)
        fields["metrics"] = fields["metrics"] | {"val.loss": best["val_loss"]}
        return TrialRecord(
            **common,
            objective=best["objective"],
            epoch=self.state.best.epoch,
            arrays=self.best_head().tensors(),
            **fields,
        )

    def best_head(self) -> LinearHead:
        """The head of the best epoch; RuntimeError before the first."""
        weights = self._best_weights()
        return self._head.linear_head(weights["head.weight_DC"], weights["head.bias_C"])

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
            "encoder": self._encoder.fingerprint,
            "labels": list(self.data.labels),
            "data": self.data.digest,
            "params": dict(self.config.params),
            "number": self.config.number,
            "seed": self.config.seed,
            "objective": self.objective_name,
            "training": asdict(self.training),
        }

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
