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
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.samplers import TPESampler
from optuna.trial import TrialState
from ray.tune.search import Searcher

from cohort.files import write_atomically
from study.journal import ASKED, Start, asked_banks, open_study, queue_start, told
from study.run_folder import RunFolder
from study.search_plan import SearchPlan, kept_plan
from trainables.bank_files import pack_bank, unpack_bank
from trainables.records import TrialRecord

TRIES = 3
"""How often a bank is handed out whose worker dies, in one run of the study."""
GIVEN_UP = "given_up"
"""Set in the journal on a trial that is to be asked again because its worker died at every try."""
Asked = dict[str, Any]
"""`number`, `params` and `preset` of one configuration, as a bank receives it."""


@dataclass(frozen=True, kw_only=True)
class Asking:
    """What is asked of a study's trials, and in which order; an adapter's space, as the study file has it."""

    suggest: Callable[[optuna.Trial], dict[str, Any]]
    """Draws a configuration's parameters from an Optuna trial."""
    presets: Mapping[str, Mapping[str, Any]]
    """Published configurations by name; tried first, each in a bank of its own."""
    warm_starts: Sequence[Mapping[str, Any]]
    """Parameters tried next."""
    told: Callable[[Sequence[TrialRecord]], Mapping[str, Any]]
    """From all records that the journal knows, what a bank is told beside its configurations."""

    @property
    def starts(self) -> list[Start]:
        """What the study begins with, in order."""
        presets: list[Start] = [({}, name) for name in self.presets]
        return presets + [(params, "") for params in self.warm_starts]


class Redrawn(Exception):
    """Optuna draws other configurations than it did; another release of it, say."""


