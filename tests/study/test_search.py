"""Tests of the searcher without Ray: banks are 'trained' by a formula, in whatever order the test likes."""

import itertools
import math
import random
import shutil
import time
from dataclasses import replace

import optuna
import pytest
from optuna.samplers import RandomSampler
from optuna.trial import TrialState
from ray.tune.search import Searcher

from cohort.files import write_atomically
from study.ask_tell import Asking
from study.bank_queue import BankQueue
from study.journal import shown_journal
from study.linear_probe import RUNG_OBSERVATIONS, LinearProbeStudy
from study.run_folder import RunFolder
from study.search import TRIES, BankSearcher
from study.search_plan import SearchPlan, kept_plan
from trainables.bank_files import pack_bank
from trainables.ranking import ranking
from trainables.records import TrialRecord, as_on_given_split

optuna.logging.set_verbosity(optuna.logging.WARNING)


def suggest(trial):
    loss = trial.suggest_categorical("loss", ["bce", "focal"])
    params = {"loss": loss, "x": trial.suggest_float("x", -1, 1)}
    if loss == "focal":
        params["gamma"] = trial.suggest_float("gamma", 0, 4)
    return params


def train(configuration):
    params = configuration["params"]
    value = 1 - params["x"] ** 2 - 0.01 * params.get("gamma", 0)
    curve = [{"epoch": 5, "objective": value / 2}, {"epoch": 10, "objective": value}]
    return TrialRecord(**configuration, state="COMPLETE", objective=value, epoch=10, curve=curve)


def searcher(folder, configurations=64, concurrent=2, seed=0, **changes):
    run = RunFolder(folder)
    plan = SearchPlan(
        configurations=configurations,
        bank_size=configurations // 8,
        seed=seed,
        concurrent=concurrent,
        **changes,
    )
    asking = Asking(
        suggest=suggest,
        presets={"paper": {"loss": "bce", "x": 0.9}},
        warm_starts=[{"loss": "focal", "x": 0.5, "gamma": 2.0}, {"loss": "bce", "x": 0.4}],
        known_to_bank=LinearProbeStudy(None, None, None).known_to_bank,
    )
    run.path.mkdir(parents=True, exist_ok=True)
    return BankSearcher(BankQueue("s", run, kept_plan(plan, run), asking), lambda records: None)


def drive(search, finish_first=min, train=train, banks=None):
    """Run the searcher dry, or for a number of banks; `finish_first` picks which running bank ends next."""
    running, handed_out = {}, []
    while True:
        while banks is None or len(handed_out) < banks:
            config = search.suggest(f"tune-{len(handed_out)}")
            if config in (None, Searcher.FINISHED):
                break
            running[f"tune-{len(handed_out)}"] = config
            handed_out.append(config)
        if not running:
            break
        name = finish_first(running)
        records = [train(one) for one in running.pop(name)["configurations"]]
        search.on_trial_complete(name, {"bank_file": pack_bank(records)})
    search.banks.tell_rest()
    return handed_out


def told(folder):
    return optuna.load_study(study_name="s", storage=shown_journal(RunFolder(folder).journal)).trials


def facts(folder):
    return [(trial.number, trial.state, trial.value, trial.params) for trial in told(folder)]


def numbers(banks):
    return [one["number"] for bank in banks for one in bank["configurations"]]


def test_every_configuration_is_tried_once_and_the_papers_is_first_and_alone(tmp_path):
    banks = drive(searcher(tmp_path))
    assert sorted(numbers(banks)) == list(range(64))
    assert banks[0]["configurations"] == [
        {"number": 0, "params": {"loss": "bce", "x": 0.9}, "preset": "paper"}
    ]
    assert not any(one["preset"] for bank in banks[1:] for one in bank["configurations"])
    assert {len(bank["configurations"]) for bank in banks[1:]} == {7, 8}
    assert banks[1]["configurations"][0]["params"] == {"loss": "focal", "x": 0.5, "gamma": 2.0}
    assert sorted(RunFolder(tmp_path).records()) == list(range(64))
    assert {trial.state for trial in told(tmp_path)} == {TrialState.COMPLETE}


def test_the_same_seed_gives_the_same_study_whichever_bank_finishes_first(tmp_path):
    first = drive(searcher(tmp_path / "a", concurrent=3), finish_first=min)
    second = drive(searcher(tmp_path / "b", concurrent=3), finish_first=max)
    other = drive(searcher(tmp_path / "c", concurrent=3, seed=1), finish_first=min)
    assert [bank["configurations"] for bank in first] == [bank["configurations"] for bank in second]
    assert [bank["earlier"].prune_below for bank in first] == [bank["earlier"].prune_below for bank in second]
    assert [bank["configurations"] for bank in first] != [bank["configurations"] for bank in other]


