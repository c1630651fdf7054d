"""How much memory a long study takes: that of its driver and of its workers as configurations are added.

    python -m benchmarks.load_study [--configurations 5000] [--images 600]

First printed is what the libraries take that a driver imports: most of its memory is there from the start.
Then a study of raw pixels on the sample cohort, run and analysed by the command line as a user would. While
it runs, the resident memory of its driver, and of the largest Ray worker below it, is sampled. Printed are a
row at each tenth of the configurations, then the time and the peak of `radtune analyze`. Resident memory
counts the code of libraries, which processes share; what is a driver's alone is printed beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.machine import processor
from benchmarks.watched_command import REPOSITORY, Watched

ROWS = 10
DONE = re.compile(r"^ *(\d+)/\d+ configurations · ")
"""A driver's line after each bank."""


LIBRARIES = ("numpy", "pandas", "torch", "sklearn.linear_model", "optuna", "ray.tune", "mlflow")
IMPORTS = """
import importlib, sys, psutil
process = psutil.Process()
before = process.memory_info()
for name in sys.argv[1:]:
    importlib.import_module(name)
    now = process.memory_info()
    alone = now.rss - now.shared - before.rss + before.shared
    print(f"{name:<21} {(now.rss - before.rss) / 1e6:>6.0f} MB, of it alone {alone / 1e6:>4.0f}")
    before = now
"""


def imports() -> None:
    """Print by how much each library lets a process grow."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    subprocess.run([sys.executable, "-c", IMPORTS, *LIBRARIES], env=environment, check=True)


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


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--configurations", type=int, default=5000, help="default: %(default)s")
    parser.add_argument("--images", type=int, default=600, help="of the cohort (default: %(default)s)")
    asked = parser.parse_args(arguments)
    print(f"{processor()}, {os.cpu_count()} cpus", flush=True)
    imports()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        images = str(asked.images)
        Watched(
            folder, "cohort", "sample", "--out", "cohorts/sample", "--images", images, "--size", "64"
        ).end()
        study(folder, asked.configurations)


if __name__ == "__main__":
    main()
