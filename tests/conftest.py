"""Fixtures that every room's tests share."""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from study import Study

hypothesis.settings.register_profile("thorough")  # of `make test-slow`
REPOSITORY = Path(__file__).resolve().parents[1]
os.environ["RAY_ADDRESS"] = "local"  # a Ray that runs on this machine is none of the tests'
if "PYTEST_XDIST_WORKER" in os.environ:
    # Tests run beside others: the Rays of each worker lie in a folder of its own, by a short path for their
    # sockets, and a process has one thread.
    os.environ["RAY_TMPDIR"] = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    os.environ["OMP_NUM_THREADS"] = "1"
    atexit.register(shutil.rmtree, os.environ["RAY_TMPDIR"], ignore_errors=True)
# What a shell's script starts in the background ignores Ctrl-C, and its children with it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """One worker runs all tests of a module, and all of `tests.analysis`, whose studies take long to make."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "tests/analysis" if nodeid.startswith("tests/analysis/") else super()._split_scope(nodeid)

    return Scheduling(config, log)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no GPU on this machine")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real radiographs and reports; skips where it is absent."""
    folder = Path(os.environ.get("RADTUNE_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "nih_cxr64" / "labels.csv").exists():
        pytest.skip(f"no real data at {folder}; set RADTUNE_TEST_DATA to run this test")
    return folder


@pytest.fixture(scope="session")
def studied(tmp_path_factory) -> tuple[Study, list[str]]:
    """A finished small study and the lines that it printed."""
    from study import Study
    from tests.study.conftest import settings, square_cohort

    folder = tmp_path_factory.mktemp("study")
    square_cohort(folder / "cohort")
    lines: list[str] = []
    return Study.from_dict(settings(folder)).run(echo=lines.append), lines


@pytest.fixture(scope="module")
def warm_ray() -> Iterator[None]:
    """One Ray for all studies of a module, whose subject is not Ray."""
    from study.cluster import ray_cluster
    from study.config import Resources

    with ray_cluster(Resources(cpus=2, gpus=0), print):
        yield


@pytest.fixture
def s3(monkeypatch) -> Iterator[str]:
    """The URI of an empty bucket on an S3 server of this machine, its address and credentials in the
    environment; every test has a bucket of its own."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    bucket = f"bucket-{secrets.token_hex(4)}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    yield f"s3://{bucket}"
    server.stop()


@pytest.fixture
def tiny_disk(tmp_path) -> Iterator[Callable[[int], Path]]:
    """Makes a disk of so many bytes; skips where this user may mount none."""
    disk = tmp_path / "tiny-disk"
    disk.mkdir()

    def make(size: int) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("a disk can be mounted by root only")
        return disk

    yield make
    subprocess.run(["umount", str(disk)], capture_output=True)
