"""What a finished search hands to the tables and to an export."""

from dataclasses import replace

import numpy as np
import pytest

from cohort.errors import InputError
from study.selection import chosen, exported
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
    rows = chosen(RECORDS, top=2, with_answer=True)
    assert [(row.id, row.name, row.role, row.record.number) for row in rows] == [
        ("published/paper", "paper", "published", 0),
        ("trial/2", "best-1", "trial", 2),
        ("trial/0", "best-2", "trial", 0),
    ]
    assert rows[0].record.rule().strategy == "fixed" and rows[2].record.rule().strategy == "global"


def test_without_an_answer_of_several_the_best_is_the_answer():
    rows = chosen(RECORDS, top=2, with_answer=False)
    assert [row.role for row in rows] == ["published", "answer", "trial"]


@pytest.mark.parametrize("top", [1, 2])
def test_a_published_configuration_is_exported_as_published_inside_and_outside_the_top(top):
    row = exported(RECORDS, top, number=0)
    assert row.id == "published/paper" and row.record.rule().strategy == "fixed"
    assert row.note.startswith("trial 0") and row.note.endswith("thresholds as published")


def test_the_published_configuration_that_is_the_best_stands_once_where_it_is_cut_alike():
    published = record(0, 0.9, "paper")
    rows = chosen(RECORDS | {0: published}, 2, with_answer=True)
    assert [row.name for row in rows] == ["paper", "best-1", "best-2"]
    fixed = {0: replace(published, strategy="fixed")}
    rows = chosen(RECORDS | fixed, 2, with_answer=True)
    assert [(row.name, row.record.number) for row in rows] == [("best-1", 0), ("best-2", 2)]
    assert rows[0].note.startswith("trial 0") and rows[0].note.endswith("chosen on validation")
    assert exported(RECORDS | fixed, 2, number=0).name == "best-1"


def test_by_default_the_best_on_validation_is_exported():
    row = exported(RECORDS, 1, number=None)
    assert (row.name, row.id, row.note) == ("best-1", "trial/2", "trial 2, chosen on validation")


def test_another_trial_is_not_called_chosen_and_has_no_row():
    row = exported(RECORDS, 1, number=1)
    assert (row.name, row.id, row.note) == ("trial-1", "", "trial 1, asked for by its number")


@pytest.mark.parametrize(
    ("number", "message"),
    [(3, "trial 3 has no trained head \\(diverged\\)"), (9, "trial 9 is not of this study")],
)
def test_a_trial_without_a_head_is_refused(number, message):
    with pytest.raises(InputError, match=message):
        exported(RECORDS, 1, number)
