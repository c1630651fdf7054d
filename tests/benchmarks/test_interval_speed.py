"""Time of the test analysis, at its smallest."""

import re

from benchmarks.interval_speed import main


def test_both_steps_are_timed(capsys):
    main(["--resamples", "20"])
    assert len(re.findall(r"\d+\.\d s CPU$", capsys.readouterr().out, re.M)) == 2
