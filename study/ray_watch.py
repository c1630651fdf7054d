"""Whether a study's Ray still runs: Ray's own driver would notice after a minute, and abort."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn

from study.ray_private import dead_processes, kill_own_processes

POLL_SECONDS = 0.5
SPARED = ("log_monitor",)
"""Parts without which a study comes to its end."""
STUCK_SECONDS = 8.0
"""After which a main thread that has heard no signal waits in Ray's C++ for the part that is gone."""
GONE_SECONDS = 50.0
"""For which a Ray that was joined may be away."""
ANSWER_SECONDS = 5.0
"""In which a running Ray must take a connection."""


class RayDied(Exception):
    """A study's Ray is gone, or a part of it; the study's state is saved. The message says what happened."""


def end_process(died: str) -> NoReturn:
    """Say how the study goes on, and end: at the interpreter's end Ray's threads would wait for what is gone,
    and abort."""
    print(f"radtune: {died}; the study goes on with `radtune run STUDY.yaml --resume`", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


class RayWatch:
    """Watches the Ray of a study, and interrupts the main thread as Ctrl-C does when it is gone.

    Args:
        died: asked again and again; what has become of that Ray, in words, or "" while it runs.
    """

    def __init__(self, died: Callable[[], str]) -> None:
        self.died = ""
        """What has become of it; empty while it runs."""
        self._ask = died
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="ray watch", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Watch no more: what dies from now on is meant to."""
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(POLL_SECONDS):
            if died := self._ask():
                self.died = died
                os.kill(os.getpid(), signal.SIGINT)
                if not self._ended.wait(STUCK_SECONDS):
                    kill_own_ray()
                    end_process(died)
                return


def dead_part() -> str:
    """Which part has died of the Ray that this process started, as a `RayWatch` wants it."""
    dead = (name for name in dead_processes() if name not in SPARED)
    return next((f"Ray's {name} has died" for name in dead), "")


class Silence:
    """Whether the Ray that this process joined has been gone for longer than it may be, as a `RayWatch` wants
    it. A head that its cluster replaces is back within `GONE_SECONDS`; Ray's C++ would wait a little longer,
    and then abort this process.

    Args:
        address: HOST:PORT of its GCS.
        echo: told in a line when it goes, and when it is back.
    """

    def __init__(self, address: str, echo: Callable[[str], None]) -> None:
        self._address, self._echo = address, echo
        self._answered = time.monotonic()
        self._said = False

    def __call__(self) -> str:
        if unreachable(self._address) is None:
            if self._said:
                self._echo(f"the Ray at {self._address} answers again")
            self._answered, self._said = time.monotonic(), False
            return ""
        gone = time.monotonic() - self._answered
        if gone >= GONE_SECONDS:
            return f"the Ray at {self._address} has not answered for {GONE_SECONDS:.0f} s"
        if gone >= STUCK_SECONDS and not self._said:
            self._said = True
            self._echo(f"the Ray at {self._address} does not answer; waiting {GONE_SECONDS:.0f} s for it")
        return ""


def unreachable(address: str) -> OSError | None:
    """What stands against a connection to HOST:PORT; None where something listens there."""
    host, _, port = address.rpartition("//")[2].rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()
    except OSError as error:
        return error
    return None


def kill_own_ray() -> None:
    """End what is left of a Ray that this process started, if it did: to shut it down in order where a part
    of it has died would take a minute, or this process."""
    kill_own_processes()
