"""Which fine-tuning trials are stopped early: Ray Tune's schedulers, which spare what is published."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ray.tune.schedulers import ASHAScheduler, MedianStoppingRule, TrialScheduler

from trainables.records import TrialRecord


class _SparesPresets:
    """Mixed into a scheduler: a published configuration is the reference and runs to its own end."""

    def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if _preset(trial):
            return TrialScheduler.CONTINUE
        return super().on_trial_result(controller, trial, result)

    def on_trial_complete(self, controller: Any, trial: Any, result: dict[str, Any]) -> None:
        # Nor is it a measure for the others: at its last epoch it would stand among their earlier ones.
        if not _preset(trial):
            super().on_trial_complete(controller, trial, result)


def _preset(trial: Any) -> str:
    return trial.config["configurations"][0]["preset"]


class _Asha(_SparesPresets, ASHAScheduler):
    pass


class _Median(_SparesPresets, MedianStoppingRule):
    pass


@dataclass(frozen=True, eq=False)
class _Finished:
    """A trial of an earlier driver, as far as a scheduler looks at one."""

    trial_id: str
    config: dict[str, Any]


def early_stopping(
    name: str, grace_epochs: int, finished: Iterable[TrialRecord] = ()
) -> TrialScheduler | None:
    """The scheduler that stops lagging trials: asha (Li et al., MLSys 2020), median, or none.

    Args:
        grace_epochs: epochs before a trial may be stopped.
        finished: what an earlier driver of the study finished; later trials are held against it too.
    """
    if name == "none":
        return None
    stopping = _stopping_rule(name, grace_epochs)
    for record in finished:
        trial = _Finished(f"finished-{record.number}", {"configurations": [{"preset": record.preset}]})
        stopping.on_trial_add(None, trial)
        for point in record.curve:
            result = {"epoch": int(point["epoch"]), "objective": point["objective"]}
            stopped = stopping.on_trial_result(None, trial, result) == TrialScheduler.STOP
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
