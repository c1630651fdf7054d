"""Ends studies by Ctrl-C or SIGTERM at random moments, on a machine with other work, and looks how they end.

    python -m benchmarks.random_signals [SIGNALS] [SEED] [--latest 32]

Two processes of other work keep two cores busy. Each signal comes 1 to 32 s after `radtune run` was
started, so some come while its libraries are imported, and some while Ray starts. A study has ended well
where it ends in less than 20 s with status 130 and the one line that says how to go on; its folder, once
there, is then resumed by the next one. Printed is a line a signal, and how many ended well.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import yaml

from tests.study.conftest import settings, square_cohort

REPOSITORY = Path(__file__).resolve().parents[1]
LINE = "radtune: interrupted; a study goes on with"
WITHIN_SECONDS = 20
BUSY = 2


def work() -> None:
    while True:
        pass


def interrupted(file: Path, how: signal.Signals, after: float, *more: str) -> tuple[int, float, str]:
    """Status, seconds from the signal to the end, and what was said on stderr."""
    driver = subprocess.Popen(
        [sys.executable, "-m", "study", "run", str(file), *more],
        cwd=REPOSITORY,
        env=os.environ | {"RAY_ADDRESS": "local"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    time.sleep(after)
    driver.send_signal(how)
    begin = time.monotonic()
    try:
        _, error = driver.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        driver.kill()
        _, error = driver.communicate()
    return driver.returncode, time.monotonic() - begin, error


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("signals", type=int, nargs="?", default=50, help="default: %(default)s")
    parser.add_argument("seed", type=int, nargs="?", default=0, help="default: %(default)s")
    parser.add_argument("--latest", type=float, default=32, help="seconds (default: %(default)s)")
    asked = parser.parse_args(arguments)
    rng = random.Random(asked.seed)
    others = [multiprocessing.Process(target=work, daemon=True) for _ in range(BUSY)]
    for other in others:
        other.start()
    well = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        square_cohort(folder / "cohort")
        for number in range(asked.signals):
            how, after = rng.choice([signal.SIGINT, signal.SIGTERM]), rng.uniform(1, asked.latest)
            name = f"study-{number // 4}"  # a new one after every fourth, before all is done
            file = folder / f"{name}.yaml"
            study = settings(folder, name=name, configurations=64, fixed={"epochs": 100})
            file.write_text(yaml.safe_dump(study))
            more = ["--resume"] if (folder / "runs" / name / "study.yaml").exists() else []
            status, seconds, error = interrupted(file, how, after, *more)
            ok = status == 130 and LINE in error and error.count("\n") == 1 and seconds < WITHIN_SECONDS
            well += ok
            print(f"{number:>3} {how.name} after {after:4.1f} s: {status} in {seconds:4.1f} s", flush=True)
            if not ok:
                print(error, flush=True)
    for other in others:
        other.kill()
    print(f"{well} of {asked.signals} ended well")


if __name__ == "__main__":
    main()
