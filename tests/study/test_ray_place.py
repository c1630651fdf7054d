"""Ray starts whatever TMPDIR is called and however long it is, or a line says what to set."""

import os
import subprocess
import sys

import pytest

from cohort.errors import InputError
from study.ray_place import ray_place
from tests.conftest import REPOSITORY

LONG = "/scratch/" + "l" * 37


@pytest.fixture(autouse=True)
def no_folder_named(monkeypatch):
    for name in ("RAY_TMPDIR", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("name", "folder", "place"),
    [
        ("TMPDIR", "/scratch/ann", None),
        ("TMPDIR", LONG, "/tmp/ray"),
        ("RAY_TMPDIR", LONG, "/tmp/ray"),
        ("TMPDIR", "/scratch/ö", "/tmp/ray"),
    ],
)
def test_a_folder_that_will_not_do_is_left_for_one_that_will(monkeypatch, name, folder, place):
    assert ray_place() is None
    monkeypatch.setenv(name, folder)
    assert ray_place() == place


def test_where_nothing_else_can_be_written_to_a_line_says_what_to_set(monkeypatch):
    monkeypatch.setenv("TMPDIR", LONG)
    monkeypatch.setattr("study.ray_place.OTHERS", ("/none",))
    with pytest.raises(InputError, match=rf"TMPDIR {LONG}: .* at most 39 letters in ASCII.*set RAY_TMPDIR"):
        ray_place()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["l" * 46, "ö"])
def test_ray_starts(tmp_path, name):
    (tmp_path / name).mkdir()
    program = "from study.cluster import ray_cluster; from study.config import Resources\n"
    program += "with ray_cluster(Resources(cpus=1, gpus=0), print):\n"
    program += "    import ray; print(ray.get(ray.remote(lambda: 'answered').remote()))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        env=os.environ | {"TMPDIR": str(tmp_path / name)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, "answered\n"), done.stderr
