"""The benchmark of a whole study, at its smallest."""

import re

import pytest

from benchmarks.probe_study import main


@pytest.mark.slow
def test_the_study_and_all_plain_ways_are_timed(capsys):
    main(["--configurations", "8", "--plain", "3"])
    printed = capsys.readouterr().out
    assert re.search(
        r"^radtune: 8 configurations in [\d.]+ s .* macro-AP of its answer 0\.[1-9]", printed, re.M
    )
    for way in ("scikit-learn LogisticRegression", "Optuna alone", "function trainable"):
        assert re.search(rf"^{re.escape(way)}.*: \d+\.\d\d s", printed, re.M)
