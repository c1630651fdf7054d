"""How much memory a long study takes: that of its driver and of its workers as configurations are added.

    python -m benchmarks.load_study [--configurations 5000] [--images 600]

A study of raw pixels on the sample cohort, run and analysed by the command line as a user would. While it
runs, the resident memory of its driver, and of the largest Ray worker below it, is sampled. Printed are a row
at each tenth of the configurations, then the time and the peak of `radtune analyze`. Resident memory counts
the code of libraries, which processes share; what is a driver's alone is printed beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from benchmarks.machine import processor

REPOSITORY = Path(__file__).resolve().parents[1]
EVERY_SECONDS = 0.5
"""Between two samples."""
ROWS = 10
DONE = re.compile(r"^ *(\d+)/\d+ configurations · ")
"""A driver's line after each bank."""


class Watched:
    """One command of the command line and its memory, in MB, sampled until it ends.

    Args:
        folder: where it runs.
        arguments: of `radtune`.
    """

    def __init__(self, folder: Path, *arguments: str) -> None:
        command = [
            sys.executable,
            "-c",
            "import sys; from study.cli import main; sys.exit(main())",
            *arguments,
        ]
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"}
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._processes = psutil.Process(self.process.pid)
        self.resident = self.private = self.worker = 0.0
        """Now: of the command, of what no other process shares with it, and of the largest Ray worker."""
        self.peak = self.worker_peak = 0.0
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
            self.peak, self.worker_peak = max(self.peak, self.resident), max(self.worker_peak, self.worker)
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


def study(folder: Path, configurations: int) -> None:
    """Run one, and print how its memory grew."""
    settings = {
        "name": "load",
        "cohort": "cohorts/sample",
        "encoder": "pixels",
        "search": {"configurations": configurations},
        "resources": {"gpus": 0},
        "analysis": {"top": 2, "bootstrap": 1000},
    }
    (folder / "load.yaml").write_text(json.dumps(settings))
    print(f"{'done':>6} {'seconds':>8} {'driver MB':>10} {'of it alone':>12} {'largest worker MB':>18}")
    driver = Watched(folder, "run", "load.yaml")
    due = 0.0
    for line in driver.process.stdout:
        if (found := DONE.match(line)) and int(found[1]) >= due:
            done = int(found[1])
            due = (done * ROWS // configurations + 1) * configurations / ROWS
            print(
                f"{done:>6} {time.monotonic() - driver.started:>8.0f} {driver.resident:>10.0f} "
                f"{driver.private:>12.0f} {driver.worker:>18.0f}",
                flush=True,
            )
        elif "finished in" in line:
            print(f"       {line.strip()}", flush=True)
    seconds = driver.end()
    print(f"run: {seconds:.0f} s, driver at most {driver.peak:.0f} MB, a worker {driver.worker_peak:.0f} MB")
    analysis = Watched(folder, "analyze", "runs/load")
    seconds = analysis.end()
    print(f"analyze: {seconds:.1f} s, at most {analysis.peak:.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--configurations", type=int, default=5000, help="default: %(default)s")
    parser.add_argument("--images", type=int, default=600, help="of the cohort (default: %(default)s)")
    arguments = parser.parse_args()
    print(f"{processor()}, {os.cpu_count()} cpus")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        images = str(arguments.images)
        Watched(
            folder, "cohort", "sample", "--out", "cohorts/sample", "--images", images, "--size", "64"
        ).end()
        study(folder, arguments.configurations)


if __name__ == "__main__":
    main()