@pytest.mark.parametrize("value", [0.99, 0.01])
def test_what_was_judged_on_another_scale_is_neither_the_best_trial_nor_seen_by_the_sampler(tmp_path, value):
    """The published configuration scores above or below all others, on images of its own: the sampler draws
    the same, and Optuna's best trial is the best of those that compare."""

    def with_published(value):
        def trained(configuration):
            record = train(configuration)
            if not configuration["preset"]:
                return record
            return as_on_given_split(replace(record, objective=value, metrics={"val.macro_ap": value}))

        return trained

    expected = drive(searcher(tmp_path / "a", concurrent=1), train=with_published(0.5))
    banks = drive(searcher(tmp_path / "b", concurrent=1), train=with_published(value))
    assert [bank["configurations"] for bank in banks] == [bank["configurations"] for bank in expected]
    records = RunFolder(tmp_path / "b").records()
    study = optuna.load_study(study_name="s", storage=shown_journal(RunFolder(tmp_path / "b").journal))
    assert study.best_trial.number == ranking(records.values())[0].number != 0
    assert study.trials[0].state == TrialState.PRUNED and study.trials[0].value is None


def test_what_was_stopped_before_it_had_an_objective_stands_above_nobody(tmp_path):
    def train_or_stop(configuration):
        if configuration["number"] % 2:
            return TrialRecord(**configuration, state="PRUNED", fold_objectives=[0.99], epoch=5)
        return train(configuration)

    drive(searcher(tmp_path), train=train_or_stop)
    trials = facts(tmp_path)
    assert {value for _, state, value, _ in trials if state == TrialState.PRUNED} == {None}
    resumed = searcher(tmp_path)
    assert resumed.is_done()
    resumed.banks.tell_rest()
    assert facts(tmp_path) == trials


def test_the_sampler_learns_between_banks(tmp_path):
    banks = drive(searcher(tmp_path, configurations=160, concurrent=1))
    drawn = [[abs(one["params"]["x"]) for one in bank["configurations"]] for bank in banks]
    assert sum(drawn[-1]) / len(drawn[-1]) < sum(drawn[1]) / len(drawn[1])


def test_a_killed_driver_leaves_nothing_lost_and_nothing_twice(tmp_path):
    before = searcher(tmp_path)
    drive(before, banks=3)
    orphan = before.suggest("never-finishes")
    trained = [train(one) for one in before.suggest("written-but-not-told")["configurations"]]
    RunFolder(tmp_path).bank_file(4).write_bytes(pack_bank(trained))

    banks = drive(searcher(tmp_path))
    assert banks[0]["configurations"] == orphan["configurations"]
    done = told(tmp_path)
    assert [trial.number for trial in done] == list(range(64))
    assert {trial.state for trial in done} == {TrialState.COMPLETE}
    values = {number: record.objective for number, record in RunFolder(tmp_path).records().items()}
    assert values == {trial.number: trial.value for trial in done}


def test_a_finished_study_can_be_extended(tmp_path):
    drive(searcher(tmp_path, configurations=16))
    banks = drive(searcher(tmp_path, configurations=40))
    assert sorted(numbers(banks)) == list(range(16, 40))
    assert [trial.number for trial in told(tmp_path)] == list(range(40))


def test_pruned_and_failed_configurations_are_told_as_what_they_are(tmp_path):
    def sometimes(configuration):
        if configuration["number"] % 3 == 1:
            return TrialRecord(**configuration, state="FAIL", reason="diverged")
        state = "PRUNED" if configuration["number"] % 3 == 2 else "COMPLETE"
        return TrialRecord(**configuration, state=state, objective=0.25, epoch=5)

    drive(searcher(tmp_path, configurations=24), train=sometimes)
    expected = [TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED] * 8
    assert [trial.state for trial in told(tmp_path)] == expected
    assert told(tmp_path)[2].intermediate_values == {5: 0.25}


def test_lagging_is_to_be_below_a_quantile_of_what_earlier_heads_reached_there(tmp_path):
    banks = drive(searcher(tmp_path, configurations=128, concurrent=1))
    assert banks[0]["earlier"].prune_below == banks[1]["earlier"].prune_below == {}
    records = RunFolder(tmp_path).records()
    earlier = sorted(records[n].objective for bank in banks[1:3] for n in numbers([bank]))
    assert len(earlier) >= RUNG_OBSERVATIONS
    position = (len(earlier) - 1) / 3
    low = earlier[math.floor(position)]
    expected = low + (position % 1) * (earlier[math.ceil(position)] - low)
    assert banks[3]["earlier"].prune_below[10] == pytest.approx(expected)
    assert banks[3]["earlier"].prune_below[5] == pytest.approx(expected / 2)


def test_no_bank_starts_after_the_deadline(tmp_path):
    search = searcher(tmp_path, deadline=0.0)
    assert search.suggest("a") == Searcher.FINISHED


