"""Studies interrupted at random, at the smallest: one signal."""

import re

import pytest

from benchmarks.random_signals import main


@pytest.mark.slow
@pytest.mark.fault
def test_an_interrupted_study_ends_with_its_line(capsys):
    main(["1", "--latest", "8"])
    printed = capsys.readouterr().out
    assert re.search(r"^ +0 SIG(INT|TERM) after +\d+\.\d s: 130 in +\d+\.\d s$", printed, re.M), printed
    assert printed.endswith("1 of 1 ended well\n")
