"""One driver a study: two would ask for the same banks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout, lock_descriptor

from cohort.errors import InputError

# A driver waits this long, so that `is_locked`, which holds the lock for an instant, cannot turn it away.
PATIENCE = 0.5


@contextmanager
def driver_lock(path: Path) -> Iterator[None]:
    """Hold `path` for this process; the kernel lets go when the process dies, however it dies.

    Raises:
        InputError: another driver holds it; the message names its process id.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A lock that is a file's mere existence would outlive a killed process.
    lock = FileLock(path, timeout=PATIENCE, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        holder = path.read_text().strip() or "unknown"
        raise InputError(
            f"{path.parent}: another driver (process {holder}) runs this study; wait for it or stop it"
        ) from None
    try:
        path.write_text(str(os.getpid()))
        yield
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Whether a driver runs the study at this moment; the lock file is not written to."""
    if not path.exists():
        return False
    # NFS gives this lock to no descriptor that may not write; elsewhere reading is enough, and all that a
    # colleague may do.
    with open(path, "r+" if os.access(path, os.W_OK) else "r") as file:
        return not lock_descriptor(file.fileno(), blocking=False)
