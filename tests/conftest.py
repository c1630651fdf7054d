"""Fixtures that every room's tests share."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real radiographs and reports; skips where it is absent."""
    folder = Path(os.environ.get("RADTUNE_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "nih_cxr64" / "labels.csv").exists():
        pytest.skip(f"no real data at {folder}; set RADTUNE_TEST_DATA to run this test")
    return folder
