"""The analyses of a feature space, at their smallest."""

import re

import pytest

from benchmarks.separability import main


@pytest.mark.slow
def test_both_analyses_are_timed(capsys):
    main(["--images", "400", "--overlaid", "60"])
    printed = capsys.readouterr().out
    assert re.search(r"^separability of 400 x 512 x 14 with \d+ permutations: \d+\.\d s$", printed, re.M)
    assert re.search(r"^60 images x \d+ variants, phantom-clip: \d+\.\d s", printed, re.M)
