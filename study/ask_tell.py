"""Optuna's ask and tell for one study, by banks of configurations; imports no Ray.

Ray's own OptunaSearch leaves a NaN trial RUNNING for ever, tells an early stop as COMPLETE with an interim
value, and resumes by enqueueing its starting points again; none of that is acceptable in a study that must
survive its driver.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.samplers import TPESampler
from optuna.trial import FixedTrial, FrozenTrial, TrialState, create_trial

from study.journal import begun_journal
from trainables.records import TrialRecord

Asked = dict[str, Any]
"""`number`, `params` and `preset` of one configuration, as a bank receives it."""


@dataclass(frozen=True, kw_only=True)
class Asking:
    """What is asked of a study's trials, in which order; a trainable's space, as the study file has it."""

    suggest: Callable[[optuna.Trial], dict[str, Any]]
    """Draws a configuration's parameters from an Optuna trial."""
    presets: Mapping[str, Mapping[str, Any]]
    """Published configurations by name; tried first, each in a bank of its own."""
    warm_starts: Sequence[Mapping[str, Any]]
    """Parameters tried next."""
    known_to_bank: Callable[[Sequence[TrialRecord]], Mapping[str, Any]]
    """From all records that are known when a bank is asked for: what it gets beside its configurations."""


class AskTell:
    """One study in Optuna, empty at first: its trials are added, asked and told here.

    Args:
        name: of the study.
        journal: written anew, for optuna-dashboard.
        asking: what is asked.
        seed: of the study; the sampler of a bank is seeded from (seed, bank).
    """

    def __init__(self, name: str, journal: Path, asking: Asking, seed: int) -> None:
        self._storage = begun_journal(journal)
        self._study = optuna.create_study(study_name=name, storage=self._storage, direction="maximize")
        self._asking, self._seed = asking, seed
        presets: list[tuple[Mapping[str, Any], str]] = [({}, name) for name in asking.presets]
        self._starts = presets + [(params, "") for params in asking.warm_starts]
        """By number: parameters, and the name of the published configuration that they are, or ""."""

    @property
    def count(self) -> int:
        """Configurations asked for so far."""
        return sum(trial.state != TrialState.WAITING for trial in self._trials())

    @property
    def preset_is_next(self) -> bool:
        """Whether the next configuration is a published one."""
        waiting = (trial.number for trial in self._trials() if trial.state == TrialState.WAITING)
        return next(waiting, len(self._trials())) < len(self._asking.presets)

    def ask(self, bank: int, size: int) -> list[Asked]:
        """The next configurations; of the starts, those that have not been asked for."""
        seed = int(np.random.SeedSequence([self._seed, bank]).generate_state(1)[0])
        with warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning):
            # group=True keeps conditional parameters (gamma only under focal) in the joint model.
            self._study.sampler = TPESampler(multivariate=True, group=True, constant_liar=True, seed=seed)
        return [self._ask() for _ in range(size)]

    def _ask(self) -> Asked:
        trials = self._trials()
        if len(trials) < len(self._starts) and all(trial.state != TrialState.WAITING for trial in trials):
            self.queue()
        trial = self._study.ask()
        preset = trial.user_attrs.get("preset", "")
        params = dict(self._asking.presets[preset]) if preset else self._asking.suggest(trial)
        return {"number": trial.number, "params": params, "preset": preset}

    def queue(self) -> None:
        """Have the next number asked for later, before those above it."""
        number = len(self._trials())
        params, preset = self._starts[number] if number < len(self._starts) else ({}, "")
        self._study.enqueue_trial(dict(params), user_attrs={"preset": preset})

    def sampler_notes(self, asked: Iterable[Asked]) -> list[dict[str, Any]]:
        """What the sampler knows, beside its parameters, of each configuration that has not been told: those
        that it drew for conditional parameters, of whose values it thinks as taken meanwhile."""
        trials = self._trials()
        return [trials[one["number"]].system_attrs for one in asked]

    def add(self, asked: Asked, sampler_notes: Mapping[str, Any]) -> None:
        """Add a configuration that an earlier driver asked for, under the next number."""
        drawn = FixedTrial(asked["params"])
        if not asked["preset"]:
            self._asking.suggest(drawn)
        self._study.add_trial(
            create_trial(
                state=TrialState.RUNNING,
                params=drawn.params,
                distributions=drawn.distributions,
                user_attrs={"preset": asked["preset"]},
                system_attrs=dict(sampler_notes),
            )
        )

    def tell(self, records: Iterable[TrialRecord]) -> None:
        """Tell what came of configurations, in the order of their numbers; twice is once."""
        running = {trial.number for trial in self._trials() if trial.state == TrialState.RUNNING}
        study = self._storage.get_study_id_from_name(self._study.study_name)
        for record in sorted(records, key=lambda record: record.number):
            if record.number not in running:
                continue
            result = told(record)
            trial = self._storage.get_trial_id_from_study_id_trial_number(study, record.number)
            for step, value in result.get("intermediate_values", {}).items():
                # By the last of them Optuna scores a pruned trial.
                self._storage.set_trial_intermediate_value(trial, step, value)
            if result["state"] == TrialState.COMPLETE:
                self._study.tell(record.number, result["value"])
            else:
                self._study.tell(record.number, state=result["state"])

    def _trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)


def told(record: TrialRecord) -> dict[str, Any]:
    """What Optuna is told of a finished configuration: `state`, and where there are any `value` and
    `intermediate_values`.

    Values are all on one scale, that of the study's objective. What was stopped before there was one is
    pruned without a value, and so is a published configuration that was judged on another scale: Optuna would
    name it as the best trial, and it would take one of the few best places from which the sampler draws,
    where it has none of the parameters that are searched.
    """
    if record.state == "FAIL":
        return {"state": TrialState.FAIL}
    if record.on_given_split or math.isnan(record.objective):
        return {"state": TrialState.PRUNED}
    if record.state == "COMPLETE":
        return {"state": TrialState.COMPLETE, "value": record.objective}
    return {
        "state": TrialState.PRUNED,
        "value": record.objective,
        "intermediate_values": {record.epoch: record.objective},
    }
