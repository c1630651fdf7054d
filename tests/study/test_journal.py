"""Tests of the journal that a driver writes and others read."""

import os

import optuna
import pytest

from study.journal import beginning, begun_journal, shown_journal

optuna.logging.set_verbosity(optuna.logging.WARNING)


def begun(path):
    return optuna.create_study(study_name="s", storage=begun_journal(path), direction="maximize")


def facts(study):
    return [(trial.number, trial.state, trial.value, trial.params) for trial in study.get_trials()]


def test_what_is_written_is_what_others_read(tmp_path):
    study = begun(tmp_path / "runs" / "optuna.journal")
    for number in range(4):
        trial = study.ask()
        trial.suggest_float("x", 0, 1)
        if number < 3:
            study.tell(trial, number / 10)
    shown = optuna.load_study(study_name="s", storage=shown_journal(tmp_path / "runs" / "optuna.journal"))
    assert facts(shown) == facts(study) and len(facts(study)) == 4


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b'{"op_code":4,"wor', b'{"op": 3}\n'])
def test_a_journal_is_begun_anew_whatever_the_file_held(tmp_path, content):
    path = tmp_path / "optuna.journal"
    path.write_bytes(content)
    os.symlink(path, f"{path}.lock")  # of an earlier release
    begun(path).add_trial(optuna.trial.create_trial(value=0.5))
    assert [
        trial.value for trial in optuna.load_study(study_name="s", storage=shown_journal(path)).trials
    ] == [0.5]


def test_each_journal_has_a_beginning_of_its_own(tmp_path):
    path = tmp_path / "optuna.journal"
    begun(path)
    first = beginning(path)
    begun(path)
    assert beginning(path) != first


def test_a_relative_path_works_from_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = begun(type(tmp_path)("runs/optuna.journal"))
    monkeypatch.chdir("/")
    study.tell(study.ask(), 1.0)
    shown = optuna.load_study(study_name="s", storage=shown_journal(tmp_path / "runs/optuna.journal"))
    assert len(shown.trials) == 1
