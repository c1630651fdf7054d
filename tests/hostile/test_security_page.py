"""What docs/security.md states is proved by tests that there are."""

import re

from tests.conftest import REPOSITORY


def test_every_test_that_the_page_names_is_there():
    named = set(re.findall(r"`(test_\w+)`", (REPOSITORY / "docs" / "security.md").read_text()))
    defined = {
        name
        for path in (REPOSITORY / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    assert len(named) > 10 and named <= defined, named - defined
