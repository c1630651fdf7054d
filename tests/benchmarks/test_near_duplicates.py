"""The benchmark of near-duplicates finds every copy that it makes, and nothing else."""

from benchmarks.near_duplicates import main


def test_every_copy_is_found_and_nothing_else(capsys):
    main(["800"])
    assert "100 of 100 copies found, 0 other pairs" in capsys.readouterr().out
