"""The benchmark of reading tables runs, on a small one."""

from benchmarks.read_table import measure


def test_every_step_is_timed(tmp_path):
    steps = measure(tmp_path, 600)
    assert steps["all"] > 0 and len(steps) == 6
