"""Whether the Ray that a study started still runs: its own driver would notice after a minute, and abort."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import NoReturn

POLL_SECONDS = 0.5
SPARED = ("log_monitor",)
"""Parts without which a study comes to its end."""
STUCK_SECONDS = 8.0
"""After which a main thread that has heard no signal waits in Ray's C++ for the part that is gone."""


class RayDied(Exception):
    """A part of Ray has died under a study, whose state is saved; the message says which."""


def end_process(died: str) -> NoReturn:
    """Say how the study goes on, and end: at the interpreter's end Ray's threads would wait for what is gone,
    and abort."""
    print(f"radtune: {died}; the study goes on with `radtune run STUDY.yaml --resume`", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


class RayWatch:
    """Watches the processes of a Ray that this process started, and interrupts the main thread as Ctrl-C does
    when the first of them dies."""

    def __init__(self) -> None:
        from ray._private.worker import _global_node

        self.dead = ""
        """Which has died; empty while all run."""
        self._node = _global_node
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="ray watch", daemon=True)
        self._thread.start()

    @property
    def said(self) -> str:
        """What has died, in words."""
        return f"Ray's {self.dead} has died"

    def end(self) -> None:
        """Watch no more: what dies from now on is meant to."""
        self._ended.set()
        self._thread.join()

    def kill(self) -> None:
        """End what is left of a Ray of which a part has died: to shut it down in order would take a minute,
        or this process."""
        self._node.kill_all_processes(check_alive=False, allow_graceful=False)

    def _watch(self) -> None:
        while not self._ended.wait(POLL_SECONDS):
            dead = [name for name, _ in self._node.dead_processes() if name not in SPARED]
            if dead:
                self.dead = dead[0]
                os.kill(os.getpid(), signal.SIGINT)
                if not self._ended.wait(STUCK_SECONDS):
                    self.kill()
                    end_process(self.said)
                return
