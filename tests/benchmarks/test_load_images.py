"""A large cohort, at its smallest."""

import re

import pytest

from benchmarks.load_images import main


@pytest.mark.slow
def test_every_step_has_its_time_and_its_memory(capsys):
    main(["--images", "40"])
    printed = capsys.readouterr().out
    for step in ("manifest and splits", "decoded images", "embedding"):
        assert re.search(rf"^ +40 {step} +\d+\.\d +\d+ +\d+$", printed, re.M)
