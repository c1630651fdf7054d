"""Studies killed at random, at the smallest: one kill."""

import re

import pytest

from benchmarks.random_kills import main


@pytest.mark.slow
@pytest.mark.fault
def test_a_killed_study_comes_to_the_table_of_an_undisturbed_one(capsys):
    main(["1"])
    printed = capsys.readouterr().out
    assert re.search(r"^ +0 probe +killed .*; \d drivers; table equal$", printed, re.M)
    assert printed.endswith("1 of 1 tables equal the undisturbed ones\n")
