import math

import pytest

from trainables.stopping import Ending, Stopping


def curve(*values: float) -> list[dict[str, float]]:
    """An evaluation an epoch, with a loss that falls as the objective rises."""
    return [
        {"epoch": epoch, "objective": value, "val_loss": 1 - value} for epoch, value in enumerate(values, 1)
    ]


@pytest.mark.parametrize("best_by", ["objective", "loss"])
def test_the_first_of_equally_good_evaluations_is_kept(best_by):
    assert Stopping(best_by=best_by).kept(curve(0.2, 0.5, 0.5, 0.4)) == 1


def test_the_last_evaluation_is_kept_where_that_is_asked():
    assert Stopping(keep_last=True).kept(curve(0.5, math.nan)) == 1


def test_an_evaluation_without_a_score_is_never_the_best():
    assert Stopping().kept(curve(math.nan, 0.1, math.nan)) == 1
    assert Stopping().kept(curve(math.nan)) is None


def test_a_head_is_evaluated_at_rungs_and_after_its_own_last_epoch():
    stopping = Stopping(rungs=(2, 4))
    assert [epoch for epoch in range(1, 7) if stopping.due(epoch, epochs=5)] == [2, 4, 5]


def test_a_head_ends_with_its_last_epoch_whatever_else_holds():
    stopping = Stopping(prune_below={3: 1.0}, patience=1)
    assert stopping.ending(curve(0.5, 0.4, 0.3), epochs=3) == Ending(3)


def test_a_head_ends_below_the_floor_of_a_rung_and_not_at_it():
    stopping = Stopping(prune_below={2: 0.4})
    ending = stopping.ending(curve(0.5, 0.39), epochs=9)
    assert (ending.epoch, ending.state) == (2, "PRUNED")
    assert stopping.ending(curve(0.5, 0.4), epochs=9) is None
    assert stopping.ending(curve(0.1), epochs=9) is None


def test_a_head_ends_as_complete_after_so_many_evaluations_without_a_better_one():
    stopping = Stopping(patience=2)
    assert stopping.ending(curve(0.5, 0.4), epochs=9) is None
    ending = stopping.ending(curve(0.5, 0.4, 0.5), epochs=9)
    assert (ending.epoch, ending.state) == (3, "COMPLETE")
    assert ending.reason == "no better objective in 2 evaluations up to epoch 3"
