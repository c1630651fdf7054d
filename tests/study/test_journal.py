"""Tests of what a killed driver, or a disk, leaves of the journal."""

import json
import os

import optuna
import pytest
from optuna.trial import TrialState

from study.journal import ASKED, journal_storage, open_study
from trainables.records import TrialRecord

optuna.logging.set_verbosity(optuna.logging.WARNING)
STARTS = [({}, "paper"), ({"x": 0.25}, "")]


def suggest(trial):
    return {"x": trial.suggest_float("x", 0, 1), "fixed": 3}


def opened(path, records=()):
    banks = {record.number: [record] for record in records}
    return open_study(path, "s", banks, suggest, STARTS)


def ran(path):
    """A study of one published configuration, a start and two others, the last of which never ended; the
    records of what did."""
    study, mended = opened(path)
    assert mended == ""
    for place, (params, preset) in enumerate(STARTS):
        study.enqueue_trial(dict(params), user_attrs={"start": place, "preset": preset})
    records = []
    for number in range(4):
        trial = study.ask()
        params = {"x": 0.5} if number == 0 else suggest(trial)
        record = TrialRecord(
            number=number,
            preset="paper" if number == 0 else "",
            params=params,
            state="PRUNED" if number == 2 else "COMPLETE",
            objective=number / 10,
            epoch=4,
        )
        if number == 2:
            trial.report(record.objective, record.epoch)
            study.tell(number, state=TrialState.PRUNED)
        elif number < 3:
            study.tell(number, record.objective)
        study.set_user_attr(f"{ASKED}{number}", [number])
        records.append(record)
    return records


def facts(study):
    return [
        (trial.number, trial.state, trial.value, trial.params, trial.user_attrs.get("preset", ""))
        for trial in study.get_trials()
    ]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "optuna.journal"


def test_a_torn_last_line_is_cut_and_the_journal_goes_on(path):
    records = ran(path)
    whole = path.read_bytes()
    before = facts(opened(path, records)[0])
    path.write_bytes(whole + b'{"op_code":4,"worker')
    study, mended = opened(path, records)
    assert mended == "" and facts(study) == before
    assert path.read_bytes().startswith(whole) and len(opened(path, records)[0].trials) == 4


def test_a_finished_bank_that_was_not_told_is_no_contradiction(path):
    """Its configurations are RUNNING in the journal; the search tells them."""
    records = ran(path)
    before = path.read_bytes()
    study, mended = opened(path, records)
    assert mended == "" and path.read_bytes().startswith(before)
    assert study.trials[3].state == TrialState.RUNNING


@pytest.mark.parametrize(
    "damage", ["deleted", "empty", "cut at a line's end", "a damaged line", "not a journal"]
)
def test_a_journal_that_lost_something_is_written_anew_from_the_records(path, damage):
    records = ran(path)
    expected = facts(opened(path, records)[0])
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) > 9
    if damage == "deleted":
        path.unlink()
    else:
        path.write_bytes(
            {
                "empty": b"",
                "cut at a line's end": b"".join(lines[:6]),
                "a damaged line": b"".join([*lines[:5], b"\x00\x00\n", *lines[6:]]),
                "not a journal": b"".join([*lines[:5], json.dumps({"op": 3}).encode() + b"\n"]),
            }[damage]
        )
    study, mended = opened(path, records)
    assert (
        mended.startswith("the journal was written anew from the bank files")
        and "4 configurations are done" in mended
    )
    # What the journal no longer knew as told, the search tells when its turn comes.
    for after, before in zip(facts(study), expected, strict=True):
        number, state, value, params, preset = after
        assert (number, params, preset) == (before[0], before[3], before[4])
        assert (state, value) in (before[1:3], (TrialState.RUNNING, None))
    assert opened(path, records)[1] == "" and facts(opened(path, records)[0]) == facts(study)


def test_told_configurations_without_a_record_are_asked_again_under_their_numbers(path):
    """A bank file that was damaged and deleted."""
    records = ran(path)
    before = facts(opened(path, records)[0])
    study, mended = opened(path, [records[0], records[3]])
    assert "the bank file of #1 is gone" in mended and "2 are asked again" in mended
    again = facts(study)
    assert again[0] == before[0]
    for number in (1, 2):
        assert again[number] == (number, TrialState.RUNNING, None, before[number][3], "")


def test_numbers_that_nobody_knows_any_more_are_queued_with_what_the_study_begins_with(path):
    records = ran(path)
    path.unlink()
    study, _ = opened(path, [records[3]])
    assert [trial.state.name for trial in study.trials] == ["WAITING"] * 3 + ["RUNNING"]
    assert study.trials[0].user_attrs == {"start": 0, "preset": "paper"}
    asked = [study.ask() for _ in range(3)]
    assert [trial.number for trial in asked] == [0, 1, 2] and suggest(asked[1])["x"] == 0.25


@pytest.mark.parametrize("what", ["params", "objective", "state"])
def test_a_journal_of_another_study_is_not_believed(path, what):
    records = ran(path)
    other = {"params": {"x": 0.9, "fixed": 3}, "objective": 0.99, "state": "PRUNED"}[what]
    changed = [
        TrialRecord(**vars(records[1]) | {what: other}) if n == 1 else one for n, one in enumerate(records)
    ]
    study, mended = opened(path, changed)
    assert "of #1" in mended
    assert (study.trials[1].value, study.trials[1].params["x"]) == (
        changed[1].objective,
        changed[1].params["x"],
    )


def test_a_stale_lock_is_removed(path):
    records = ran(path)
    os.symlink(path, f"{path}.lock")
    assert len(opened(path, records)[0].trials) == 4


def test_a_relative_path_works_from_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    study, _ = opened(type(tmp_path)("runs/optuna.journal"))
    monkeypatch.chdir("/")
    study.tell(study.ask(), 1.0)
    assert (
        len(
            optuna.load_study(
                study_name="s", storage=journal_storage(tmp_path / "runs/optuna.journal")
            ).trials
        )
        == 1
    )
