"""What of Ray's resources a trial may ask for. `tests.study.test_driver` starts Ray itself."""

import math
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from types import SimpleNamespace

import psutil
import pytest
import yaml

from cohort.errors import InputError
from study import Study
from study.cluster import Capacity, check_cluster, running_ray
from study.config import FineTuneSettings, Resources, SearchSettings
from study.fine_tune import FineTuneStudy as FineTune
from study.linear_probe import LinearProbeStudy as LinearProbe
from study.linear_probe import bank_resources
from tests.conftest import REPOSITORY
from tests.faults.conftest import LONG, check_every_number_once, finish, start, to_run, wait_for
from tests.study.conftest import settings, square_cohort


def capacity(cpus: int, gpus: float = 0, cpus_a_node: int | None = None, cpus_a_gpu: float = math.inf):
    return Capacity(cpus=cpus, gpus=gpus, cpus_a_node=cpus_a_node or cpus, cpus_a_gpu=cpus_a_gpu)


def test_trials_share_the_cpus_and_each_gets_one_at_least():
    assert capacity(16).threads(2) == 8
    assert capacity(2).threads(3) == 1


def test_no_trial_asks_for_more_than_its_node_has():
    # A head of 16 cpus and two workers of 8: half of all cpus is on no worker.
    assert capacity(32, cpus_a_node=8).threads(2) == 8
    assert capacity(32, gpus=2, cpus_a_node=8, cpus_a_gpu=8).threads(2) == 8
    # Four trials on each of two GPUs of one node.
    assert capacity(64, gpus=4, cpus_a_node=16, cpus_a_gpu=8).threads(16, trials_per_gpu=4) == 2
    assert capacity(64, gpus=4, cpus_a_node=2, cpus_a_gpu=0.5).threads(16, trials_per_gpu=4) == 1


@pytest.mark.parametrize(
    ("gpus", "trials_per_gpu", "concurrent"), [(0, 1, 2), (2, 1, 2), (1, 3, 3), (0.5, 2, 1)]
)
def test_fine_tuning_runs_as_many_trials_as_find_room(gpus, trials_per_gpu, concurrent):
    config = SimpleNamespace(
        search=SearchSettings(), fine_tune=FineTuneSettings(trials_per_gpu=trials_per_gpu)
    )
    plan = FineTune(config, None, None).plan(capacity(8, gpus), done=0, deadline=math.inf)
    assert plan.concurrent == concurrent and plan.bank_size == 1


def test_less_gpu_than_one_trial_takes_is_refused():
    config = SimpleNamespace(search=SearchSettings(), fine_tune=FineTuneSettings())
    with pytest.raises(InputError, match=r"resources\.gpus: 0\.5 is less than one trial takes"):
        FineTune(config, None, None).plan(capacity(8, 0.5), done=0, deadline=math.inf)


@pytest.mark.parametrize(
    ("gpus", "banks", "each"), [(0, 2, 0), (0.5, 1, 0.5), (1, 1, 1), (2.5, 2, 1), (4, 4, 1)]
)
def test_a_bank_of_probes_asks_for_a_share_of_a_gpu_or_a_whole_one(gpus, banks, each):
    """Ray refuses 1.25."""
    config = SimpleNamespace(search=SearchSettings())
    plan = LinearProbe(config, None, None).plan(capacity(2, gpus), done=0, deadline=math.inf)
    assert (plan.concurrent, bank_resources(plan, capacity(2, gpus))[1]) == (banks, each)


def test_more_than_this_machine_has_is_refused(tmp_path):
    square_cohort(tmp_path / "cohort")
    for name in ("gpus", "cpus"):
        study, lines = Study.from_dict(settings(tmp_path) | {"resources": {name: 4096}}), []
        with pytest.raises(
            InputError, match=rf"resources\.{name}: 4096 asked for, but this machine has \d+; set it to \d+"
        ):
            study.run(echo=lines.append)
        assert lines == []  # before anything was computed


def test_a_private_ray_listens_on_this_machine_alone():
    program = """
from contextlib import suppress
import psutil
from study.cluster import ray_cluster
from study.config import Resources
with ray_cluster(Resources(cpus=1, gpus=0), print):
    import ray
    ray.get(ray.remote(lambda: 0).remote())
    driver = psutil.Process()
    for process in (driver, *driver.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            for connection in process.net_connections():
                if connection.status == psutil.CONN_LISTEN:
                    print(connection.laddr.ip)
"""
    said = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, timeout=120
    )
    assert said.returncode == 0, said.stderr
    listening = said.stdout.split()
    assert len(listening) > 5 and set(listening) <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}


