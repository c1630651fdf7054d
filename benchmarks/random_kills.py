"""Kills studies at random moments, resumes them, and compares their tables with those of undisturbed ones.

    python -m benchmarks.random_kills [KILLS] [SEED]

Two thirds of the kills meet a linear-probe study, one third a fine-tuning one; each is kill -9 of the driver,
of a worker, of Ray's raylet or gcs, or SIGTERM to the driver, 1 to 12 s after its folder begins to fill, or
when there is a worker. A driver that ends is resumed. Compared are parameters, state, metrics and epochs of
every configuration.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pandas as pd
import psutil
import yaml

from study import Study
from tests.study.conftest import settings, square_cohort
from tests.study.test_fine_tune_study import fine_tune_settings
from tests.trainables.towers import build_tower

REPOSITORY = Path(__file__).resolve().parents[1]
PARTS = {"worker": r"ray::ResourceTrainable", "raylet": "/raylet/raylet", "gcs": "gcs_server"}
TARGETS = ("driver", "worker", "worker", "raylet", "gcs", "SIGTERM")


def start(file: Path, *more: str) -> subprocess.Popen:
    environment = os.environ | {"RAY_ADDRESS": "local"}
    command = [sys.executable, "-m", "study", "run", str(file), *more]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, cwd=REPOSITORY, env=environment, **quiet)


def strike(driver: subprocess.Popen, target: str) -> bool:
    """Kill a part of a running study, once there is one; whether there was."""
    if driver.poll() is not None:
        return False
    if target == "nobody":
        return False
    if target in ("driver", "SIGTERM"):
        driver.send_signal(signal.SIGTERM if target == "SIGTERM" else signal.SIGKILL)
        return True
    while driver.poll() is None:
        with suppress(psutil.Error):
            for process in psutil.Process(driver.pid).children(recursive=True):
                if PARTS[target] in " ".join(process.cmdline()):
                    process.kill()
                    return True
        time.sleep(0.2)
    return False


def table(study: Study) -> pd.DataFrame:
    frame = study.trials
    compared = ("number", "state", "params.", "val.", "epoch")
    return frame[[name for name in frame.columns if name.startswith(compared)]]


def disturbed(folder: Path, given: dict, target: str, seconds: float) -> tuple[bool, Study, int]:
    """Whether a kill met the study, the finished study, and how many drivers it took."""
    file = folder / f"{given['name']}.yaml"
    file.write_text(yaml.safe_dump(given))
    study = Study.from_yaml(file)
    driver, drivers = start(file), 1
    while driver.poll() is None and not study.folder.study_file.exists():
        time.sleep(0.05)
    time.sleep(seconds)
    met = strike(driver, target)
    while driver.wait() != 0:
        driver, drivers = start(file, "--resume"), drivers + 1
        if drivers > 5:
            raise SystemExit(f"{given['name']}: does not come to its end")
    return met, study, drivers


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kills", type=int, nargs="?", default=25, help="default: %(default)s")
    parser.add_argument("seed", type=int, nargs="?", default=0, help="default: %(default)s")
    asked = parser.parse_args(arguments)
    rng, folder = random.Random(asked.seed), Path(tempfile.mkdtemp(prefix="kills"))
    square_cohort(folder / "cohort")
    build_tower("vit", folder / "vit")
    probe = settings(folder, configurations=64, fixed={"epochs": 60})
    tune = fine_tune_settings(folder)
    references = {}
    for kind, given in (("probe", probe), ("fine-tune", tune)):
        _, study, _ = disturbed(folder, given | {"name": f"{kind}-undisturbed"}, "nobody", 0)
        references[kind] = table(study)
    equal = 0
    for kill in range(asked.kills):
        kind, given = ("fine-tune", tune) if kill % 3 == 2 else ("probe", probe)
        target = rng.choice(TARGETS)
        seconds = rng.uniform(1, 12)
        met, study, drivers = disturbed(folder, given | {"name": f"{kind}-{kill}"}, target, seconds)
        same = table(study).equals(references[kind])
        equal += same
        what = f"{target} after {seconds:.1f} s" if met else "nothing (it had ended)"
        said = "equal" if same else "DIFFERS"
        print(f"{kill:>3} {kind:<9} killed {what}; {drivers} drivers; table {said}", flush=True)
    print(f"{equal} of {asked.kills} tables equal the undisturbed ones")


if __name__ == "__main__":
    main()
