"""A process of its own for an attack: its memory and time are bounded, it may write below one folder only and
connect to nothing, and what became of it is told."""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

MEMORY = 1 << 30
"""Bytes that an attack may take beyond what the interpreter with its libraries has."""
SECONDS = 60
CORES = 2
"""Threads take memory too: as many as on a small machine."""

# A process that has already started threads must not fork: the server has none.
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(
    ["study.cli", "cohort.summary", "cohort.splits", "cohort.readers.annotations", "hypothesis"]
)


@dataclass(frozen=True)
class Outcome:
    """What became of the process."""

    code: int | None
    """Its exit code; None where it had to be killed."""
    output: str
    """What it printed, and the traceback of what it raised."""
    seconds: float


def confined(
    work: Callable[..., int | None],
    *arguments: Any,
    writes: Path,
    memory: int = MEMORY,
    seconds: int = SECONDS,
) -> Outcome:
    """Call `work(*arguments)` in a process that may write below the folder `writes` only and may not connect.

    `work` is a function that a fresh process can import; what it returns is the exit code. An attempt to
    connect, to start a program or to write elsewhere ends the process with its traceback and code 70.
    """
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "output"
        process = _PROCESSES.Process(target=_run, args=(work, arguments, writes, memory, said))
        started = time.monotonic()
        # Each thread of Arrow's usual allocator takes hundreds of megabytes of addresses that it never uses.
        with patch.dict(os.environ, ARROW_DEFAULT_MEMORY_POOL="system"):
            process.start()  # the first time the server too, from which the others have it
        process.join(seconds)
        hung = process.is_alive()
        if hung:
            process.kill()
            process.join()
        output = said.read_text(errors="replace") if said.exists() else ""
        return Outcome(None if hung else process.exitcode, output, time.monotonic() - started)


def refusal(outcome: Outcome, longest: int = 1000) -> str:
    """The one line of a user's mistake; AssertionError where it ended in any other way, or in more than so
    many characters."""
    assert outcome.code == 2, outcome
    assert "Traceback" not in outcome.output, outcome.output
    lines = [line for line in outcome.output.splitlines() if line.startswith("radtune: error: ")]
    assert len(lines) == 1 and outcome.output.splitlines()[-1] == lines[0], outcome.output
    assert len(lines[0]) < longest, "a message that nobody can read"
    return lines[0].removeprefix("radtune: error: ")


def _run(work: Callable, arguments: tuple, writes: Path, memory: int, said: Path) -> None:
    output = os.open(said, os.O_WRONLY | os.O_CREAT, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    if sys.platform == "linux":
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + memory, used + memory))
    sys.addaudithook(_Guard(writes))
    try:
        code = work(*arguments) or 0
    except BaseException:
        traceback.print_exc()
        code = 70
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class _Guard:
    """An audit hook (PEP 578) that ends the process where it connects, starts a program or writes
    elsewhere."""

    _FORBIDDEN = (
        "socket.connect",
        "socket.getaddrinfo",
        "socket.gethostbyname",
        "socket.sendto",
        "subprocess.Popen",
        "os.system",
        "os.exec",
        "os.posix_spawn",
        "pty.spawn",
    )
    _CHANGING = ("os.mkdir", "os.remove", "os.rmdir", "os.rename", "os.link", "os.symlink")

    def __init__(self, writes: Path) -> None:
        self.writes = os.path.realpath(writes)

    def __call__(self, event: str, arguments: tuple) -> None:
        if event in self._FORBIDDEN:
            self._end(event, arguments)
        elif event == "open":
            path, _, flags = arguments
            writing = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            if writing and isinstance(path, str | bytes) and not self._allowed(path):
                self._end(event, arguments)
        elif event in self._CHANGING:
            paths = [one for one in arguments[:2] if isinstance(one, str | bytes)]
            if not all(self._allowed(path, arguments[-1]) for path in paths):
                self._end(event, arguments)

    def _allowed(self, path: str | bytes, folder: int = -1) -> bool:
        """Args:
        folder: descriptor of the one that the path starts from; -1: the working directory.
        """
        start = os.readlink(f"/proc/self/fd/{folder}") if folder >= 0 else ""
        real = os.path.realpath(os.path.join(start, os.fsdecode(path)))
        return real == os.devnull or real == self.writes or real.startswith(self.writes + os.sep)

    def _end(self, event: str, arguments: tuple) -> None:
        os.write(2, f"forbidden: {event} {arguments!r:.300}\n".encode())
        traceback.print_stack()
        os._exit(71)
