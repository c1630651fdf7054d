"""Ray Tune's schedulers as a study uses them, one trial after the other and without Ray."""

from types import SimpleNamespace

import pytest
from ray.tune.schedulers import TrialScheduler

from study.early_stopping import early_stopping
from trainables.records import TrialRecord


class Told:
    """A trial as a scheduler sees it."""

    def __init__(self, number: int, preset: str = "") -> None:
        asked = {"number": number, "params": {}, "preset": preset}
        self.trial_id, self.config = str(number), {"bank": number, "configurations": [asked]}


OBJECTIVES = (0.1, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.2)
"""Of eight trials; the first and the last lie far behind."""


@pytest.mark.parametrize(("published", "laggards"), [(0, [7]), (7, [])])
@pytest.mark.parametrize("name", ["asha", "median"])
def test_the_scheduler_stops_a_laggard_and_spares_the_papers_configuration(name, published, laggards):
    stopping = early_stopping(name, grace_epochs=1)
    controller = SimpleNamespace(get_live_trials=lambda: [SimpleNamespace(status="PENDING")])
    stopped = []
    for number, objective in enumerate(OBJECTIVES):  # one after the other, as on one GPU
        trial = Told(number, preset="paper" if number == published else "")
        stopping.on_trial_add(None, trial)
        for epoch in (1, 2, 3):
            result = {"epoch": epoch, "objective": objective}
            if stopping.on_trial_result(controller, trial, result) != TrialScheduler.CONTINUE:
                stopped.append(number)
                break
        else:
            stopping.on_trial_complete(None, trial, result)
    assert stopped == laggards


@pytest.mark.parametrize("name", ["asha", "median"])
def test_a_resumed_studys_scheduler_knows_the_trials_before_it(name):
    def decision(stopping) -> str:
        controller = SimpleNamespace(get_live_trials=lambda: [])
        laggard = Told(7)
        stopping.on_trial_add(None, laggard)
        decisions = (
            stopping.on_trial_result(controller, laggard, {"epoch": epoch, "objective": OBJECTIVES[7]})
            for epoch in (1, 2, 3)
        )
        return next((one for one in decisions if one != TrialScheduler.CONTINUE), TrialScheduler.CONTINUE)

    finished = [
        TrialRecord(
            number=number,
            params={},
            state="COMPLETE",
            curve=[{"epoch": epoch, "objective": objective} for epoch in (1, 2, 3)],
        )
        for number, objective in enumerate(OBJECTIVES[:7])
    ]
    assert decision(early_stopping(name, 1)) == TrialScheduler.CONTINUE
    assert decision(early_stopping(name, 1, finished)) == TrialScheduler.STOP


def test_in_a_resumed_study_the_papers_configuration_is_no_measure_either():
    curve = [{"epoch": epoch, "objective": 1.0} for epoch in (1, 2, 3)]
    records = [
        TrialRecord(number=number, preset=preset, params={}, state="COMPLETE", curve=curve)
        for number, preset in enumerate(["paper", "", ""])
    ]
    for finished, decision in ((records[:1], TrialScheduler.CONTINUE), (records[1:], TrialScheduler.STOP)):
        stopping, newcomer = early_stopping("asha", 1, finished), Told(4)
        stopping.on_trial_add(None, newcomer)
        assert stopping.on_trial_result(None, newcomer, {"epoch": 1, "objective": 0.5}) == decision


def test_the_papers_end_is_no_measure_for_the_others():
    stopping, paper, other = early_stopping("asha", 1), Told(0, preset="paper"), Told(1)
    for trial in (paper, other):
        stopping.on_trial_add(None, trial)
    last = {"epoch": 10, "objective": 1.0}
    stopping.on_trial_result(None, paper, last)
    stopping.on_trial_complete(None, paper, last)
    assert stopping.on_trial_result(None, other, {"epoch": 9, "objective": 0.5}) == TrialScheduler.CONTINUE


def test_what_a_finished_trial_reached_after_a_rung_that_would_stop_it_counts_in_a_replay():
    def record(number: int, objectives: list[float]) -> TrialRecord:
        curve = [{"epoch": epoch, "objective": value} for epoch, value in enumerate(objectives, start=1)]
        return TrialRecord(number=number, params={}, state="COMPLETE", curve=curve)

    # The last lay behind at the first rung and far ahead of all at the second.
    finished = [record(1, [0.8, 0.8, 0.3]), record(2, [0.8, 0.8, 0.3]), record(3, [0.1, 0.1, 0.9])]
    stopping, newcomer = early_stopping("asha", 1, finished), Told(4)
    stopping.on_trial_add(None, newcomer)
    assert stopping.on_trial_result(None, newcomer, {"epoch": 1, "objective": 0.9}) == TrialScheduler.CONTINUE
    assert stopping.on_trial_result(None, newcomer, {"epoch": 3, "objective": 0.31}) == TrialScheduler.STOP


def test_no_scheduler_is_none():
    assert early_stopping("none", grace_epochs=1) is None
