"""The speed of a fine-tuning trial, at its smallest."""

import re

import pytest

from benchmarks.fine_tune import main


@pytest.mark.slow
def test_every_loop_gives_a_line(capsys):
    main(["--device", "cpu", "--images", "12", "--epochs", "1", "--batch-size", "6", "--png-side", "224"])
    printed = capsys.readouterr().out
    assert "vit_tiny_patch16_224" in printed
    for loop in ("bare", "trial", "trial, distorted", "PNG"):
        assert re.search(rf"^{loop} +\d+\.\d +\d+\.\d%", printed, re.M)
