"""Time of the test analysis, at its smallest."""

import re

import pytest

from benchmarks.interval_speed import main


@pytest.mark.slow
def test_both_steps_are_timed(capsys):
    main(["--resamples", "20"])
    assert len(re.findall(r"\d+\.\d s CPU$", capsys.readouterr().out, re.M)) == 2
