"""MLflow's store is locked or its server hangs: the study goes on, says so in a line, and nothing is lost."""

import os
import re
import signal
import sqlite3
import time
import urllib.request
from contextlib import closing, suppress

import psutil
import pytest

from study import Study
from study.cli import main
from tests.faults.conftest import check_equal, check_every_number_once
from tests.study.conftest import settings, square_cohort
from tests.study.test_tracking import free_port, mlflow_server

pytestmark = [pytest.mark.fault, pytest.mark.usefixtures("warm_ray")]


def run_and(study, happens):
    """Run a study; something happens once its first configuration is done."""
    lines = []

    def echo(line):
        lines.append(line)
        if re.match(r" *1/24 configurations", line):
            happens()

    study.run(echo=echo)
    return lines


def wait_until_it_answers(port, log):
    end = time.monotonic() + 120
    while True:
        with suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=4).close()
            return
        assert time.monotonic() < end, log.read_text()[-2000:]
        time.sleep(0.5)


def test_a_locked_database_costs_a_line_and_a_sync(tmp_path, studied, capfd):
    square_cohort(tmp_path / "cohort")
    study = Study.from_dict(settings(tmp_path))
    with closing(sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)) as other:
        lines = run_and(study, lambda: other.execute("BEGIN MULTICLASS"))
        other.rollback()
    (complaint,) = [line for line in lines if "did not take everything" in line]
    assert re.search(r"database is locked; \d+ configurations missing there; `radtune sync", complaint)
    assert "Traceback" not in capfd.readouterr().err
    assert main(["sync", str(study.folder.path)]) == 0
    check_every_number_once(study)
    check_equal(study, studied[0])


def test_a_server_that_hangs_in_the_middle_costs_a_line_and_a_sync(tmp_path, studied, capfd):
    square_cohort(tmp_path / "cohort")
    port = free_port()
    study = Study.from_dict(settings(tmp_path) | {"tracking": {"uri": f"http://127.0.0.1:{port}"}})
    with mlflow_server(port, tmp_path) as server:
        wait_until_it_answers(port, server)
        (group,) = [one.pid for one in psutil.Process().children() if "server" in one.cmdline()]
        try:
            lines = run_and(study, lambda: os.killpg(group, signal.SIGSTOP))
        finally:
            os.killpg(group, signal.SIGCONT)
        (complaint,) = [line for line in lines if "did not take everything" in line]
        assert re.search(r"\d+ configurations? missing there; `radtune sync", complaint)
        assert "Traceback" not in capfd.readouterr().err
        assert main(["sync", str(study.folder.path)]) == 0
        check_every_number_once(study)
    check_equal(study, studied[0])
