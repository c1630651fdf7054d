"""Optuna's journal: opened only after what a killed process, or a disk, did to it has been put right.

The bank files are the truth: they hold every finished configuration with its parameters. A journal that does
not agree with them is written anew.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend
from optuna.trial import FixedTrial, FrozenTrial, TrialState, create_trial

from trainables.records import TrialRecord

Start = tuple[Mapping[str, Any], str]
"""Parameters that a study begins with, and the name of the published configuration that they are, or ""."""


ASKED = "bank "
"""Begins the name of the journal's note of a bank, which holds the numbers of its configurations."""


def asked_banks(study: optuna.Study) -> dict[int, list[int]]:
    """The numbers of the configurations of every bank that was asked for to the end."""
    return {
        int(name.removeprefix(ASKED)): numbers
        for name, numbers in study.user_attrs.items()
        if name.startswith(ASKED)
    }


def open_study(
    path: Path,
    name: str,
    banks: Mapping[int, Sequence[TrialRecord]],
    suggest: Callable[[FixedTrial], object],
    starts: Sequence[Start],
    *,
    replayed_from: float = math.inf,
) -> tuple[optuna.Study, str]:
    """The study of a journal, made where there is none; the caller holds the driver's lock.

    Args:
        banks: every finished configuration, from the bank files.
        suggest: draws a configuration's parameters from a trial.
        starts: what the study begins with.
        replayed_from: a journal that lost something ends before this bank; from there on the search asks for
            each bank again as it did the first time. The bank files do not hold all that the sampler knew of
            a configuration that still trained.

    Returns:
        the study, and a line that says what was put right; empty where the journal was whole. A configuration
        that is asked again keeps its number, and where the journal still knew them its parameters; those of a
        bank that was half asked for are forgotten, since the rest of it could not be drawn as if nothing had
        happened.
    """
    path = path.absolute()  # beside a relative path Optuna's symlink lock dangles and spins for ever
    path.parent.mkdir(parents=True, exist_ok=True)
    for stale in path.parent.glob(f"{path.name}.lock*"):  # nobody else may write
        stale.unlink(missing_ok=True)
    damage = _keep_whole_lines(path)
    try:
        study = _study(path, name)
        trials = study.get_trials(deepcopy=False)
    except (ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:
        # Whole lines of JSON, one of which says what no journal does: a date of letters, say.
        path.unlink()
        damage = f"it could not be read, {type(error).__name__}"
        study = _study(path, name)
        trials = study.get_trials(deepcopy=False)
    asked = asked_banks(study)
    records = {record.number: record for bank in banks.values() for record in bank}
    whole_banks = {number for numbers in asked.values() for number in numbers}
    running = {trial.number for trial in trials if trial.state == TrialState.RUNNING}
    half_asked = running - whole_banks - records.keys()
    wrong = _disagreement(trials, records)
    if not damage and not wrong and not half_asked:
        return study, ""
    rebuilt = path.with_name(f".{path.name}.rebuilt")
    rebuilt.unlink(missing_ok=True)
    anew = _study(rebuilt, name)
    kept, known = {trial.number for trial in trials} - half_asked, records
    if damage or records.keys() - {trial.number for trial in trials}:
        asked = {bank: numbers for bank, numbers in asked.items() if bank < replayed_from}
        known = {one.number: one for bank, ended in banks.items() if bank < replayed_from for one in ended}
        if replayed_from < math.inf:
            kept &= known.keys() | {number for numbers in asked.values() for number in numbers}
    _rebuild(anew, [trial for trial in trials if trial.number in kept], known, suggest, starts)
    for bank, numbers in asked.items():
        anew.set_user_attr(f"{ASKED}{bank}", numbers)
    with open(rebuilt, "rb") as file:
        os.fsync(file.fileno())
    os.replace(rebuilt, path)
    study = _study(path, name)
    if not damage and not wrong:
        return study, ""
    asked_for = 1 + max([*records, *(trial.number for trial in study.get_trials(deepcopy=False))], default=-1)
    again = sum(number not in records for number in range(asked_for))
    return study, (
        f"the journal was written anew from the bank files ({damage or wrong}): {len(records)} "
        f"configurations are done, {again} are asked again"
    )


def queue_start(study: optuna.Study, place: int, start: Start) -> None:
    """Queue what a study begins with, under its place among these, which is its number."""
    params, preset = start
    study.enqueue_trial(dict(params), user_attrs={"start": place, "preset": preset})


def journal_storage(path: Path) -> JournalStorage:
    """A journal as Optuna reads and writes it, as it stands."""
    return JournalStorage(JournalFileBackend(str(path)))


class ReadOnlyJournal(BaseJournalBackend):
    """A journal that others may be writing to, as its whole lines are at each reading; nothing is written.

    Args:
        path: an existing journal.
    """

    def __init__(self, path: Path) -> None:
        self._file = JournalFileBackend(str(path.absolute()))

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        return self._file.read_logs(log_number_from)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        raise PermissionError("the study's journal is shown, and only its driver writes to it")


def _study(path: Path, name: str) -> optuna.Study:
    storage = journal_storage(path)
    return optuna.create_study(study_name=name, storage=storage, direction="maximize", load_if_exists=True)


def _keep_whole_lines(path: Path) -> str:
    """Cut a journal back to its last whole line; returns what was wrong beside a torn last one.

    A last line without its newline was being written when its process died: no reader has seen it.
    """
    if not path.exists():
        return ""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    damage, good = "", 0
    for number, line in enumerate(content[:whole].splitlines(keepends=True), start=1):
        try:
            operation = json.loads(line)
            if not isinstance(operation, dict) or not isinstance(operation.get("op_code"), int):
                raise ValueError
        except ValueError:
            damage = f"line {number} was damaged"
            break
        good += len(line)
    if good < len(content):
        with open(path, "r+b") as file:
            file.truncate(good)
    return damage


def _disagreement(trials: list[FrozenTrial], records: Mapping[int, TrialRecord]) -> str:
    """How journal and bank files contradict each other; empty where they do not."""
    by_number = {trial.number: trial for trial in trials}
    if lost := sorted(records.keys() - by_number.keys()):
        return f"it no longer knew #{lost[0]}"
    for number, trial in by_number.items():
        if trial.state.is_finished() and number not in records:
            return f"the bank file of #{number} is gone"
        record = records.get(number)
        if record is None:
            continue
        if _other_parameters(trial, record):
            return f"it had other parameters of #{number}"
        if trial.state.is_finished():
            result = told(record)
            if (trial.state, trial.value) != (result["state"], result.get("value")):
                return f"it had another result of #{number}"
    return ""


def _other_parameters(trial: FrozenTrial, record: TrialRecord) -> bool:
    return any(record.params.get(key) != value for key, value in trial.params.items())


def _rebuild(
    study: optuna.Study,
    trials: list[FrozenTrial],
    records: Mapping[int, TrialRecord],
    suggest: Callable[[FixedTrial], object],
    starts: Sequence[Start],
) -> None:
    """Fill an empty study with every number that either knows: told as its record says, or running, or to be
    asked again."""
    known = {trial.number: trial for trial in trials}
    for number in range(1 + max([*known, *records], default=-1)):
        record, trial = records.get(number), known.get(number)
        still_running = trial is not None and trial.state == TrialState.RUNNING
        if record is not None and (not still_running or _other_parameters(trial, record)):
            drawn = FixedTrial(record.params)
            if not record.preset:
                suggest(drawn)
            # What was not told yet, the search tells when its turn comes.
            finished = trial is not None and trial.state.is_finished()
            result = told(record) if finished else {"state": TrialState.RUNNING}
            study.add_trial(
                create_trial(
                    params=drawn.params,
                    distributions=drawn.distributions,
                    user_attrs={"start": number, "preset": record.preset},
                    **result,
                )
            )
        elif trial is not None:
            waiting = trial.state == TrialState.WAITING
            study.add_trial(
                create_trial(
                    state=TrialState.WAITING if waiting else TrialState.RUNNING,
                    params=trial.params,
                    distributions=trial.distributions,
                    user_attrs=trial.user_attrs,
                    system_attrs=trial.system_attrs,
                )
            )
        else:
            queue_start(study, number, starts[number] if number < len(starts) else ({}, ""))


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
