"""One command of the command line and its memory, sampled until it ends."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil

REPOSITORY = Path(__file__).resolve().parents[1]
EVERY_SECONDS = 0.5
"""Between two samples."""
RADTUNE = "import sys; from study.cli import main; sys.exit(main())"


class Watched:
    """One command of the command line and its memory, in MB, sampled until it ends.

    Args:
        folder: where it runs.
        arguments: of the program, which is `radtune` unless it is given.
    """

    def __init__(self, folder: Path, *arguments: str, program: str = RADTUNE) -> None:
        command = [sys.executable, "-c", program, *arguments]
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"}
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._processes = psutil.Process(self.process.pid)
        self.resident = self.private = self.worker = 0.0
        """Now: of the command, of what no other process shares with it, and of the largest Ray worker."""
        self.peak = self.private_peak = self.worker_peak = 0.0
        self._sampling = threading.Thread(target=self._sample, daemon=True)
        self._sampling.start()

    def _sample(self) -> None:
        while self.process.poll() is None:
            try:
                memory = self._processes.memory_info()
                self.resident = memory.rss / 1e6
                self.private = (memory.rss - memory.shared) / 1e6
                below = [_resident(one) for one in self._processes.children(recursive=True)]
            except psutil.NoSuchProcess:  # it ended meanwhile
                return
            self.worker = max(below, default=0.0)
            self.peak = max(self.peak, self.resident)
            self.private_peak = max(self.private_peak, self.private)
            self.worker_peak = max(self.worker_peak, self.worker)
            time.sleep(EVERY_SECONDS)

    def end(self) -> float:
        """Wait; seconds that it took. What it printed last is the message where it failed."""
        rest, _ = self.process.communicate()
        self._sampling.join()
        if self.process.returncode:
            sys.exit(rest[-4000:] or "the command failed; see the lines above")
        return time.monotonic() - self.started


def _resident(process: psutil.Process) -> float:
    """MB of a Ray worker; 0 for any other process, and for one that is gone."""
    try:
        return process.memory_info().rss / 1e6 if process.cmdline()[:1][0].startswith("ray::") else 0.0
    except (psutil.Error, IndexError):
        return 0.0
