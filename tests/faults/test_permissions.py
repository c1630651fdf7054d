"""Folders that this user may only read."""

import os
import subprocess

import pytest

from study.cli import main
from tests.faults.conftest import check_equal, only_line, study_file


@pytest.fixture
def read_only():
    """Makes a folder one that can only be read."""
    made = []

    def make(folder):
        made.append(folder)
        if os.geteuid():
            os.chmod(folder, 0o555)
            return
        # Permissions do not hold root back.
        for options in (["--bind", str(folder), str(folder)], ["-o", "remount,ro,bind", str(folder)]):
            if subprocess.run(["mount", *options], capture_output=True).returncode:
                pytest.skip("this machine lets nobody mount a folder read-only")

    yield make
    for folder in made:
        if os.geteuid():
            os.chmod(folder, 0o755)
        else:
            subprocess.run(["umount", str(folder)], capture_output=True)


def test_a_study_in_a_read_only_folder_is_shown_and_not_written_to(copied, studied, read_only, capsys):
    run = str(copied.folder.path)
    read_only(copied.folder.path)
    assert main(["show", run]) == 0 and "24/24 configurations" in capsys.readouterr().out
    check_equal(copied, studied[0])
    for command in (
        ["run", str(study_file(copied)), "--resume"],
        ["analyze", run],
        ["sync", run],
        ["export", run, "--out", str(study_file(copied).parent / "bundle")],
    ):
        assert main(command) == 2, command
        error = only_line(capsys.readouterr().err)
        assert run in error and "choose a place that you may write to, or change its permissions" in error
    assert not (study_file(copied).parent / "bundle").exists()


@pytest.mark.parametrize("place", ["cache", "runs"])
def test_a_study_whose_cache_or_storage_cannot_be_written_to_is_refused_before_it_trains(
    copied, read_only, capsys, place
):
    folder = study_file(copied).parent / place
    for path in folder.iterdir():
        subprocess.run(["rm", "-r", str(path)], check=True)
    read_only(folder)
    assert main(["run", str(study_file(copied))] + (["--resume"] if place == "cache" else [])) == 2
    error = only_line(capsys.readouterr().err)
    assert str(folder) in error and "choose a place that you may write to" in error
