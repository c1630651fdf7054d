"""What a finished search hands to the tables and to an export."""

from dataclasses import replace

import numpy as np
import pytest

from cohort.errors import InputError
from study.selection import chosen, exported, note
from trainables.records import TrialRecord
from vlm.linear_head import LinearHead


def record(number, objective, preset="", head=True) -> TrialRecord:
    arrays = LinearHead.plain(np.ones((2, 1))).tensors() if head else {}
    return TrialRecord(
        number=number,
        preset=preset,
        params={},
        state="COMPLETE" if head else "FAIL",
        reason="" if head else "diverged",
        objective=objective,
        strategy="global",
        thresholds={"fixed": [0.5], "global": [0.3]},
        few=[False],
        arrays=arrays,
    )


RECORDS = {
    one.number: one
    for one in (record(0, 0.4, "paper"), record(1, 0.3), record(2, 0.6), record(3, np.nan, head=False))
}


def test_the_published_configuration_and_the_best_are_chosen_in_their_order():
    named = chosen(RECORDS, top=2)
    assert {name: one.number for name, one in named.items()} == {"paper": 0, "best-1": 2, "best-2": 0}
    assert named["paper"].rule().strategy == "fixed" and named["best-2"].rule().strategy == "global"


@pytest.mark.parametrize("top", [1, 2])
def test_a_published_configuration_is_exported_as_published_inside_and_outside_the_top(top):
    name, one = exported(RECORDS, top, number=0)
    assert name == "paper" and one.rule().strategy == "fixed"
    assert note(name, one) == (
        "trial 0, the published configuration (Sadman et al. 2025, arXiv 2506.14136), cut as published"
    )


def test_the_published_configuration_that_is_the_best_stands_once_where_it_is_cut_alike():
    published = record(0, 0.9, "paper")
    assert list(chosen(RECORDS | {0: published}, 2)) == ["paper", "best-1", "best-2"]
    fixed = {0: replace(published, strategy="fixed")}
    named = chosen(RECORDS | fixed, 2)
    assert {name: one.number for name, one in named.items()} == {"best-1": 0, "best-2": 2}
    assert note("best-1", fixed[0]) == (
        "trial 0, the published configuration (Sadman et al. 2025, arXiv 2506.14136), chosen on validation"
    )
    assert exported(RECORDS | fixed, 2, number=0)[0] == "best-1"


def test_by_default_the_best_on_validation_is_exported():
    name, one = exported(RECORDS, 1, number=None)
    assert (name, one.number, note(name, one)) == ("best-1", 2, "trial 2, chosen on validation")


def test_another_trial_is_not_called_chosen():
    name, one = exported(RECORDS, 1, number=1)
    assert (name, note(name, one)) == ("trial-1", "trial 1, asked for by its number")


@pytest.mark.parametrize(
    ("number", "message"),
    [(3, "trial 3 has no trained head \\(diverged\\)"), (9, "trial 9 is not of this study")],
)
def test_a_trial_without_a_head_is_refused(number, message):
    with pytest.raises(InputError, match=message):
        exported(RECORDS, 1, number)
