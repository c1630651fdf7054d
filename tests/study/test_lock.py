"""Tests of the driver's lock, against another process that holds it."""

import subprocess
import sys
import threading

import pytest
from filelock import lock_descriptor, unlock_descriptor

from cohort.errors import InputError
from study.lock import PATIENCE, driver_lock, is_locked
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


def test_asking_disturbs_neither_the_holder_nor_what_it_wrote(tmp_path):
    path = tmp_path / "driver.lock"
    with holder(path) as process:
        for _ in range(3):
            assert is_locked(path)
        assert path.read_text() == str(process.pid)
        with pytest.raises(InputError), driver_lock(path):
            pass
        assert path.read_text() == str(process.pid) and is_locked(path)
        process.stdin.close()
    assert not is_locked(path) and not is_locked(tmp_path / "absent.lock")


def test_a_study_whose_lock_may_only_be_read_can_be_asked(tmp_path):
    path = tmp_path / "driver.lock"
    with driver_lock(path):
        path.chmod(0o444)
        assert is_locked(path)
    assert not is_locked(path)


def test_a_driver_outwaits_one_who_only_asks(tmp_path):
    path = tmp_path / "driver.lock"
    path.touch()
    with open(path) as file:
        assert lock_descriptor(file.fileno(), blocking=False)
        letting_go = threading.Timer(PATIENCE / 4, unlock_descriptor, [file.fileno()])
        letting_go.start()
        with driver_lock(path):
            letting_go.join()
            assert is_locked(path)


def test_the_lock_of_a_killed_driver_is_free(tmp_path):
    path = tmp_path / "driver.lock"
    with holder(path) as process:
        process.kill()
        process.wait()
    assert not is_locked(path)
    with driver_lock(path):
        assert is_locked(path)
    assert not is_locked(path)
