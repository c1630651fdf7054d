"""The Ray Tune Trainables: a bank of linear probes in one step, or one fine-tuning an epoch a step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from ray import tune
from ray.tune.schedulers import ASHAScheduler, MedianStoppingRule, TrialScheduler

from cohort.errors import InputError
from search_spaces import fine_tune, linear_probe
from search_spaces.configuration import Configuration
from trainables.checkpoints import KEPT_RESUME_POINTS, CheckpointFolder
from trainables.fine_tune import FineTuneTrial, TrialFailed, load_newest
from trainables.fine_tune_config import PAPER_TRAINING as PAPER_FINE_TUNING
from trainables.fine_tune_config import Training
from trainables.fine_tune_data import FineTuneData
from trainables.linear_probe import PAPER_TRAINING, ProbeData, train_bank
from trainables.records import TrialRecord, pack_bank
from vlm.encoders import load_encoder
from vlm.linear_head import LinearHead


def train_configurations(
    configurations: Sequence[Mapping[str, Any]],
    data: ProbeData,
    *,
    seed: int,
    batch_size: int,
    objective: str,
    rung_floor: Mapping[int, float] | None = None,
    device: str = "cpu",
) -> list[TrialRecord]:
    """Train one bank and describe each configuration as the study keeps it.

    Args:
        configurations: `number` and `params` of each, and a `seed` of its initial weights where that is to
            differ from `seed`. Number 0 is the paper's, trained as the paper does, and in no bank with
            others, since its batch size is its own.
        seed: of the minibatch order, and of the initial weights.
        rung_floor: rung -> objective below which a head is pruned.
    """
    heads = [
        Configuration(linear_probe.SPACE, one["number"], one["params"], one.get("seed", seed))
        for one in configurations
    ]
    if heads[0].number == 0:
        training = PAPER_TRAINING
    else:
        training = {"batch_size": batch_size, "rung_floor": rung_floor}
    results = train_bank(heads, data, seed=seed, objective=objective, device=device, **training)
    return [
        TrialRecord(
            number=result.number,
            params=dict(one["params"]),
            state=result.state,
            reason=result.reason,
            objective=result.objective,
            metrics=result.metrics,
            curve=result.curve,
            epoch=result.epoch,
            seconds=result.seconds,
            strategy=result.strategy,
            thresholds={name: values_C.tolist() for name, values_C in result.thresholds.items()},
            few=result.few_C.tolist(),
            head=result.head,
        )
        for one, result in zip(configurations, results, strict=True)
    ]


class LinearProbeBank(tune.Trainable):
    """Trains its bank in one step and reports the bank file's bytes.

    The actor is reused for bank after bank, so that Python, torch and the features are loaded once. It holds
    training and validation features and labels and nothing of the test split.
    """

    def setup(
        self,
        config: dict[str, Any],
        data: ProbeData,
        seed: int,
        batch_size: int,
        objective: str,
        threads: int,
        device: str,
    ) -> None:
        torch.set_num_threads(threads)
        self._data, self._seed, self._device = data, seed, device
        self._batch_size, self._objective = batch_size, objective

    def step(self) -> dict[str, Any]:
        records = train_configurations(
            self.config["configurations"],
            self._data,
            rung_floor=self.config["rung_floor"],
            seed=self._seed,
            batch_size=self._batch_size,
            objective=self._objective,
            device=self._device,
        )
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


class FineTune(tune.Trainable):
    """Trains one epoch a step and reports the trial's record so far.

    The actor is reused for trial after trial. After each epoch it writes a resume point, from which the trial
    goes on after a crash of this worker or of the driver as if nothing had happened.
    """

    def setup(
        self,
        config: dict[str, Any],
        encoder_name: str,
        features: str,
        data: FineTuneData,
        head: LinearHead,
        seed: int,
        training: Training,
        precision: str,
        micro_batch: int | None,
        compile_tower: bool,
        checkpoints: Path,
        threads: int,
        gpu_share: float,
    ) -> None:
        torch.set_num_threads(threads)
        device = "cuda" if gpu_share else "cpu"
        if 0 < gpu_share < 1:
            # A trial that asks for more than its share halves its micro-batch instead of starving the others.
            torch.cuda.set_per_process_memory_fraction(gpu_share * SHARED_MEMORY)
        # A trial moves its own copy of the image tower; the rest of the model would only fill the GPU.
        self._encoder = load_encoder(encoder_name, features=features, device="cpu")
        self._checkpoints, self._seed, self._training = checkpoints, seed, training
        self._common = {
            "data": data,
            "head": head,
            "device": device,
            "precision": precision,
            "micro_batch": micro_batch,
            "compile_tower": compile_tower,
        }
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin the trial, or go on where a killed worker or driver left it."""
        self.config = new_config
        (self._asked,) = new_config["configurations"]
        number, params = self._asked["number"], self._asked["params"]
        self._folder = CheckpointFolder(self._checkpoints, number)
        self._refusal, self._warnings = "", []
        self._trial = None  # before the next one asks for the memory that this one holds
        try:
            self._trial = FineTuneTrial(
                Configuration(fine_tune.SPACE, number, params, self._seed),
                self._encoder,
                training=_like_the_paper(self._training) if number == 0 else self._training,
                **self._common,
            )
            resumed, damaged = load_newest(self._trial, self._folder.resume_points())
            if self._trial.best_epoch:
                # The crash may have come between the resume point and the weights of its best epoch.
                self._trial.save_best(self._folder.best)
            if damaged:
                ground = f"went on from epoch {self._trial.epoch}" if resumed else "began anew"
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
        record = self._train_one_epoch()
        points = record.curve[-1:]
        objective = points[0]["objective"] if points else math.nan
        return {
            "bank": self.config["bank"],
            "epoch": len(record.curve),
            "objective": objective if math.isfinite(objective) else 0.0,
            "bank_file": pack_bank([record]),
            tune.result.DONE: record.state != "PRUNED",
        }

    def _train_one_epoch(self) -> TrialRecord:
        """The trial's record if nobody lets it go on."""
        if self._refusal:
            return TrialRecord(**self._asked, state="FAIL", reason=self._refusal)
        trial = self._trial
        try:
            if not trial.finished:  # finished already: a crash between the last checkpoint and its report
                trial.run_epoch()
                trial.save_checkpoint(self._folder.resume_point(trial.epoch))
                self._folder.drop_resume_points(keep=KEPT_RESUME_POINTS)
            # If the scheduler stops the trial here, this is its record.
            state = "COMPLETE" if trial.finished else "PRUNED"
            reason = "" if trial.finished else f"stopped after epoch {trial.epoch}: behind the other trials"
            record = trial.record(state, reason)
            if record.epoch == trial.epoch:
                trial.save_best(self._folder.best)
        except TrialFailed:
            record = trial.record()
        except torch.OutOfMemoryError:  # beside the steps, which answer it with smaller micro-batches
            record = trial.record("FAIL", self._too_large())
        metrics = record.metrics | {"trained_parameters": float(trial.trained_parameters)}
        return replace(record, metrics=metrics, warnings=self._warnings)


