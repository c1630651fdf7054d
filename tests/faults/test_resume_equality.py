"""A study that was stopped and resumed has the table of the one that was not, to the last digit."""

import pytest

from tests.faults.conftest import (
    LONG,
    check_equal,
    check_every_number_once,
    finish,
    killed,
    to_run,
)
from tests.faults.harms import cut_at_a_line, deleted, torn

pytestmark = pytest.mark.fault


def test_a_killed_study_that_is_resumed_equals_the_uninterrupted_one(tmp_path, uninterrupted):
    study = to_run(tmp_path, **LONG)
    killed(study, lambda: len(study.folder.bank_files()) >= 6)
    finish(study, "--resume")
    check_every_number_once(study)
    check_equal(study, uninterrupted)


def test_a_study_killed_again_and_again_equals_the_uninterrupted_one(tmp_path, uninterrupted):
    """While Ray starts, after its first bank, and twice after two more."""
    study = to_run(tmp_path, **LONG)
    killed(study, lambda: study.folder.study_file.exists())
    killed(study, study.folder.bank_files, "--resume")
    for _ in range(2):
        done = len(study.folder.bank_files())
        killed(study, lambda done=done: len(study.folder.bank_files()) > done + 1, "--resume")
    finish(study, "--resume")
    check_every_number_once(study)
    check_equal(study, uninterrupted)


@pytest.mark.parametrize("lines", [2, 5])
def test_a_kill_between_two_starts_loses_none_of_them(tmp_path, uninterrupted, lines):
    """The journal as it was when so many lines of it had been written."""
    study = to_run(tmp_path, **LONG)
    killed(study, lambda: study.folder.journal.exists() and study.folder.journal.stat().st_size > 10_000)
    for file in [*study.folder.bank_files(), *study.folder.asked_files()]:
        file.unlink()
    whole = study.folder.journal.read_bytes().splitlines(keepends=True)
    study.folder.journal.write_bytes(b"".join(whole[:lines]))
    torn(study.folder.journal)
    finish(study, "--resume")
    check_every_number_once(study)
    check_equal(study, uninterrupted)


@pytest.mark.parametrize("harm", [deleted, cut_at_a_line])
def test_a_killed_study_whose_journal_was_damaged_too_equals_the_uninterrupted_one(
    tmp_path, uninterrupted, harm
):
    study = to_run(tmp_path, **LONG)
    killed(study, lambda: len(study.folder.bank_files()) >= 4)
    harm(study.folder.journal)
    finish(study, "--resume")
    check_every_number_once(study)
    check_equal(study, uninterrupted)


def test_a_bank_that_is_trained_again_on_another_number_of_cpus_equals_the_one_that_was_lost(
    tmp_path, uninterrupted
):
    """The plan is the study's, not the machine's."""
    study = to_run(tmp_path, **LONG)
    killed(study, lambda: len(study.folder.bank_files()) >= 6)
    study.folder.bank_file(2).unlink()
    finish(study, "--resume", "--set", "resources.cpus=1")
    check_every_number_once(study)
    check_equal(study, uninterrupted)
