"""Signals during a study: none is lost, and what cannot be ended in the middle of its start is not."""

import signal
import subprocess
import sys
import threading

import pytest

from study.interrupts import Interrupts, held_back
from tests.conftest import REPOSITORY

BOTH = [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize("number", BOTH)
def test_a_signal_raises_once_and_is_remembered(number):
    interrupts = Interrupts()
    with interrupts.heeded():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        signal.raise_signal(number)  # the study is ending already
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()


@pytest.mark.parametrize("number", BOTH)
def test_a_signal_that_is_held_back_comes_at_the_end(number):
    interrupts, done = Interrupts(), []
    with interrupts.heeded():
        with pytest.raises(KeyboardInterrupt), held_back():
            signal.raise_signal(number)
            done.append("all of it")
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()
    assert done == ["all of it"]


def test_a_second_signal_is_not_held_back():
    done = []
    with pytest.raises(KeyboardInterrupt), Interrupts().heeded(), held_back():
        signal.raise_signal(signal.SIGINT)
        done.append("a part")
        signal.raise_signal(signal.SIGINT)
        done.append("the rest")
    assert done == ["a part"]


def test_handlers_are_as_before_and_what_is_ignored_stays_ignored():
    before = [signal.getsignal(number) for number in BOTH]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with held_back():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before[0])
    assert [signal.getsignal(number) for number in BOTH] == before
    faults = []

    def elsewhere():
        try:
            with held_back():
                pass
        except Exception as error:
            faults.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert not faults


def test_a_signal_while_ray_starts_ends_with_ray_shut_down_and_no_abort():
    """Ray's C++ handler sets an alarm that aborts the process 3 s later."""
    program = """
import ctypes, os, signal, threading, time
from study.cluster import ray_cluster
from study.config import Resources
from study.interrupts import Interrupts
import ray
connect = ray._private.worker.connect
def interrupted(*arguments, **more):
    connect(*arguments, **more)
    os.kill(os.getpid(), signal.SIGTERM)
    # As where this thread is in C++ for longer than that: no handler of Python's comes to its turn.
    held = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert signal.SIGALRM in held
    ctypes.PyDLL(None).sleep(5)
ray._private.worker.connect = interrupted
try:
    with Interrupts().heeded(), ray_cluster(Resources(cpus=1, gpus=0), print):
        print("went on")
except KeyboardInterrupt:
    print("interrupted", ray.is_initialized())
"""
    said = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, timeout=120
    )
    assert (said.returncode, said.stdout) == (0, "interrupted False\n"), said
