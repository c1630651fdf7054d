"""Optuna's ask and tell behind Ray Tune's Searcher: one Tune trial is a bank of configurations.

Ray's own OptunaSearch leaves a NaN trial RUNNING for ever, tells an early stop as COMPLETE with an interim
value, and resumes by enqueueing its starting points again; none of that is acceptable in a study that must
survive its driver. Here the order of truth is bank file, journal, everything else.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.samplers import TPESampler
from optuna.trial import TrialState
from ray.tune.search import Searcher

from cohort.files import write_atomically
from trainables.linear_probe import RUNGS
from trainables.records import RunFolder, TrialRecord, pack_bank, unpack_bank

Configuration = dict[str, Any]
"""`number` and `params` of one configuration, as a bank receives it."""

LAGGING_QUANTILE = 1 / 3
"""A head below this quantile of all earlier heads at the same rung stops there."""
RUNG_OBSERVATIONS = 16
"""Earlier heads a rung must have seen before it prunes anybody."""


@dataclass(frozen=True, kw_only=True)
class SearchPlan:
    """How a study is cut into banks."""

    configurations: int
    """Configurations in the finished study."""
    bank_size: int
    seed: int
    concurrent: int
    """Banks that train at the same time."""
    in_order: bool = True
    """Ask for a bank when exactly the banks up to `concurrent` before it have been told. Reproducible; but a
    slow bank holds up the next, so trials that are stopped early at different times do without."""
    deadline: float = math.inf
    """`time.monotonic()` after which no bank is started."""


class BankSearcher(Searcher):
    """Hands out banks and tells their results.

    The sampler is seeded from (seed, bank). In order, bank b is asked for when exactly the banks up to
    b - concurrent have been told, whichever of the running ones finishes first: the same seed gives the same
    study.

    Args:
        study: an Optuna study on the run's journal; its unfinished trials are taken up again first.
        run: where bank files go.
        suggest: draws a configuration's parameters from an Optuna trial.
        paper: the paper's parameters, tried first in a bank of its own.
        warm_starts: parameters tried next.
        on_bank: called with each finished bank's records, in the order of finishing.
    """

    def __init__(
        self,
        *,
        study: optuna.Study,
        run: RunFolder,
        plan: SearchPlan,
        suggest: Callable[[optuna.Trial], dict[str, Any]],
        paper: Mapping[str, Any],
        warm_starts: Sequence[Mapping[str, Any]],
        on_bank: Callable[[list[TrialRecord]], None],
    ) -> None:
        super().__init__(metric="objective", mode="max")
        self._study, self._run, self._plan = study, run, plan
        self._suggest, self._paper, self._on_bank = suggest, dict(paper), on_bank
        files = run.bank_files()
        self._records = run.records()
        self._first_bank = self._next_bank = 1 + int(files[-1].stem.removeprefix("bank-")) if files else 0
        self._asked: dict[int, list[Configuration]] = {}
        self._results: dict[int, list[TrialRecord]] = {}
        self._bank_of: dict[str, int] = {}
        self._told = self._next_bank
        self._tell(list(self._records.values()))
        self._left_over = self._unfinished()
        if not study.trials:
            study.enqueue_trial({}, user_attrs={"preset": "paper"})  # number 0
            for params in warm_starts[: plan.configurations - 1]:
                study.enqueue_trial(dict(params))

    # Ray Tune's side ---------------------------------------------------------------------------------------

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next bank as a Tune config, FINISHED, or None while an earlier bank has to finish first."""
        if self._is_done():
            return Searcher.FINISHED
        bank = self._next_bank
        if not self._is_due(bank):
            return None
        configurations = self._ask(bank)
        self._asked[bank], self._bank_of[trial_id] = configurations, bank
        self._next_bank += 1
        return {"bank": bank, "configurations": configurations, "rung_floor": self._rung_floor()}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Write the bank file; the journal is told when its turn comes."""
        bank = self._bank_of.pop(trial_id, None)
        if bank is None:
            return
        if result and "bank_file" in result:
            data = result["bank_file"]
            records = unpack_bank(data)
        elif error:
            reason = "its worker process died; Ray's log tells more"
            records = [
                TrialRecord(**configuration, state="FAIL", reason=reason)
                for configuration in self._asked[bank]
            ]
            data = pack_bank(records)
        else:  # stopped from outside before it reported: its trials stay RUNNING and are asked for again
            return
        write_atomically(self._run.bank_file(bank), data)
        self._results[bank] = records
        self._records |= {record.number: record for record in records}
        if not self._plan.in_order:
            self._tell(records)
        self._on_bank(records)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing to pickle: Tune writes the searcher into a tuner.pkl that nobody reads again."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the journal and the bank files hold everything."""

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a study resumes from its journal, not from Tune's checkpoint")

    # Optuna's side -----------------------------------------------------------------------------------------

    def tell_rest(self) -> None:
        """Tell the journal every finished bank whose turn has not come yet."""
        for bank in sorted(bank for bank in self._results if bank >= self._told):
            self._tell(self._results[bank])
        self._told = self._next_bank

    def _is_due(self, bank: int) -> bool:
        """Whether this bank may be asked for; tells what it shall know."""
        if not self._plan.in_order:
            return len(self._bank_of) < self._plan.concurrent
        due = bank - self._plan.concurrent
        if due >= self._first_bank and due not in self._results:
            return False
        while self._told <= due:
            self._tell(self._results[self._told])
            self._told += 1
        return True

    def _is_done(self) -> bool:
        if time.monotonic() >= self._plan.deadline:
            return True
        return not self._left_over and self._count() >= self._plan.configurations

    def _count(self) -> int:
        """Configurations asked for so far; those still waiting in Optuna's queue do not count."""
        return sum(trial.state != TrialState.WAITING for trial in self._trials())

    def _trials(self) -> list[optuna.trial.FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _unfinished(self) -> list[int]:
        return [trial.number for trial in self._trials() if trial.state == TrialState.RUNNING]

    def _ask(self, bank: int) -> list[Configuration]:
        seed = int(np.random.SeedSequence([self._plan.seed, bank]).generate_state(1)[0])
        with warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning):
            # group=True keeps conditional parameters (gamma only under focal) in the joint model.
            self._study.sampler = TPESampler(multivariate=True, group=True, constant_liar=True, seed=seed)
        if self._left_over:
            # The paper's configuration has its own batch size and cannot share a bank.
            size = 1 if self._left_over[0] == 0 else self._plan.bank_size
            numbers, self._left_over = self._left_over[:size], self._left_over[size:]
            return [self._draw(self._trial(number)) for number in numbers]
        asked = self._count()
        size = 1 if asked == 0 else min(self._plan.bank_size, self._plan.configurations - asked)
        return [self._draw(self._study.ask()) for _ in range(size)]

    def _draw(self, trial: optuna.Trial) -> Configuration:
        """Draw a trial's parameters, or read again those that a killed driver drew."""
        params = dict(self._paper) if trial.number == 0 else self._suggest(trial)
        return {"number": trial.number, "params": params}

    def _trial(self, number: int) -> optuna.Trial:
        trial_id = next(trial._trial_id for trial in self._trials() if trial.number == number)
        return optuna.Trial(self._study, trial_id)

    def _tell(self, records: Sequence[TrialRecord]) -> None:
        running = set(self._unfinished())
        for record in sorted(records, key=lambda record: record.number):
            if record.number not in running:
                continue
            if record.state == "COMPLETE":
                self._study.tell(record.number, record.objective)
            elif record.state == "PRUNED":
                # Optuna scores a pruned trial by its last report.
                self._trial(record.number).report(record.objective, record.epoch)
                self._study.tell(record.number, state=TrialState.PRUNED)
            else:
                self._study.tell(record.number, state=TrialState.FAIL)

    def _rung_floor(self) -> dict[int, float]:
        """Epoch -> objective below which a head lags; from told banks only, so that it is reproducible."""
        told = {trial.number for trial in self._trials() if trial.state.is_finished()}
        at_rung: dict[int, list[float]] = {}
        for number in told - {0}:
            record = self._records.get(number)
            for point in record.curve if record else []:
                if point["epoch"] in RUNGS and math.isfinite(point["objective"]):
                    at_rung.setdefault(int(point["epoch"]), []).append(point["objective"])
        return {
            epoch: float(np.quantile(values, LAGGING_QUANTILE))
            for epoch, values in sorted(at_rung.items())
            if len(values) >= RUNG_OBSERVATIONS
        }
