"""The confinement itself: an attack that succeeds is seen."""

import socket
import subprocess
import time

import pytest

from tests.hostile.confinement import confined, refusal


def spend(megabytes):
    return len(bytearray(megabytes << 20)) >> 40


def write(path):
    with open(path, "w") as file:
        file.write("x")


def connect():
    socket.create_connection(("127.0.0.1", 9))


def run_a_program():
    subprocess.run(["true"], check=True)


def test_memory_is_bounded(tmp_path):
    assert confined(spend, 10, writes=tmp_path, memory=300 << 20).code == 0
    outcome = confined(spend, 400, writes=tmp_path, memory=300 << 20)
    assert outcome.code == 70 and "MemoryError" in outcome.output


def test_a_process_that_hangs_is_ended(tmp_path):
    outcome = confined(time.sleep, 60, writes=tmp_path, seconds=1)
    assert outcome.code is None and outcome.seconds < 30


def test_what_is_written_elsewhere_is_seen(tmp_path):
    (tmp_path / "out").mkdir()
    assert confined(write, str(tmp_path / "out" / "a"), writes=tmp_path / "out").code == 0
    outcome = confined(write, str(tmp_path / "a"), writes=tmp_path / "out")
    assert outcome.code == 71 and "forbidden: open" in outcome.output
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("work", [connect, run_a_program])
def test_connections_and_programs_are_seen(tmp_path, work):
    outcome = confined(work, writes=tmp_path)
    assert outcome.code == 71 and "forbidden: s" in outcome.output
    with pytest.raises(AssertionError):
        refusal(outcome)
