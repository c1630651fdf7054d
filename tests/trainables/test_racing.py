"""Who goes on to the next fold."""

import math

import numpy as np

from trainables.racing import CONTENDERS, contending


def test_who_still_contends_worked_by_hand():
    """21 earlier configurations that differ on no fold but in their level, 0.50 to 0.70: without interaction
    the margin is 0 and the floor the 20th best of all. A difficult fold, common to all, counts against
    nobody."""
    level = [0.50 + 0.01 * i for i in range(21)]
    earlier = [[value - 0.2, value, value] for value in level]
    assert contending([[0.31], [0.33]], earlier, folds=3) == [False, True]
    # Fewer than CONTENDERS, or nobody with two folds: nobody is stopped.
    assert contending([[0.0]], earlier[:19], folds=3) == [True]
    assert contending([[0.0]], [[one[0]] for one in earlier], folds=3) == [True]


def test_a_difference_that_the_missing_folds_may_make_up_for_stops_nobody():
    """Configurations whose order changes from fold to fold: the margin is wide after one fold, less so after
    four."""
    rng = np.random.default_rng(0)
    earlier = (0.5 + rng.normal(0, 0.02, (60, 5))).tolist()
    behind = float(np.sort([one[0] for one in earlier])[-CONTENDERS]) - 0.015
    assert contending([[behind]], earlier, folds=5) == [True]
    level = float(np.sort([np.mean(one[:4]) for one in earlier])[-CONTENDERS]) - 0.02
    assert contending([[level] * 4], earlier, folds=5) == [False]


def test_a_fold_that_nobody_could_be_scored_on_counts_for_nobody():
    """The same decisions as without that fold, wherever it stands; and none where there is no other."""
    level = [0.50 + 0.01 * i for i in range(21)]
    earlier = [[value - 0.2, value, value] for value in level]
    with_gap = [[low, math.nan, *rest] for low, *rest in earlier]
    assert contending([[0.31, math.nan], [0.33, math.nan]], with_gap, folds=4) == [False, True]
    assert contending([[math.nan], [math.nan]], [[math.nan, *one] for one in earlier], folds=4) == [True] * 2
