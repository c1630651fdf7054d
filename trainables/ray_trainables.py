"""What runs in a Ray worker: a bank of linear probes in one step, or one fine-tuning an epoch a step.

Both report their records as the bytes of a bank file. They hold training and validation and nothing of the
test split, and are reused for bank after bank or trial after trial, so that Python, torch and the data are
loaded once.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Any

import torch
from ray import tune

from cohort.errors import InputError
from cohort.image_store import finished_store
from search_spaces import fine_tune, linear_probe
from search_spaces.configuration import Configuration
from trainables.bank_files import pack_bank
from trainables.bank_training import training_of
from trainables.checkpoints import KEPT_RESUME_POINTS, CheckpointFolder
from trainables.fine_tune import FineTuneTrial
from trainables.fine_tune_compute import Compute, TrialFailed
from trainables.fine_tune_config import Training
from trainables.fine_tune_config import training_of as fine_tuning_of
from trainables.linear_probe import train_bank
from trainables.records import TrialRecord, as_on_given_split
from trainables.trial_data import FineTuneData, ProbeData
from vlm.encoders import Encoder
from vlm.linear_head import LinearHead


@dataclass(frozen=True, kw_only=True, eq=False)
class ProbeTask:
    """What all banks of a study share."""

    data: ProbeData
    given: ProbeData
    """The same rows in the given split, on which a published configuration trains."""
    seed: int
    batch_size: int
    objective_name: str
    threads: int
    device: str


class LinearProbeBank(tune.Trainable):
    """Trains its bank in one step and reports the bank file's bytes.

    Its config holds `bank`, `configurations` (each a `number`, `params` and `preset`; a published one alone
    in its bank), `deadline` (`time.time()` at which training ends) and `earlier`.
    """

    def setup(self, config: dict[str, Any], task: ProbeTask) -> None:
        torch.set_num_threads(task.threads)
        self._task = task

    def step(self) -> dict[str, Any]:
        task = self._task
        asked = [
            Configuration(linear_probe.SPACE, seed=task.seed, **one) for one in self.config["configurations"]
        ]
        training = training_of(asked[0].preset, task.batch_size)
        records = train_bank(
            asked,
            task.given if training.on_given_split else task.data,
            training=training,
            objective_name=task.objective_name,
            seed=task.seed,
            earlier=self.config["earlier"],
            device=task.device,
            deadline=self.config["deadline"],
        )
        if training.on_given_split and task.data.folds > 1:
            records = [as_on_given_split(record) for record in records]
        done = [record.objective for record in records if record.state == "COMPLETE"]
        return {
            "bank": self.config["bank"],
            "objective": max(done, default=0.0),
            "bank_file": pack_bank(records),
            tune.result.DONE: True,
        }

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.config = new_config
        return True


SHARED_MEMORY = 0.9
"""Of a GPU that several trials share, what they may allocate together; contexts and kernels take the rest."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FineTuneTask:
    """What all fine-tuning trials of a study share."""

    encoder: Encoder
    """On the CPU, with the features under the head alone."""
    data: FineTuneData
    cache: str
    """Where a node finds the decoded images."""
    images_key: str
    head: LinearHead
    """A trained probe, for `init_head: probe`."""
    seed: int
    training: Training
    objective_name: str
    compute: Compute
    checkpoints: str
    """A folder that all nodes see, or a URI."""
    threads: int
    gpu_share: float
    """Of one GPU, 0 without."""


