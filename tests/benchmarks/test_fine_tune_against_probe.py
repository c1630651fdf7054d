"""Fine-tuning against the probe, at its smallest."""

import pytest

from benchmarks.fine_tune_against_probe import main
from sample.phantoms import draw_cohort


@pytest.mark.slow
def test_two_studies_are_run_analysed_and_compared(tmp_path, capsys):
    draw_cohort(tmp_path / "sample", images=300, size=64, seed=3)
    smallest = ["--encoders", "phantom-clip", "--configurations", "1", "--probes", "8", "--seeds", "1"]
    main([str(tmp_path / "sample"), "--out", str(tmp_path / "out"), *smallest])
    printed = capsys.readouterr().out
    assert "phantom-clip, on test, seeds 0" in printed
    assert "mean over seeds: macro_ap against the probe" in printed
    assert (tmp_path / "out" / "learning_curves.png").stat().st_size > 10_000
