"""What an answer is worth, at its smallest."""

import json

import pytest

from benchmarks.selection import main
from sample.phantoms import draw_cohort


@pytest.mark.slow
def test_every_rule_is_scored_on_the_same_test_patients(tmp_path, capsys):
    draw_cohort(tmp_path / "sample", images=300, size=64, seed=3)
    files = {name: str(tmp_path / name) for name in ("cache", "lines", "out")}
    smallest = ["--splits", "1", "--configurations", "8", "--processes", "1"]
    more = [word for name, path in files.items() for word in (f"--{name}", path)]
    main([str(tmp_path / "sample"), *smallest, *more])
    (line,) = [json.loads(line) for line in (tmp_path / "lines").read_text().splitlines()]
    rules = {"split-best", "split-logreg", "pixels", "best", "text-informed", "study"}
    assert rules <= line["scores"].keys() and all(0 < score <= 1 for score in line["scores"].values())
    assert "| study |" in capsys.readouterr().out
    assert json.loads((tmp_path / "out").read_text())["configurations"] == 8
