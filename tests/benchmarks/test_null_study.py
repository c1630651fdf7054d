"""A whole search on noise, with its racing and its ensemble."""

import re

import numpy as np
import pytest

from benchmarks.null_study import main, scores


@pytest.mark.slow
def test_a_study_of_noise_reports_chance():
    """Eight studies of 256 configurations: the mean is known to ± 0.015."""
    found = [scores(seed, 256) for seed in range(8)]
    for name in found[0]:
        chance = "anew" in name or "mean" in name
        if chance:
            assert np.mean([one[name] for one in found]) == pytest.approx(0.5, abs=0.05)
    assert np.mean([one["best configuration"] for one in found]) > 0.5


@pytest.mark.slow
def test_two_small_studies_are_printed_with_the_error_of_their_mean(capsys):
    main(["2", "--configurations", "8"])
    printed = capsys.readouterr().out
    assert "2 studies of 8 configurations on noise" in printed
    assert re.search(r"^  answer +0\.\d{3} ± 0\.\d{3}$", printed, re.M)