def test_what_the_deadline_cuts_off_is_asked_for_again(tmp_path):
    search = searcher(tmp_path, concurrent=1, deadline=time.time() + 600)
    search.on_trial_complete(
        "a", {"bank_file": pack_bank([train(one) for one in search.suggest("a")["configurations"]])}
    )
    bank = search.suggest("b")
    assert bank["deadline"] == search.banks.plan.deadline
    kept, cut = bank["configurations"][:2], bank["configurations"][2:]
    search.on_trial_complete("b", {"bank_file": pack_bank([train(one) for one in kept])})
    assert search.out_of_time and search.suggest("c") == Searcher.FINISHED
    search.banks.tell_rest()
    assert {trial.state for trial in told(tmp_path)[:3]} == {TrialState.COMPLETE}
    assert {trial.state for trial in told(tmp_path)[3:9]} == {TrialState.RUNNING}

    again = searcher(tmp_path, concurrent=1)
    assert again.suggest("d")["configurations"] == cut
    assert not again.out_of_time


def test_a_bank_of_which_nothing_is_left_writes_no_file(tmp_path):
    search = searcher(tmp_path, deadline=time.time() + 600)
    search.suggest("a")
    search.on_trial_complete("a", {"bank_file": pack_bank([])})
    search.banks.tell_rest()
    assert RunFolder(tmp_path).bank_files() == [] and search.out_of_time


def test_a_crash_between_two_warm_starts_loses_none_of_them(tmp_path, monkeypatch):
    enqueue = optuna.Study.enqueue_trial

    def interrupted(study, params, **more):
        if params.get("x") == 0.4:
            raise KeyboardInterrupt
        enqueue(study, params, **more)

    monkeypatch.setattr(optuna.Study, "enqueue_trial", interrupted)
    with pytest.raises(KeyboardInterrupt):
        drive(searcher(tmp_path))
    monkeypatch.undo()
    banks = drive(searcher(tmp_path))
    assert [one["params"]["x"] for one in banks[1]["configurations"][:2]] == [0.5, 0.4]
    assert sorted(numbers(banks)) == list(range(64))


def test_a_bank_whose_worker_dies_is_handed_out_again_under_its_number(tmp_path):
    undisturbed = drive(searcher(tmp_path / "a", concurrent=2))
    search = searcher(tmp_path / "b", concurrent=2)
    banks, running, deaths = {}, [], {0: 1, 3: 2, 8: 2}  # the last bank too, after which nothing is asked
    for turn in range(200):
        config = search.suggest(str(turn))
        if isinstance(config, dict):
            running.append((str(turn), config))
            continue
        if not running:
            assert config == Searcher.FINISHED
            break
        trial, config = running.pop(0)
        if deaths.get(config["bank"]):
            deaths[config["bank"]] -= 1
            search.on_trial_complete(trial, None, error=True)
            continue
        banks[config["bank"]] = config
        records = [train(one) for one in config["configurations"]]
        search.on_trial_complete(trial, {"bank_file": pack_bank(records)})
    search.banks.tell_rest()
    assert not any(deaths.values()) and search.given_up == []
    assert [banks[bank]["configurations"] for bank in sorted(banks)] == [
        one["configurations"] for one in undisturbed
    ]


def test_what_no_worker_survives_is_asked_again_by_a_resume_and_then_fails(tmp_path):
    for run, last in enumerate((False, True)):
        search = searcher(tmp_path, configurations=16, concurrent=1)
        config = search.suggest("0")
        assert [one["number"] for one in config["configurations"]] == [0]
        for trial in range(TRIES):
            assert trial == 0 or search.suggest(str(trial)) == config
            search.on_trial_complete(str(trial), None, error=True)
        assert search.suggest("next")["configurations"] != config["configurations"]
        assert search.given_up == ([] if last else [0])
        assert [record.state for record in RunFolder(tmp_path).records().values()] == ["FAIL"] * run
    assert "its worker died at every try" in RunFolder(tmp_path).records()[0].reason


def test_a_worker_that_gets_on_may_die_any_number_of_times(tmp_path):
    search = searcher(tmp_path, configurations=16, concurrent=1)
    for trial in range(3 * TRIES):
        search.suggest(str(trial))
        search.on_trial_result(str(trial), {"epoch": trial})
        search.on_trial_complete(str(trial), None, error=True)
    assert search.given_up == []


class Killed(BaseException):
    """What a process does not survive."""


