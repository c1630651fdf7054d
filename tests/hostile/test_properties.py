"""Fuzzing in confinement: no traceback, no hang, bounded memory, no file elsewhere, no connection."""

import pytest

from tests.hostile.confinement import confined
from tests.hostile.examples import EXAMPLES
from tests.hostile.properties import PROPERTIES

MEMORY = 2 << 30
"""With what Hypothesis and a search's ranges bring along."""


@pytest.mark.parametrize("name", sorted(PROPERTIES))
def test_it_is_read_or_refused_in_one_line(tmp_path, name):
    outcome = confined(check, name, tmp_path, EXAMPLES, writes=tmp_path, memory=MEMORY, seconds=240)
    assert outcome.code == 0, outcome.output[-6000:]


def check(name, folder, count):
    PROPERTIES[name](folder, count)