class FineTune(tune.Trainable):
    """Trains one epoch a step and reports the trial's record so far.

    After each epoch it writes a resume point, from which the trial goes on after a crash of this worker or of
    the driver as if nothing had happened. Where its next epoch would last beyond its config's `deadline`, a
    `time.time()`, or this one does, it reports no record, and goes on when it is asked for again.
    """

    def setup(self, config: dict[str, Any], task: FineTuneTask) -> None:
        torch.set_num_threads(task.threads)
        if 0 < task.gpu_share < 1:
            # A trial that asks for more than its share halves its micro-batch instead of starving the others.
            torch.cuda.set_per_process_memory_fraction(task.gpu_share * SHARED_MEMORY)
        # A trial moves its own copy of the image tower; the rest of the model would only fill the GPU.
        self._encoder = task.encoder
        self._task = replace(
            task, data=replace(task.data, images_file=finished_store(task.cache, task.images_key))
        )
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin the trial, or go on where a killed worker or driver left it."""
        self.config = new_config
        (self._asked,) = new_config["configurations"]
        task = self._task
        self._folder = CheckpointFolder(task.checkpoints, self._asked["number"])
        self._refusal, self._warnings = "", []
        self._trial = None  # before the next one asks for the memory that this one holds
        self._folder.pull()
        try:
            config = Configuration(fine_tune.SPACE, seed=task.seed, **self._asked)
            self._trial = FineTuneTrial(
                config,
                self._encoder,
                task.data,
                head=task.head,
                training=fine_tuning_of(config.preset, task.training),
                objective_name=task.objective_name,
                compute=task.compute,
            )
            resumed, damaged = self._trial.load_newest(self._folder.resume_points())
            if self._trial.best_epoch:
                # The crash may have come between the resume point and the weights of its best epoch.
                self._folder.push(self._trial.save_best(self._folder.best))
            if damaged:
                ground = f"went on from epoch {self._trial.state.epoch}" if resumed else "began anew"
                self._warnings = [f"{line}; {ground}" for line in damaged]
        except InputError as error:  # a resume point of another study, say: others can go on
            self._refusal = str(error)
        except torch.OutOfMemoryError:
            self._refusal = self._too_large()
        return True

    def _too_large(self) -> str:
        method = self._asked["params"]["method"]
        return (
            f"out of memory: method {method} on {self._encoder.name} does not fit its share of the GPU; run "
            "fewer trials on it, or train lora, bitfit or last_blocks"
        )

    def step(self) -> dict[str, Any]:
        deadline, curve, records = self.config["deadline"], [], []
        try:
            record = self._train_one_epoch(deadline)
            curve = record.curve
            if record.state != "PRUNED" or time.time() + curve[-1]["seconds"] <= deadline:
                records = [record]
        except TimeoutError:
            self._trial = None  # in the middle of an epoch
        objective = curve[-1]["objective"] if curve else math.nan
        return {
            "bank": self.config["bank"],
            "epoch": len(curve),
            "objective": objective if math.isfinite(objective) else 0.0,
            "bank_file": pack_bank(records),
            tune.result.DONE: not records or record.state != "PRUNED",
        }

    def _train_one_epoch(self, deadline: float) -> TrialRecord:
        """The trial's record if nobody lets it go on; TimeoutError."""
        if self._refusal:
            return TrialRecord(**self._asked, state="FAIL", reason=self._refusal)
        trial = self._trial
        try:
            if not trial.finished:  # finished already: a crash between the last checkpoint and its report
                trial.run_epoch(deadline)
                self._folder.push(trial.save_checkpoint(self._folder.resume_point(trial.state.epoch)))
                self._folder.drop_resume_points(keep=KEPT_RESUME_POINTS)
            # If the scheduler stops the trial here, this is its record.
            state = "COMPLETE" if trial.finished else "PRUNED"
            reason = (
                "" if trial.finished else f"stopped after epoch {trial.state.epoch}: behind the other trials"
            )
            record = trial.record(state, reason)
            if record.epoch == trial.state.epoch:
                self._folder.push(trial.save_best(self._folder.best))
        except TrialFailed:
            record = trial.record()
        except torch.OutOfMemoryError:  # beside the steps, which answer it with smaller micro-batches
            record = trial.record("FAIL", self._too_large())
        metrics = record.metrics | {"trained_parameters": float(trial.trained_parameters)}
        return replace(record, metrics=metrics, warnings=self._warnings)
