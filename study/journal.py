"""Optuna's journal: opened only after what a killed process left in it has been put right."""

from __future__ import annotations

import json
from pathlib import Path

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from cohort.errors import InputError


def open_journal(path: Path) -> JournalStorage:
    """Open or create a journal; the caller holds the driver's lock.

    A last line without its newline was being written when its process died: no reader has seen it, so it
    is cut. A lock file is stale, since nobody else may write. The path is made absolute: beside a relative
    path Optuna's symlink lock dangles and spins for ever.

    Raises:
        InputError: a line before the last is not JSON; cutting there would lose finished configurations.
    """
    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    for stale in path.parent.glob(f"{path.name}.lock*"):
        stale.unlink(missing_ok=True)
    if path.exists():
        _cut_torn_tail(path)
    return JournalStorage(JournalFileBackend(str(path)))


def _cut_torn_tail(path: Path) -> None:
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    for number, line in enumerate(content[:whole].splitlines(), start=1):
        try:
            json.loads(line)
        except ValueError:
            raise InputError(
                f"{path}: line {number} is damaged, and configurations recorded after it would be lost; "
                "restore the file from a backup, or start the study under another name"
            ) from None
    if whole < len(content):
        with open(path, "r+b") as file:
            file.truncate(whole)
