"""The line that a running study prints."""

import math

from study.progress import progress
from trainables.records import TrialRecord


def record(number, objective, preset=""):
    return TrialRecord(number=number, preset=preset, params={}, state="COMPLETE", objective=objective)


def test_the_best_stands_beside_what_was_published_and_the_floor():
    searched = [record(1, 0.5), record(2, 0.75)]
    line = progress([record(0, 0.25, "paper"), *searched], 0.625, "macro_ap")
    assert line == "best macro_ap 0.750 (#2) · paper 0.250 · logreg 0.625"
    # A space without a published configuration has none to name.
    assert progress(searched, 0.625, "macro_ap") == "best macro_ap 0.750 (#2) · logreg 0.625"
    # The floor is still fitted, and the published configuration failed.
    failed = TrialRecord(number=0, preset="paper", params={}, state="FAIL")
    assert progress([failed, *searched], math.nan, "macro_ap") == "best macro_ap 0.750 (#2)"
    assert progress([], 0.625, "macro_ap") == "best macro_ap none yet · logreg 0.625"
