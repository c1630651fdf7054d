"""What an epoch of a head costs, at its smallest."""

import re

import pytest

from benchmarks.bank import main


@pytest.mark.slow
def test_every_kind_of_bank_gives_a_line(capsys):
    main(["--heads", "1", "--threads", "1", "--repeats", "1"])
    printed = capsys.readouterr().out
    for mix in ("bce", "searched"):
        assert re.search(rf"^ +1 +1  {mix} +\d+\.\d\d +\d+%$", printed, re.M)
