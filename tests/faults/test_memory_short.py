"""Memory that is short: a line says that, and what to do."""

import pytest

from tests.faults.conftest import start, to_run

pytestmark = pytest.mark.fault


def test_a_worker_that_ray_ends_for_lack_of_memory_is_told_as_that(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.01")  # more is in use on every machine
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "100")
    driver = start(to_run(tmp_path, configurations=8))
    said = []
    try:
        for line in driver.stdout:
            said.append(line)
            if "memory ran short there (" in line:
                break
    finally:
        driver.terminate()
        error = driver.communicate(timeout=120)[1]
    assert "GB used); what trains at a time needs less with a lower resources.cpus" in said[-1], (said, error)