def _like_the_paper(training: Training) -> Training:
    """The paper's training, judged by the study's objective."""
    return replace(PAPER_FINE_TUNING, objective=training.objective)


class _SparesThePaper:
    """Mixed into a scheduler: the paper's configuration is the reference and runs to its own end."""

    def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if trial.config["configurations"][0]["number"] == 0:
            return TrialScheduler.CONTINUE
        return super().on_trial_result(controller, trial, result)

    def on_trial_complete(self, controller: Any, trial: Any, result: dict[str, Any]) -> None:
        # Nor is it a measure for the others: at its last epoch it would stand among their earlier ones.
        if trial.config["configurations"][0]["number"] != 0:
            super().on_trial_complete(controller, trial, result)


class _Asha(_SparesThePaper, ASHAScheduler):
    pass


class _Median(_SparesThePaper, MedianStoppingRule):
    pass


@dataclass(frozen=True, eq=False)
class _Finished:
    """A trial of an earlier driver, as far as a scheduler looks at one."""

    trial_id: str
    config: dict[str, Any]


def scheduler(name: str, grace_epochs: int, finished: Iterable[TrialRecord] = ()) -> TrialScheduler | None:
    """The scheduler that stops lagging trials: asha (Li et al., MLSys 2020), median, or none.

    Args:
        grace_epochs: epochs before a trial may be stopped.
        finished: what an earlier driver of the study finished; later trials are held against it too.
    """
    if name == "none":
        return None
    stopping = _stopping_rule(name, grace_epochs)
    for record in finished:
        trial = _Finished(f"finished-{record.number}", {"configurations": [{"number": record.number}]})
        stopping.on_trial_add(None, trial)
        for point in record.curve:
            told = {"epoch": int(point["epoch"]), "objective": point["objective"]}
            stopped = stopping.on_trial_result(None, trial, told) == TrialScheduler.STOP
            if stopped and name == "median":  # which asserts that a stopped trial reports no more
                break
    return stopping


def _stopping_rule(name: str, grace_epochs: int) -> TrialScheduler:
    if name == "asha":
        # Halving has no last epoch of its own: a trial ends by its own number of epochs.
        return _Asha(
            time_attr="epoch",
            metric="objective",
            mode="max",
            grace_period=grace_epochs,
            reduction_factor=3,
            max_t=10_000,
        )
    # It would pause a trial for which it has too little to compare, to let others catch up.
    return _Median(
        time_attr="epoch",
        metric="objective",
        mode="max",
        grace_period=grace_epochs,
        min_time_slice=math.inf,
    )


class ForgetBankFiles(tune.Callback):
    """Drops a bank file's bytes from Tune's own memory of the trial, where nobody reads them again."""

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        trial.last_result.pop("bank_file", None)


class EpochLines(tune.Callback):
    """Says how far a trial of several epochs is, at most every `pause` seconds."""

    def __init__(self, echo: Callable[[str], None], objective: str, pause: float = 10) -> None:
        self._echo, self._objective, self._pause = echo, objective, pause
        self._last = time.monotonic()

    def on_trial_result(
        self, iteration: int, trials: list, trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        early = time.monotonic() < self._last + self._pause
        # Of a finished trial another line tells; a bank of probes has no epochs.
        if early or result[tune.result.DONE] or "epoch" not in result:
            return
        self._last = time.monotonic()
        (asked,) = trial.config["configurations"]
        params, epoch = asked["params"], result["epoch"]
        left = (params["epochs"] - epoch) * result["time_this_iter_s"]
        self._echo(
            f"     #{asked['number']} {params['method']}: epoch {epoch}/{params['epochs']}, "
            f"{self._objective} {result['objective']:.3f}, at most {left:.0f} s left"
        )
