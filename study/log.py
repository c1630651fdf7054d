"""What a driver says, in Python's `logging`: each line to whoever listens, and to the log of the run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOGGER = logging.getLogger("radtune")
WARNINGS = logging.getLogger("py.warnings")
"""What `warnings` says, where `study.streams.hide_warnings` has it."""


class _RunLog(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """Nothing: where the disk is full, a file that matters says so."""


@contextmanager
def run_log(path: Path) -> Iterator[None]:
    """What is logged in the block, and what libraries warn of, is appended to a file with its time; of the
    libraries nothing reaches the console."""
    handler = _RunLog(path, encoding="utf-8", errors="backslashreplace", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    loggers = [LOGGER, root, *([] if WARNINGS.propagate else [WARNINGS])]
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        with suppress(OSError):
            handler.close()


def logged(echo: Callable[[str], None]) -> Callable[[str], None]:
    """`echo`, and a line of the log."""

    def say(line: str) -> None:
        LOGGER.info(line)
        echo(line)

    return say


def show_warnings() -> None:
    """Print what libraries warn of on standard error too."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    for logger in (logging.getLogger(), WARNINGS):
        logger.addHandler(handler)
