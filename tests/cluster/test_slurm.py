"""`docs/cluster/radtune.sbatch` without SLURM: what it decides, and its srun line on loopback."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from study import Study
from tests.cluster.conftest import PLAIN
from tests.conftest import REPOSITORY
from tests.study.conftest import settings, square_cohort

SCRIPT = REPOSITORY / "docs" / "cluster" / "radtune.sbatch"
JOB = {
    "SLURM_JOB_ID": "4711",
    "SLURM_JOB_NODELIST": "node[1-1]",
    "SLURM_JOB_NUM_NODES": "1",
    "SLURM_CPUS_PER_TASK": "2",
}


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def slurm(tmp_path) -> dict[str, str]:
    """SLURM's commands, as a node at 127.0.0.1 has them; scontrol notes which jobs it queues again."""
    bin = tmp_path / "slurm"
    program(bin / "srun", 'while [[ $1 == --* ]]; do shift; done\nexec "$@"')
    program(bin / "hostname", "echo 127.0.0.1 10.9.8.7")
    program(bin / "scontrol", f'[ "$1" = show ] && echo node1 || echo "$@" >> {tmp_path}/requeued')
    return JOB | {"PATH": f"{bin}:{os.environ['PATH']}"}


def test_it_is_bash_and_asks_slurm_for_what_it_needs():
    assert subprocess.run(["bash", "-n", str(SCRIPT)]).returncode == 0
    asked = dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?", SCRIPT.read_text(), re.MULTILINE))
    assert asked["gpus-per-task"] == asked["ntasks-per-node"] == "1"
    assert {"requeue", "exclusive"} <= asked.keys() and asked["signal"].startswith("TERM@")


@pytest.mark.parametrize(
    ("status", "restarts", "code", "requeued"),
    [
        (0, 0, 0, False),
        (1, 0, 1, False),
        (2, 0, 2, False),
        (3, 0, 0, True),
        (3, 19, 0, True),
        (3, 20, 3, False),
    ],
)
def test_the_run_folder_decides_and_not_the_exit_status_of_ray(
    tmp_path, slurm, status, restarts, code, requeued
):
    """`ray symmetric-run` ends with 0 where Ray itself did not start."""
    environment = tmp_path / "env" / "bin"
    program(environment / "ray", f'echo "$RAY_AUTH_MODE:${{#RAY_AUTH_TOKEN}}" "$@" > {tmp_path}/ray')
    program(environment / "radtune", f'[ "$*" = "show --status runs/a" ] && exit {status}')
    program(environment / "python", f'exec {sys.executable} "$@"')
    (environment / "activate").write_text(f"PATH={environment}:$PATH\n")
    done = subprocess.run(
        ["bash", str(SCRIPT), "a.yaml", "runs/a"],
        cwd=tmp_path,
        env=slurm | {"RADTUNE_ENV": str(environment.parent), "SLURM_RESTART_COUNT": str(restarts)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == code, done.stderr
    assert (tmp_path / "requeued").exists() == requeued
    assert (tmp_path / "ray").read_text().split(" -- ") == [
        "token:64 symmetric-run --address 127.0.0.1:24711 --min-nodes 1 --num-cpus 2 "
        "--include-dashboard=false",
        "radtune run a.yaml --resume\n",
    ]


@pytest.mark.cluster
def test_a_study_that_is_preempted_is_queued_again_and_goes_on(tmp_path, slurm, machine):
    square_cohort(tmp_path / "cohort")
    study = settings(tmp_path, configurations=48) | {"resources": {"cpus": 2}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    run = tmp_path / "runs" / "squares"
    command = ["bash", str(SCRIPT), str(tmp_path / "study.yaml"), str(run)]
    environment = slurm | {
        "RADTUNE_ENV": sys.prefix,
        "RAY_TMPDIR": str(machine.folder),
        "HOME": str(machine.folder),
        "PYTHONPATH": str(REPOSITORY),
    }
    job = machine.start(
        command, env=PLAIN | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    until = time.time() + 120
    while not list(run.glob("banks/*")) and job.poll() is None and time.time() < until:
        time.sleep(0.05)
    # SLURM signals every process of the step; the script itself is told nothing.
    step = [one for one in psutil.Process(job.pid).children(recursive=True) if one.cmdline() != command]
    for process in step:
        process.send_signal(signal.SIGTERM)
    said = job.communicate(timeout=120)[0]
    assert job.returncode == 0, said
    assert (tmp_path / "requeued").read_text() == "requeue 4711\n", said
    assert 0 < len(Study.open(run).records) < 48

    machine.run(command, cwd=tmp_path, environment=environment | {"SLURM_RESTART_COUNT": "1"}, timeout=300)
    assert (tmp_path / "requeued").read_text() == "requeue 4711\n"
    records = Study.open(run).records
    assert sorted(records) == list(range(48)) and "FAIL" not in {record.state for record in records.values()}
