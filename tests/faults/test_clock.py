"""The clock of the machine jumps while a study runs."""

import re
import time

import pytest

from study import Study
from tests.faults.conftest import check_equal, check_every_number_once, check_same_answer
from tests.study.conftest import settings, square_cohort

pytestmark = [pytest.mark.fault, pytest.mark.usefixtures("warm_ray")]
DAY = 86_400


@pytest.mark.parametrize("jump", [-DAY, DAY], ids=["back", "forth"])
def test_a_clock_that_jumps_changes_nothing(tmp_path, monkeypatch, studied, jump):
    square_cohort(tmp_path / "cohort")
    study = Study.from_dict(settings(tmp_path))
    took = re.match(r"finished in (\d+) s", run_with_jump(study, monkeypatch, jump)[-1])
    assert took and int(took[1]) < 3600
    check_every_number_once(study)
    check_equal(study, studied[0])
    check_same_answer(study, studied[0])


def test_a_time_budget_that_a_jump_uses_up_ends_the_search_and_a_resume_goes_on(tmp_path, monkeypatch):
    square_cohort(tmp_path / "cohort")
    study = Study.from_dict(settings(tmp_path, time_budget=600))
    lines = run_with_jump(study, monkeypatch, DAY)
    assert lines[-1].startswith("time budget of 600 s reached") and len(study.records) < 24
    before = {number: record.metrics for number, record in study.records.items()}
    study.run(resume=True, echo=lines.append)
    assert lines[-1].startswith("finished in")
    check_every_number_once(study)
    assert {number: study.records[number].metrics for number in before} == before


def run_with_jump(study, monkeypatch, jump):
    """Run a study; the clock jumps by so many seconds as the second bank ends."""
    lines, now = [], time.time

    def echo(line):
        lines.append(line)
        if re.match(r" *4/24 configurations", line):
            monkeypatch.setattr(time, "time", lambda: now() + jump)

    study.run(echo=echo)
    monkeypatch.undo()
    return lines
