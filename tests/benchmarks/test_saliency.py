"""The speed of maps, at its smallest."""

import re

from benchmarks.saliency import main
from vlm.saliency import METHODS


def test_every_method_gives_its_speed_or_why_it_has_none(capsys):
    main(["phantom-clip", "--images", "2", "--runs", "1"])
    printed = capsys.readouterr().out
    assert re.search(r"^forward and backward +\d+\.\d images/s$", printed, re.M)
    speeds = re.findall(r"^(\w+) +\d+\.\d images/s, \d+%$", printed, re.M)
    assert set(speeds) <= set(METHODS) and len(speeds) >= 3
    assert all(re.search(rf"^{method} ", printed, re.M) for method in METHODS)
