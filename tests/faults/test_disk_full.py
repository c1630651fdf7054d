"""The disk of the run folder fills up: the study ends in a line, and goes on when there is room."""

import re
import subprocess

import pytest

from study import Study
from study.lock import is_locked
from tests.faults.conftest import (
    LONG,
    check_equal,
    check_every_number_once,
    finish,
    objectives,
    only_line,
    start,
    study_file,
    to_run,
)

pytestmark = pytest.mark.fault


@pytest.mark.parametrize("size", [700_000, 1_200_000])
def test_a_full_disk_ends_the_study_in_a_line_and_with_room_it_goes_on(
    tmp_path, tiny_disk, uninterrupted, size
):
    """Full as the first banks end, or a few banks later."""
    disk = tiny_disk(size)
    study = to_run(tmp_path, **LONG)
    file = study_file(study)
    file.write_text(file.read_text().replace(f"storage: {tmp_path}/runs", f"storage: {disk}"))
    study = Study.from_yaml(file)
    driver = start(study)
    try:
        output, error = driver.communicate(timeout=120)
    finally:
        driver.kill()
    assert driver.returncode == 2, output + error
    assert re.search(r"No space left on device; make room there", only_line(error))
    assert "finished in" not in output and not is_locked(study.folder.lock_file)
    before = objectives(study)
    assert len(before) < 64

    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
    finish(study, "--resume")
    check_every_number_once(study)
    assert objectives(study)[before.index].equals(before)
    check_equal(study, uninterrupted)
