"""What pages of docs/ state is proved by tests that there are."""

import re

import pytest

from tests.conftest import REPOSITORY


@pytest.mark.parametrize("page", ["security.md", "reliability.md"])
def test_every_test_that_the_page_names_is_there(page):
    text = (REPOSITORY / "docs" / page).read_text()
    named = set(re.findall(r"`(test_\w+)`", text))
    defined = {
        name
        for path in (REPOSITORY / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    assert len(named) > 10 and named <= defined, named - defined
    files = {path for path in re.findall(r"`(tests/[\w/]+\.py)`", text)}
    assert all((REPOSITORY / path).exists() for path in files), files
