"""Which bank of configurations is trained next, and what is known when it is asked for; imports no Ray.

The truth is on disk: a note of every bank that was asked for, written before it is handed out, and the file
of every bank that has ended. A driver begins Optuna's study anew from both.
"""

from __future__ import annotations

from typing import Any

from cohort.files import write_atomically
from study.ask_tell import Asked, Asking, AskTell
from study.run_folder import RunFolder
from study.search_plan import SearchPlan
from trainables.bank_files import pack_bank
from trainables.records import TrialRecord


class BankQueue:
    """The banks of one study: those that have ended, those that are to be trained again, those to come.

    In order, bank b is asked for when exactly the banks up to b - concurrent have been told, whichever of the
    running ones finishes first: the same seed gives the same study.

    Args:
        name: of the study.
        run: where notes and bank files go; what an earlier driver left there is taken up.
        plan: how the study is cut into banks.
        asking: what is asked.
    """

    def __init__(self, name: str, run: RunFolder, plan: SearchPlan, asking: Asking) -> None:
        self._run, self.plan, self._asking = run, plan, asking
        self._optuna = AskTell(name, run.journal, asking, plan.seed)
        self._ended = run.finished_banks()
        self._records = {record.number: record for bank in self._ended.values() for record in bank}
        self._notes = run.asked_banks()
        self._next_bank = max([plan.first_bank - 1, *self._notes, *self._ended]) + 1
        self._again = sorted(self._notes.keys() - self._ended.keys())
        """Banks that an earlier driver asked for, or whose worker died, to be handed out once more."""
        self._left_over = self._take_up()
        """What the deadline cut off the end of banks, in an earlier run."""
        self._told = 0
        """Banks below this one have been told, as far as they have ended."""
        while self._told < (plan.first_bank if plan.in_order else self._next_bank):
            self._tell_next()

    def _take_up(self) -> list[Asked]:
        """Add to Optuna's study, under their numbers, what earlier drivers asked for; returns what of it has
        no result and is in no bank that is handed out once more.

        What was trained counts, whatever was noted. A number that nobody knows any more, because a note and a
        bank file were lost, is asked for anew.
        """
        known: dict[int, Asked] = {}
        sampler_notes: dict[int, dict[str, Any]] = {}
        for note in self._notes.values():
            for one, noted in zip(note["configurations"], note["sampler"], strict=True):
                known[one["number"]], sampler_notes[one["number"]] = one, noted
        for number, record in self._records.items():
            known[number] = {"number": number, "params": record.params, "preset": record.preset}
        for number in range(max(known, default=-1) + 1):
            if number in known:
                self._optuna.add(known[number], sampler_notes.get(number, {}))
            else:
                self._optuna.queue()
        in_flight = {one["number"] for bank in self._again for one in self.configurations(bank)}
        taken = self._records.keys() | in_flight
        return [one for number, one in sorted(known.items()) if number not in taken]

    # Handing out -------------------------------------------------------------------------------------------

    @property
    def is_empty(self) -> bool:
        """Whether every configuration of the study has been handed out."""
        return not self._left_over and not self._again and self._optuna.count >= self.plan.configurations

    def take(self, training: int) -> int | None:
        """The bank that is to be trained now, beside so many; None while another has to end first."""
        if self._again:
            bank = next((bank for bank in self._again if self._knows_what(bank)), None)
            if bank is not None:
                self._again.remove(bank)
            return bank
        bank = self._next_bank
        if not self._is_due(bank, training):
            return None
        asked = self._ask(bank)
        self._note(bank, {"configurations": asked, "sampler": self._optuna.sampler_notes(asked)})
        self._next_bank += 1
        return bank

    def configurations(self, bank: int) -> list[Asked]:
        """Of a bank that was asked for."""
        return self._notes[bank]["configurations"]

    def config(self, bank: int) -> dict[str, Any]:
        """What a worker receives of a bank that was asked for."""
        return {
            "bank": bank,
            "configurations": self.configurations(bank),
            "deadline": self.plan.deadline,
            **self._asking.known_to_bank(self._known_records(bank)),
        }

    def _ask(self, bank: int) -> list[Asked]:
        if self._left_over:
            # A published configuration has its own way of training and cannot share a bank.
            size = 1 if self._left_over[0]["preset"] else self.plan.bank_size
            asked, self._left_over = self._left_over[:size], self._left_over[size:]
            return asked
        size = min(self.plan.bank_size, self.plan.configurations - self._optuna.count)
        return self._optuna.ask(bank, 1 if self._optuna.preset_is_next else size)

    def _note(self, bank: int, note: dict[str, Any]) -> None:
        self._notes[bank] = note
        self._run.note_asked(bank, note)

    def _is_due(self, bank: int, training: int) -> bool:
        """Whether this bank may be asked for; tells what it shall know."""
        if not self.plan.in_order:
            return training < self.plan.concurrent
        while self._told <= bank - self.plan.concurrent:
            if self._told in self._notes and self._told not in self._ended:
                return False
            self._tell_next()
        return True

    def _knows_what(self, bank: int) -> bool:
        """Whether all that a bank was told when it was first asked for is here; where the files of several
        are lost, the earlier ones train first."""
        known = self.plan.known(bank) if self.plan.in_order else ()
        return all(one in self._ended for one in known if one in self._notes)

    def _known_records(self, bank: int) -> list[TrialRecord]:
        """Of the banks that were told when this one was asked for, so that what follows from them is
        reproducible; out of order, of all."""
        if not self.plan.in_order:
            return [record for _, record in sorted(self._records.items())]
        known = [record for one in self.plan.known(bank) for record in self._ended.get(one, [])]
        return sorted(known, key=lambda record: record.number)

    # What came of it ---------------------------------------------------------------------------------------

    def put_back(self, bank: int) -> None:
        """Have a bank handed out once more, before any other."""
        self._again.insert(0, bank)

    def give_up(self, bank: int) -> list[TrialRecord]:
        """A bank whose worker died at every try: no record the first time, since a machine may be to blame
        and a resume hands it out once more; then a failed one of each configuration."""
        reason = "its worker died at every try, in two runs of the study; see the log of Ray"
        records = []
        if self._notes[bank].get("given_up"):
            asked = self.configurations(bank)
            records = [TrialRecord(**one, state="FAIL", reason=reason) for one in asked]
        self._note(bank, self._notes[bank] | {"given_up": True})
        self.end(bank, records, pack_bank(records))
        return records

    def end(self, bank: int, records: list[TrialRecord], bank_file: bytes) -> None:
        """Write the file of a bank of which anything was trained; Optuna is told when its turn comes."""
        if records:
            write_atomically(self._run.bank_file(bank), bank_file)
        self._ended[bank] = records
        self._records |= {record.number: record for record in records}
        if not self.plan.in_order:
            self._optuna.tell(records)

    def tell_rest(self) -> None:
        """Tell every bank that has ended and whose turn has not come yet."""
        self._optuna.tell(self._records.values())

    def _tell_next(self) -> None:
        self._optuna.tell(self._ended.get(self._told, []))
        self._told += 1