class BankSearcher(Searcher):
    """Hands out banks and tells their results.

    The sampler is seeded from (seed, bank). In order, bank b is asked for when exactly the banks up to
    b - concurrent have been told, whichever of the running ones finishes first: the same seed gives the same
    study.

    Args:
        study: an Optuna study on the run's journal; its unfinished trials are taken up again first.
        run: where bank files go.
        on_bank: called with each finished bank's records, in the order of finishing.
    """

    def __init__(
        self,
        *,
        study: optuna.Study,
        run: RunFolder,
        plan: SearchPlan,
        asking: Asking,
        on_bank: Callable[[list[TrialRecord]], None],
    ) -> None:
        super().__init__(metric="objective", mode="max")
        self._study, self._run, self.plan = study, run, plan
        self._asking, self._on_bank = asking, on_bank
        self._results = run.finished_banks()
        self._records = {record.number: record for bank in self._results.values() for record in bank}
        asked, known = asked_banks(study), len(self._trials())
        in_journal = (
            bank for bank, records in self._results.items() if all(one.number < known for one in records)
        )
        self._next_bank = max([plan.first_bank - 1, *asked, *in_journal]) + 1
        self._handed_out: dict[int, dict[str, Any]] = {}
        self._bank_of: dict[str, int] = {}
        self._again: list[int] = []
        """Banks that an earlier driver asked for, or whose worker died, to be handed out once more."""
        self._deaths: dict[int, int] = {}
        self._fault: Exception | None = None
        self.out_of_time = False
        """Whether the deadline ended the search, or a bank of it, before all was trained."""
        self.given_up: list[int] = []
        """Configurations without a result, because their worker died at every try."""
        self._told = 0
        while self._told < (plan.first_bank if plan.in_order else self._next_bank):
            self._tell(self._results.get(self._told, []))
            self._told += 1
        for bank in sorted(asked.keys() - self._results.keys()):
            self._hand_out(bank, [self._draw(self._trial(number)) for number in asked[bank]])
            self._again.append(bank)
        in_flight = {number for bank in self._again for number in asked[bank]}
        self._left_over = [
            number for number in self._unfinished() if number not in self._records.keys() | in_flight
        ]
        self._enqueue_starts()

    def _enqueue_starts(self) -> None:
        """Queue the presets, then the warm starts; after a crash between two of them, the rest.

        Once anything else has been asked for, what was left out (of a study too small for it) stays out.
        """
        queued = [trial.user_attrs.get("start") for trial in self._trials()]
        if None in queued:
            return
        for place, start in enumerate(self._asking.starts[: self.plan.configurations]):
            if place not in queued:
                queue_start(self._study, place, start)

    def replay(self) -> None:
        """Ask again, in their order, for the banks that have ended and that a journal which was lost no
        longer knows, so that the next bank is asked for as if nothing had happened.

        Raises:
            Redrawn: other configurations are drawn than were trained.
        """
        while self._next_bank <= max(self._results, default=-1) and self._is_due(self._next_bank):
            bank, drawn = self._next_bank, self._ask(self._next_bank)
            self._hand_out(bank, drawn)
            self._next_bank += 1
            if bank not in self._results:
                self._again.append(bank)  # it still trained
            elif {one.number: one.params for one in self._results[bank]} != {
                one["number"]: one["params"] for one in drawn
            }:
                raise Redrawn

    # Ray Tune's side ---------------------------------------------------------------------------------------

    def raise_fault(self) -> None:
        """Raise what went wrong in a call of Ray Tune's, which takes it for a fault of the trial."""
        if self._fault:
            raise self._fault

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next bank as a Tune config, FINISHED, or None while an earlier bank has to finish first."""
        try:
            return self._next(trial_id)
        except Exception as error:  # a full disk, say
            self._fault = error
            return None

    def _next(self, trial_id: str) -> dict[str, Any] | str | None:
        if self.is_done():
            # The worker of a bank that still trains may die.
            return None if self._bank_of else Searcher.FINISHED
        if self._again:
            bank = next((bank for bank in self._again if self._knows_what(bank)), None)
            if bank is None:
                return None
            self._again.remove(bank)
            self._bank_of[trial_id] = bank
            self._handed_out[bank] |= self._asking.told(self._known_records(bank))
            return self._handed_out[bank]
        bank = self._next_bank
        if not self._is_due(bank):
            return None
        self._bank_of[trial_id] = bank
        self._hand_out(bank, self._ask(bank))
        self._next_bank += 1
        return self._handed_out[bank]

    def _hand_out(self, bank: int, configurations: list[Asked]) -> None:
        numbers = [one["number"] for one in configurations]
        self._study.set_user_attr(f"{ASKED}{bank}", numbers)
        self._handed_out[bank] = {
            "bank": bank,
            "configurations": configurations,
            "deadline": self.plan.deadline,
            **self._asking.told(self._known_records(bank)),
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """A worker that gets on may die as often as machines are taken away from it."""
        self._deaths.pop(self._bank_of.get(trial_id), None)

    def is_done(self) -> bool:
        """Whether no bank is to be started any more."""
        if not self._left_over and not self._again and self._count() >= self.plan.configurations:
            return True
        self.out_of_time |= time.time() >= self.plan.deadline
        return self.out_of_time

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Write the bank file; the journal is told when its turn comes."""
        try:
            self._take(trial_id, result, error)
        except Exception as fault:
            self._fault = fault

    def _take(self, trial_id: str, result: dict[str, Any] | None, error: bool) -> None:
        bank = self._bank_of.pop(trial_id, None)
        if bank is None:
            return
        if result and "bank_file" in result:
            data = result["bank_file"]
            records = unpack_bank(data)
        elif error:
            self._deaths[bank] = self._deaths.get(bank, 0) + 1
            if self._deaths[bank] < TRIES:
                self._again.insert(0, bank)
                return
            records = self._given_up(bank)
            data = pack_bank(records)
        else:  # stopped from outside before it reported: its trials stay RUNNING and are asked for again
            return
        if not error:
            # The rest stay RUNNING, as above.
            self.out_of_time |= len(records) < len(self._handed_out[bank]["configurations"])
        if records:
            write_atomically(self._run.bank_file(bank), data)
        self._results[bank] = records
        self._records |= {record.number: record for record in records}
        if not self.plan.in_order:
            self._tell(records)
        if records:
            self._on_bank(records)

    def _given_up(self, bank: int) -> list[TrialRecord]:
        """Records of the configurations of a bank whose worker died at every try, or no record the first
        time: a machine may be to blame, and on a resume they are asked for once more."""
        records = []
        for one in self._handed_out[bank]["configurations"]:
            trial = self._trial(one["number"])
            if trial.user_attrs.get(GIVEN_UP):
                reason = "its worker died at every try, in two runs of the study; see the log of Ray"
                records.append(TrialRecord(**one, state="FAIL", reason=reason))
            else:
                trial.set_user_attr(GIVEN_UP, True)
                self.given_up.append(one["number"])
        return records

    def __getstate__(self) -> dict[str, Any]:
        """Nothing to pickle: Tune writes the searcher into a tuner.pkl that nobody reads again."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the journal and the bank files hold everything."""

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a study resumes from its journal, not from Tune's checkpoint")

    # Optuna's side -----------------------------------------------------------------------------------------

    def tell_rest(self) -> None:
        """Tell the journal every finished bank whose turn has not come yet; not of a study that is to be
        resumed, whose next bank must not know them."""
        if self.out_of_time or self.given_up:
            return
        for bank in sorted(bank for bank in self._results if bank >= self._told):
            self._tell(self._results[bank])
        self._told = self._next_bank

    def _is_due(self, bank: int) -> bool:
        """Whether this bank may be asked for; tells what it shall know."""
        if not self.plan.in_order:
            return len(self._bank_of) < self.plan.concurrent
        due = bank - self.plan.concurrent
        if due >= self.plan.first_bank and due not in self._results:
            return False
        while self._told <= due:
            if self._told in self._handed_out and self._told not in self._results:
                return False  # its file was lost, and it trains again
            self._tell(self._results.get(self._told, []))
            self._told += 1
        return True

    def _knows_what(self, bank: int) -> bool:
        """Whether all that a bank was told when it was first asked for is here; where the files of several
        are lost, the earlier ones train first."""
        known = self.plan.known(bank) if self.plan.in_order else ()
        return all(one in self._results for one in known if one in self._handed_out)

    def _count(self) -> int:
        """Configurations asked for so far; those still waiting in Optuna's queue do not count."""
        return sum(trial.state != TrialState.WAITING for trial in self._trials())

    def _trials(self) -> list[optuna.trial.FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _unfinished(self) -> list[int]:
        return [trial.number for trial in self._trials() if trial.state == TrialState.RUNNING]

    def _ask(self, bank: int) -> list[Asked]:
        seed = int(np.random.SeedSequence([self.plan.seed, bank]).generate_state(1)[0])
        with warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning):
            # group=True keeps conditional parameters (gamma only under focal) in the joint model.
            self._study.sampler = TPESampler(multivariate=True, group=True, constant_liar=True, seed=seed)
        if self._left_over:
            size = 1 if self._preset(self._left_over[0]) else self.plan.bank_size
            numbers, self._left_over = self._left_over[:size], self._left_over[size:]
            return [self._draw(self._trial(number)) for number in numbers]
        asked = self._count()
        size = min(self.plan.bank_size, self.plan.configurations - asked)
        if asked < len(self._asking.presets):
            size = 1  # a published configuration has its own way of training and cannot share a bank
        return [self._draw(self._study.ask()) for _ in range(size)]

    def _draw(self, trial: optuna.Trial) -> Asked:
        """Draw a trial's parameters, or read again those that a killed driver drew."""
        preset = self._preset(trial.number)
        params = dict(self._asking.presets[preset]) if preset else self._asking.suggest(trial)
        return {"number": trial.number, "params": params, "preset": preset}

    def _preset(self, number: int) -> str:
        return self._trials()[number].user_attrs.get("preset", "")

    def _trial(self, number: int) -> optuna.Trial:
        return optuna.Trial(self._study, self._trials()[number]._trial_id)

    def _tell(self, records: Sequence[TrialRecord]) -> None:
        running = set(self._unfinished())
        for record in sorted(records, key=lambda record: record.number):
            if record.number not in running:
                continue
            result = told(record)
            for step, value in result.get("intermediate_values", {}).items():
                self._trial(record.number).report(value, step)  # by the last Optuna scores a pruned trial
            if result["state"] == TrialState.COMPLETE:
                self._study.tell(record.number, result["value"])
            else:
                self._study.tell(record.number, state=result["state"])

    def _known_records(self, bank: int) -> list[TrialRecord]:
        """Of the banks that were told when this one was asked for, so that what follows from them is
        reproducible; out of order, of all."""
        if not self.plan.in_order:
            return [record for _, record in sorted(self._records.items())]
        known = [record for one in self.plan.known(bank) for record in self._results.get(one, [])]
        return sorted(known, key=lambda record: record.number)


def taken_up(
    name: str,
    run: RunFolder,
    plan: SearchPlan,
    asking: Asking,
    on_bank: Callable[[list[TrialRecord]], None],
) -> tuple[BankSearcher, str]:
    """The search of a new study, or of one that a killed driver left.

    Args:
        name: of the study.
        plan: of a new study; one that goes on keeps its own.
        on_bank: as of `BankSearcher`.

    Returns:
        it, and a line that says what was put right, or "".
    """
    noted, banks = run.plan(), run.finished_banks()

    def opened(replayed_from: float) -> tuple[BankSearcher, str]:
        study, mended = open_study(
            run.journal, name, banks, asking.suggest, asking.starts, replayed_from=replayed_from
        )
        kept = kept_plan(plan, run, asked_banks(study))
        searcher = BankSearcher(study=study, run=run, plan=kept, asking=asking, on_bank=on_bank)
        searcher.replay()
        return searcher, mended

    if plan.in_order and noted.get("configurations") == plan.configurations:
        with suppress(Redrawn):  # then what was trained is what counts
            return opened(noted["first_bank"])
    return opened(math.inf)
