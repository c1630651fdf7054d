"""The memory of a long study, at its smallest."""

import re

import pytest

from benchmarks.load_study import main


@pytest.mark.slow
def test_memory_is_told_as_configurations_are_added(capfd):
    main(["--configurations", "16", "--images", "200"])
    printed = capfd.readouterr().out
    assert re.search(r"^ray\.tune +\d+ MB", printed, re.M)
    assert re.search(r"^ +16 +\d+ +\d+ +\d+ +\d+$", printed, re.M)
    assert re.search(r"^run: \d+ s, driver at most [1-9]\d+ MB, a worker [1-9]\d+ MB$", printed, re.M)
    assert re.search(r"^analyze: \d+\.\d s, at most [1-9]\d+ MB$", printed, re.M)
