"""Workers that are killed: what they trained is trained again, and nothing else happens."""

import pytest

from tests.faults.conftest import (
    LONG,
    check_equal,
    check_every_number_once,
    kill_a_worker,
    start,
    to_run,
    wait_for,
)

pytestmark = pytest.mark.fault


@pytest.mark.parametrize("deaths", [1, 3])
def test_a_study_whose_workers_are_killed_ends_as_if_they_had_not_been(tmp_path, uninterrupted, deaths):
    study = to_run(tmp_path, **LONG)
    driver = start(study)
    for death in range(deaths):
        wait_for(lambda death=death: len(study.folder.bank_files()) > death, driver)
        kill_a_worker(driver)
    output, error = driver.communicate(timeout=300)
    assert driver.returncode == 0, output + error
    assert output.count("the worker died") == deaths and "FAIL" not in output
    check_every_number_once(study)
    check_equal(study, uninterrupted)