def test_what_ray_start_left_is_joined_unless_it_has_gone_or_is_refused(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray._private.services.find_bootstrap_address", lambda folder: "10.0.0.1:6379")
    monkeypatch.setattr("ray._private.services.find_gcs_addresses", lambda: {"10.0.0.1:6379"})
    assert running_ray() == "10.0.0.1:6379"
    monkeypatch.setattr("ray._private.services.find_gcs_addresses", lambda: {"127.0.0.1:9"})
    assert running_ray() == ""  # the note outlived its Ray; that of another study is no cluster
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.2:6379")
    assert running_ray() == "10.0.0.2:6379"
    monkeypatch.setattr("ray._private.services.find_gcs_addresses", lambda: {"10.0.0.1:6379"})
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert running_ray() == "10.0.0.1:6379"
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert running_ray() == ""
    monkeypatch.setenv("RAY_ADDRESS", "nowhere")
    with pytest.raises(InputError, match="RAY_ADDRESS 'nowhere': must be HOST:PORT"):
        check_cluster(Resources())


@pytest.fixture
def started_ray(tmp_path, monkeypatch):
    """What `ray start --head` leaves running, with 2 CPUs, under a folder of its own: its port, and
    `ray stop`, for it alone."""
    folder = tempfile.mkdtemp(prefix="ray")  # Unix sockets bear no long path
    monkeypatch.setenv("RAY_TMPDIR", folder)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray = [sys.executable, "-m", "ray.scripts.scripts"]
    options = ["--node-ip-address=127.0.0.1", "--num-cpus=2", "--include-dashboard=false"]
    before = {process.pid for process in psutil.process_iter()}
    done = subprocess.run(
        [*ray, "start", "--head", f"--port={port}", *options], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr

    def stop():
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.pid not in before and f"{folder}/" in " ".join(process.cmdline()):
                    process.kill()

    yield SimpleNamespace(port=port, stop=stop)
    stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.cluster
def test_a_study_beside_a_running_ray_joins_it_or_starts_its_own(started_ray, tmp_path):
    """Once `resources.cpus` was a traceback there, and without it every trial failed."""
    square_cohort(tmp_path / "cohort")

    def run(name, cpus, **environment):
        study = settings(tmp_path, name, configurations=8) | {"resources": {"cpus": cpus, "gpus": 0}}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(study))
        done = subprocess.run(
            [sys.executable, "-m", "study", "run", str(tmp_path / f"{name}.yaml")],
            cwd=REPOSITORY,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        records = Study.open(tmp_path / "runs" / name).records
        assert sorted(records) == list(range(8))
        assert "FAIL" not in {record.state for record in records.values()}
        return done.stdout

    for name, cpus in (("limited", 1), ("unlimited", None)):
        joined = run(name, cpus)
        assert (
            f":{started_ray.port} (it runs on this machine); RAY_ADDRESS=local starts a private one" in joined
        )
    assert "on the Ray at" not in run("private", 2, RAY_ADDRESS="local")
    named = run("named", None, RAY_ADDRESS=f"127.0.0.1:{started_ray.port}")
    assert f"on the Ray at 127.0.0.1:{started_ray.port} (RAY_ADDRESS)" in named


@pytest.mark.cluster
def test_a_study_whose_ray_is_stopped_ends_in_a_line_and_goes_on_elsewhere(started_ray, tmp_path):
    """Once it was silent for a minute, and aborted by Ray's C++."""
    study = to_run(tmp_path, **LONG)
    driver = start(study)
    wait_for(lambda: len(study.folder.bank_files()) >= 2, driver)
    started_ray.stop()
    output, error = driver.communicate(timeout=120)
    assert driver.returncode == 1, output + error
    assert f":{started_ray.port} does not answer; waiting 50 s for it" in output
    # Ray and the progress bar may say something too.
    said = [line for line in error.splitlines() if f":{started_ray.port} has not answered for 50 s" in line]
    assert len(said) == 1 and "the study goes on with" in said[0] and "--resume" in said[0], error
    assert "Traceback" not in error, error
    finish(study, "--resume")
    check_every_number_once(study)


@pytest.mark.cluster
def test_where_no_ray_answers_it_is_one_line(tmp_path, monkeypatch):
    square_cohort(tmp_path / "cohort")
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(settings(tmp_path, configurations=8)))
    done = subprocess.run(
        [sys.executable, "-m", "study", "run", str(tmp_path / "study.yaml")],
        cwd=REPOSITORY,
        env=os.environ | {"RAY_ADDRESS": "127.0.0.1:1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 2
    assert "RAY_ADDRESS 127.0.0.1:1: no Ray answers there" in done.stderr and "Traceback" not in done.stderr
