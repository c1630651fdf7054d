"""A web server of another package, as a child process, for as long as a command runs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import IO

from cohort.errors import InputError

PATIENCE = 180.0
"""Seconds in which a server must answer."""
QUIET = {"PYTHONWARNINGS": "ignore", "MLFLOW_LOGGING_LEVEL": "WARNING"}


def serve(
    command: Sequence[str], environment: Mapping[str, str], port: int, ready: Callable[[], None]
) -> None:
    """Run a server on 127.0.0.1 until Ctrl-C or SIGTERM, which end it and all of its processes.

    Args:
        command: starts it; what it prints is not shown.
        environment: set for it beside this process's own.
        port: on which it listens.
        ready: called once `/health` answers.

    Raises:
        InputError: the port is in use, or the server ends by itself; with its last line.
    """
    refuse_used(port)
    with ended_by_ctrl_c(), tempfile.TemporaryFile("w+b") as log:
        # In a session of its own, where a terminal's Ctrl-C does not reach it: its workers are ended with it.
        server = subprocess.Popen(
            command,
            env={**os.environ, **QUIET, **environment},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            _await_answer(server, port)
            if server.poll() is None:
                ready()
            server.wait()
            raise InputError(f"the server ended by itself ({_last_line(log)}); try another --port")
        finally:
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)
            server.wait()


@contextmanager
def ended_by_ctrl_c() -> Iterator[None]:
    """A block that Ctrl-C and SIGTERM end, without an error; what it has opened is closed first."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)


def refuse_used(port: int) -> None:
    """InputError where something listens on this port of 127.0.0.1 already."""
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise InputError(f"--port {port}: in use already; give another one")


def _await_answer(server: subprocess.Popen[bytes], port: int) -> None:
    """Wait until the server answers, or ends."""
    deadline = time.monotonic() + PATIENCE
    while server.poll() is None:
        with suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
            return
        if time.monotonic() > deadline:
            raise InputError(f"--port {port}: no server answered there within {PATIENCE:.0f} s; try again")
        time.sleep(0.2)


def _last_line(log: IO[bytes]) -> str:
    log.seek(0)
    lines = log.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "without a word")
