"""Ray Tune's Searcher over banks: one Tune trial is a bank of configurations."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ray.tune.search import Searcher

from study.bank_queue import BankQueue
from trainables.bank_files import unpack_bank
from trainables.records import TrialRecord

TRIES = 3
"""How often a bank is handed out whose worker dies, in one run of the study."""


class BankSearcher(Searcher):
    """Hands a study's banks out to Ray Tune, and takes what its workers report.

    Args:
        banks: those of the study.
        on_bank: called with each finished bank's records, in the order of finishing.
    """

    def __init__(self, banks: BankQueue, on_bank: Callable[[list[TrialRecord]], None]) -> None:
        super().__init__(metric="objective", mode="max")
        self.banks, self._on_bank = banks, on_bank
        self._bank_of: dict[str, int] = {}
        """Of those that train, by Tune's id."""
        self._deaths: dict[int, int] = {}
        self._fault: Exception | None = None
        self.out_of_time = False
        """Whether the deadline ended the search, or a bank of it, before all was trained."""
        self.given_up: list[int] = []
        """Configurations without a result, because their worker died at every try."""

    def is_done(self) -> bool:
        """Whether no bank is to be started any more."""
        if self.banks.is_empty:
            return True
        self.out_of_time |= time.time() >= self.banks.plan.deadline
        return self.out_of_time

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
        bank = self.banks.take(training=len(self._bank_of))
        if bank is None:
            return None
        self._bank_of[trial_id] = bank
        return self.banks.config(bank)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """A worker that gets on may die as often as machines are taken away from it."""
        self._deaths.pop(self._bank_of.get(trial_id), None)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Take what a bank left, or have it handed out once more."""
        try:
            self._end(trial_id, result, error)
        except Exception as fault:
            self._fault = fault

    def _end(self, trial_id: str, result: dict[str, Any] | None, error: bool) -> None:
        bank = self._bank_of.pop(trial_id, None)
        if bank is None:
            return
        asked = self.banks.configurations(bank)
        if result and "bank_file" in result:
            records = unpack_bank(result["bank_file"])
            self.banks.end(bank, records, result["bank_file"])
            # Those that are missing stay RUNNING and are asked for again.
            self.out_of_time |= len(records) < len(asked) and not error
        elif error:
            self._deaths[bank] = self._deaths.get(bank, 0) + 1
            if self._deaths[bank] < TRIES:
                self.banks.put_back(bank)
                return
            records = self.banks.give_up(bank)
            self.given_up += [] if records else [one["number"] for one in asked]
        else:  # stopped from outside before it reported: its trials stay RUNNING, too
            return
        if records:
            self._on_bank(records)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing to pickle: Tune writes the searcher into a tuner.pkl that nobody reads again."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: notes and bank files hold everything."""

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a study resumes from its bank files, not from Tune's checkpoint")
