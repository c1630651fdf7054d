"""Ray's object store is full, and what the study put there goes to the disk and comes back."""

import re

import numpy as np
import pytest
import ray
from ray._private.internal_api import memory_summary

from study import Study
from tests.faults.conftest import check_equal, check_every_number_once
from tests.study.conftest import settings, square_cohort

pytestmark = pytest.mark.fault
SMALLEST = 80 * 1024**2
"""Bytes of an object store."""


@pytest.fixture
def small_store():
    assert not ray.is_initialized()
    ray.init(
        "local", num_cpus=2, object_store_memory=SMALLEST, include_dashboard=False, logging_level="ERROR"
    )
    yield
    ray.shutdown()


def test_an_object_store_that_spills_to_the_disk_changes_nothing(small_store, tmp_path, studied):
    square_cohort(tmp_path / "cohort")
    kept = []

    def echo(line):
        if re.match(r" *(1|10)/24 configurations", line):  # before and while workers read from it
            kept.extend(ray.put(np.full(20 * 1024**2, len(kept), np.uint8)) for _ in range(8))

    study = Study.from_dict(settings(tmp_path)).run(echo=echo)
    here = ray.get_runtime_context().gcs_address
    assert re.search(r"Spilled \d+ MiB", memory_summary(here, stats_only=True))
    assert [int(ray.get(one)[0]) for one in kept] == list(range(16))
    check_every_number_once(study)
    check_equal(study, studied[0])
