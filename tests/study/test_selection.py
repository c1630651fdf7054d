"""What a finished search hands to the tables and to an export."""

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
    assert note(name, one) == "trial 0, the paper's configuration"


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
