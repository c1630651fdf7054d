"""Optuna's journal of a study: what its driver writes and optuna-dashboard shows.

Nothing is read back from it: a driver begins it anew from the bank files and from the notes of what was asked
for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend


class _DriversJournal(BaseJournalBackend):
    """A journal that one process alone writes: it is kept in memory, and a file has its lines too.

    Optuna's own backend locks, syncs and reads the file again at every line, which is for several writers and
    for a file that is the only record.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lines = path, []
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        self._file = open(path, "xb", buffering=0)

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        return [json.loads(line) for line in self._lines[log_number_from:]]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        lines = [json.dumps(log, separators=(",", ":")) for log in logs]
        self._lines += lines
        try:
            self._file.write("".join(f"{line}\n" for line in lines).encode())
        except OSError as error:  # which names no file: a full disk
            raise OSError(error.errno, error.strerror, str(self._path)) from None


def begun_journal(path: Path) -> JournalStorage:
    """An empty journal for the driver to write, whatever the file held; the caller holds the driver's
    lock."""
    return JournalStorage(_DriversJournal(path))


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


def beginning(path: Path) -> bytes:
    """The first line of a journal, which is another in each that was begun."""
    with open(path, "rb") as file:
        return file.readline()


def shown_journal(path: Path) -> JournalStorage:
    """A journal as it stands, for reading alone."""
    return JournalStorage(ReadOnlyJournal(path))
