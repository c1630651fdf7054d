"""Tests of what a killed driver leaves in the journal."""

import os

import optuna
import pytest

from cohort.errors import InputError
from study.journal import open_journal

optuna.logging.set_verbosity(optuna.logging.WARNING)


def study_with_two_trials(path):
    study = optuna.create_study(storage=open_journal(path), study_name="s", load_if_exists=True)
    for value in (1.0, 2.0):
        trial = study.ask()
        trial.suggest_float("x", 0, 1)
        study.tell(trial, value)
    return study


def test_a_torn_last_line_is_cut_and_the_journal_goes_on(tmp_path):
    path = tmp_path / "optuna.journal"
    study_with_two_trials(path)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"op_code":4,"worker')
    assert len(study_with_two_trials(path).trials) == 4
    assert path.read_bytes().startswith(whole)
    assert len(optuna.load_study(storage=open_journal(path), study_name="s").trials) == 4


def test_damage_in_the_middle_is_refused_with_its_line(tmp_path):
    path = tmp_path / "optuna.journal"
    study_with_two_trials(path)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = b"\x00\x00\n"
    path.write_bytes(b"".join(lines))
    with pytest.raises(InputError, match=r"optuna\.journal: line 3 is damaged"):
        open_journal(path)


def test_a_stale_lock_is_removed(tmp_path):
    path = tmp_path / "optuna.journal"
    study_with_two_trials(path)
    os.symlink(path, f"{path}.lock")
    assert len(study_with_two_trials(path).trials) == 4


def test_a_relative_path_works_from_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    journal = open_journal(type(tmp_path)("runs/optuna.journal"))
    study = optuna.create_study(storage=journal, study_name="s")
    monkeypatch.chdir("/")
    study.tell(study.ask(), 1.0)
    assert (tmp_path / "runs" / "optuna.journal").stat().st_size > 0
