"""Tests of the driver's lock, against another process that holds it."""

import subprocess
import sys

import pytest

from cohort.errors import InputError
from study.lock import driver_lock, is_locked
from tests.conftest import REPOSITORY

HOLD = """
import sys, pathlib
from study.lock import driver_lock
with driver_lock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_driver_is_refused_and_told_who_holds_the_lock(tmp_path):
    path = tmp_path / "run" / "driver.lock"
    with holder(path) as process:
        assert is_locked(path)
        with pytest.raises(InputError, match=f"process {process.pid}"), driver_lock(path):
            pass
        process.stdin.close()


def test_the_lock_of_a_killed_driver_is_free(tmp_path):
    path = tmp_path / "driver.lock"
    with holder(path) as process:
        process.kill()
        process.wait()
    assert not is_locked(path)
    with driver_lock(path):
        assert is_locked(path)
    assert not is_locked(path)
