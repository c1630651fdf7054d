"""Drivers that are killed, interrupted, or talk to nobody."""

import signal
import subprocess
import sys

import optuna
import pytest

from study.lock import is_locked
from tests.conftest import REPOSITORY
from tests.faults.conftest import (
    LONG,
    check_every_number_once,
    finish,
    killed,
    objectives,
    start,
    study_file,
    to_run,
    wait_for,
)
from tests.faults.harms import torn

optuna.logging.set_verbosity(optuna.logging.WARNING)
pytestmark = pytest.mark.fault


def test_kill_9_and_resume_ends_with_every_configuration_once(tmp_path):
    study = to_run(tmp_path, **LONG)
    killed(study, lambda: len(study.folder.bank_files()) >= 4)
    before = objectives(study)
    assert 0 < len(before) < 64
    torn(study.folder.journal)
    assert f"resumed: {len(before)} configurations are done already" in finish(study, "--resume")
    check_every_number_once(study)
    records = study.records
    assert objectives(study)[before.index].equals(before)
    assert {record.state for record in records.values()} <= {"COMPLETE", "PRUNED"}


def test_an_interrupted_study_says_so_and_is_not_finished(tmp_path):
    study = to_run(tmp_path, **LONG)
    driver = start(study)
    wait_for(study.folder.bank_files, driver)
    driver.send_signal(signal.SIGINT)  # Ctrl-C
    output, error = driver.communicate(timeout=120)
    assert driver.returncode == 130, output + error
    assert "radtune: interrupted; a study goes on with" in error and "finished in" not in output
    assert 0 < len(study.records) < 64
    assert not study.folder.repeats_file.exists() and not is_locked(study.folder.lock_file)


def test_a_study_whose_lines_nobody_reads_any_more_stops_quietly_and_goes_on_with_resume(tmp_path):
    """`radtune run STUDY.yaml | head -1`"""
    study = to_run(tmp_path, configurations=64)
    command = [sys.executable, "-m", "study", "run", str(study_file(study))]
    driver = subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    driver.stdout.readline()
    driver.stdout.close()
    error = driver.stderr.read()
    assert driver.wait(timeout=120) == 130
    assert error.startswith("radtune: interrupted; a study goes on with") and error.count("\n") == 1, error
    assert len(study.records) < 64 and not is_locked(study.folder.lock_file)
    assert "finished in" in finish(study, "--resume")
    check_every_number_once(study)
