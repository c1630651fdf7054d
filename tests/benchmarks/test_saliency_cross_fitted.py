"""Every annotated image by heads that have not seen its patient, at its smallest."""

import re

import pytest

from benchmarks.saliency_cross_fitted import main
from sample.phantoms import draw_cohort


@pytest.mark.slow
def test_map_times_atlas_is_held_against_the_maps_of_other_patients(tmp_path, capsys):
    draw_cohort(tmp_path / "sample", images=300, size=64, seed=3)
    main([str(tmp_path / "sample"), "phantom-clip", "--cache", str(tmp_path / "cache")])
    printed = capsys.readouterr().out
    assert re.search(r"^\d+ regions of a label on \d+ images of \d+ patients", printed)
    for row in ("random", "atlas", "ceiling", "probe layercam, 3 x 3", "zero-shot gradcam"):
        assert re.search(rf"^{row} +0\.\d+ \(", printed, re.M)
    assert re.search(r"^probe layercam x atlas, with .* own: 0\.\d+; own - others: .*Holm", printed, re.M)
