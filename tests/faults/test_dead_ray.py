"""Signals, and parts of Ray that die: the driver ends in order and soon, and says how to go on."""

import os
import signal
import time

import pytest

from study.lock import is_locked
from tests.faults.conftest import (
    LONG,
    check_equal,
    check_every_number_once,
    finish,
    only_line,
    processes,
    start,
    to_run,
    wait_for,
)

pytestmark = pytest.mark.fault
SECONDS = 30
"""In which a driver ends."""


def ended(driver):
    """Exit code, stdout and stderr of a driver that must end by itself."""
    began = time.monotonic()
    try:
        output, error = driver.communicate(timeout=SECONDS)
    finally:
        driver.kill()
    assert time.monotonic() - began < SECONDS
    return driver.returncode, output, error


def check_stopped(study, output, error):
    """It said how to go on, its state is on the disk, and nobody holds it."""
    assert "--resume" in only_line(error)
    assert "Traceback" not in output and "finished in" not in output
    assert 0 < len(study.records) < 64 and not is_locked(study.folder.lock_file)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_ends_the_study_with_130(tmp_path, uninterrupted, number):
    study = to_run(tmp_path, **LONG)
    driver = start(study)
    wait_for(study.folder.bank_files, driver)
    driver.send_signal(number)
    code, output, error = ended(driver)
    assert code == 130, output + error
    check_stopped(study, output, error)
    finish(study, "--resume")
    check_every_number_once(study)
    check_equal(study, uninterrupted)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
@pytest.mark.parametrize("seconds", [1.0, 5.0])
def test_a_signal_while_the_study_begins_ends_it_with_130(tmp_path, number, seconds):
    """While modules are imported, while Ray starts or workers do."""
    study = to_run(tmp_path, **LONG)
    driver = start(study)
    time.sleep(seconds)
    driver.send_signal(number)
    code, output, error = ended(driver)
    assert code == 130, output + error
    assert "--resume" in only_line(error) and not is_locked(study.folder.lock_file)


@pytest.mark.parametrize(
    "part",
    ["gcs_server", "raylet/raylet", "runtime_env/agent/main.py", "log_monitor.py"],
    ids=["gcs", "raylet", "runtime_env_agent", "log_monitor"],
)
def test_a_dead_part_of_ray_ends_the_study_with_1_and_it_goes_on(tmp_path, uninterrupted, part):
    """All that Ray can lose but the log monitor, without which a study comes to its end."""
    study = to_run(tmp_path, **LONG)
    driver = start(study)
    wait_for(study.folder.bank_files, driver)
    found = processes(driver, part)
    assert found, f"no {part} among the processes of Ray"
    for process in found:
        os.kill(process.pid, signal.SIGKILL)
    if part == "log_monitor.py":
        output, error = driver.communicate(timeout=300)
        assert driver.returncode == 0, output + error
    else:
        code, output, error = ended(driver)
        assert code == 1, output + error
        check_stopped(study, output, error)
        finish(study, "--resume")
    check_every_number_once(study)
    check_equal(study, uninterrupted)


def test_nothing_of_ray_outlives_a_driver_that_was_terminated(tmp_path):
    study = to_run(tmp_path, **LONG)
    driver = start(study)
    wait_for(study.folder.bank_files, driver)
    others = processes(driver, "ray")
    assert others
    driver.send_signal(signal.SIGTERM)
    ended(driver)
    end = time.monotonic() + SECONDS
    while alive := [one for one in others if one.is_running() and one.status() != "zombie"]:
        assert time.monotonic() < end, alive
        time.sleep(0.2)
