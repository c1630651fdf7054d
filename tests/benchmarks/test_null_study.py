"""A whole search on noise, with its racing and its ensemble."""

import numpy as np
import pytest

from benchmarks.null_study import scores


@pytest.mark.slow
def test_a_study_of_noise_reports_chance():
    """Eight studies of 256 configurations: the mean is known to ± 0.015."""
    found = [scores(seed) for seed in range(8)]
    for name in found[0]:
        chance = "anew" in name or "mean" in name
        if chance:
            assert np.mean([one[name] for one in found]) == pytest.approx(0.5, abs=0.05)
    assert np.mean([one["best configuration"] for one in found]) > 0.5