def until_killed(folder, rng, patience):
    """Drive a searcher until it is through, or is killed before it asks or writes so many things, with what
    trains then; whether it is through."""
    calls = itertools.count()

    def counted(call):
        def counting(*arguments, **named):
            if next(calls) == patience:
                raise Killed
            return call(*arguments, **named)

        return counting

    with pytest.MonkeyPatch.context() as patch:
        for name in ("ask", "enqueue_trial"):
            patch.setattr(optuna.Study, name, counted(getattr(optuna.Study, name)))
        for written in ("study.run_folder.write_atomically", "study.bank_queue.write_atomically"):
            patch.setattr(written, counted(write_atomically))
        try:
            search = searcher(folder, concurrent=3)
            drive(search, finish_first=lambda running: rng.choice(list(running)))
        except Killed:
            return False
        return True


@pytest.mark.parametrize("lost", ["nothing", "the journal", "a bank file"])
@pytest.mark.parametrize("seed", [*range(6), 7, 11, 20])
def test_a_study_that_is_killed_again_and_again_ends_as_if_it_had_not_been(tmp_path, seed, lost):
    """Anywhere: between two questions of one bank, before it is noted, before its file is written; and its
    disk may lose something between two lives."""
    drive(searcher(tmp_path / "one", concurrent=3))
    rng = random.Random(seed)
    lives = 1
    while not until_killed(tmp_path / "other", rng, patience=rng.randrange(60)):
        lives += 1
        run = RunFolder(tmp_path / "other")
        if lives > 4:
            continue
        if lost == "the journal":
            run.journal.unlink(missing_ok=True)
        elif lost == "a bank file" and run.bank_files():
            rng.choice(run.bank_files()).unlink()
    assert lives > 1
    one, other = RunFolder(tmp_path / "one"), RunFolder(tmp_path / "other")
    assert [path.name for path in one.bank_files()] == [path.name for path in other.bank_files()]
    before, after = one.records(), other.records()
    assert {n: (record.params, record.objective) for n, record in before.items()} == {
        n: (record.params, record.objective) for n, record in after.items()
    }
    assert facts(tmp_path / "other") == facts(tmp_path / "one")


@pytest.mark.parametrize("journal", [None, b"", b"\xff\x00", b'{"op_code":4,"wor', b'{"op": 3}\n', "foreign"])
def test_what_a_journal_holds_does_not_matter_to_a_study_that_is_resumed(tmp_path, journal):
    drive(searcher(tmp_path / "a", concurrent=3))

    def killed(configuration):
        if configuration["number"] == 30:  # others train beside it
            raise Killed
        return train(configuration)

    with pytest.raises(Killed):
        drive(searcher(tmp_path / "b", concurrent=3), train=killed)
    run = RunFolder(tmp_path / "b")
    assert 20 < len(run.records()) < 64
    if journal == "foreign":
        drive(searcher(tmp_path / "c", seed=1))
        shutil.copy(RunFolder(tmp_path / "c").journal, run.journal)
    elif journal is None:
        run.journal.unlink()
    else:
        run.journal.write_bytes(journal)
    (tmp_path / "b" / f"{run.journal.name}.lock").symlink_to(run.journal)  # of an earlier release
    drive(searcher(tmp_path / "b", concurrent=3))
    assert facts(tmp_path / "b") == facts(tmp_path / "a")


@pytest.mark.parametrize("in_order", [True, False])
def test_where_notes_are_lost_every_configuration_is_still_tried_once(tmp_path, in_order):
    search = searcher(tmp_path, concurrent=3, in_order=in_order)
    asked = [search.suggest(str(bank)) for bank in range(3)]
    records = [train(one) for one in asked[2]["configurations"]]
    search.on_trial_complete("2", {"bank_file": pack_bank(records)})
    run = RunFolder(tmp_path)
    for note in run.asked_files():
        note.unlink()
    banks = drive(searcher(tmp_path, concurrent=3, in_order=in_order))
    assert banks[0]["configurations"] == asked[0]["configurations"]  # the published one
    assert sorted(numbers(banks)) == [n for n in range(64) if n not in {one.number for one in records}]
    assert [trial.number for trial in told(tmp_path)] == sorted(run.records()) == list(range(64))
    assert all(run.records()[one.number].params == one.params for one in records)


def test_what_was_trained_counts_where_another_optuna_would_draw_something_else(tmp_path, monkeypatch):
    """The journal is lost between two releases of it."""
    drive(searcher(tmp_path), banks=5)
    run = RunFolder(tmp_path)
    run.bank_file(2).unlink()  # it still trained
    trained = run.records()
    assert len(trained) == 25
    run.journal.unlink()
    monkeypatch.setattr("study.ask_tell.TPESampler", lambda **settings: RandomSampler(seed=1))
    again = drive(searcher(tmp_path))
    assert not trained.keys() & set(numbers(again))
    records = run.records()
    assert sorted(records) == [trial.number for trial in told(tmp_path)] == list(range(64))
    assert all(records[number].params == record.params for number, record in trained.items())
    assert all(trial.params == records[trial.number].params for trial in told(tmp_path)[1:])
