"""The plan that several tests of the sample look at."""

import pytest

from sample.phantoms import Phantom, plan_phantoms


@pytest.fixture(scope="session")
def plan() -> list[Phantom]:
    """As many films as the sample has; nothing is drawn."""
    return plan_phantoms(1200, seed=0)
