"""Ctrl-C and SIGTERM during a study: both end it in order, and neither is lost.

What a signal's handler raises is lost where Python calls into a destructor or into C++ at that moment. So the
handler notes it as well, and who runs often asks.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupts:
    """Whether the user or the system wants this process's study to end."""

    def __init__(self) -> None:
        self._wanted = False

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """The first SIGINT or SIGTERM in the block raises KeyboardInterrupt; those that follow are ignored,
        since the study is ending. Nothing changes for a signal that this process was started to ignore, nor
        in another thread than the main one."""
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        self.take()
        try:
            yield
        finally:
            if _in_main_thread():
                for number, handler in before.items():
                    signal.signal(number, handler)

    def take(self) -> None:
        """Take the signals, from Ray too, which does so as it starts."""
        if _in_main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) != signal.SIG_IGN:
                    signal.signal(number, self._handle)

    def check(self) -> None:
        """KeyboardInterrupt where a signal has come, whatever became of the one that its handler raised."""
        if self._wanted:
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self._wanted:
            self._wanted = True
            raise KeyboardInterrupt


@contextmanager
def held_back() -> Iterator[None]:
    """A SIGINT or SIGTERM that comes in the block is heeded at its end, for what could not be ended in the
    middle of its start; a second one raises KeyboardInterrupt at once. Nothing is held in another thread."""
    if not _in_main_thread():
        yield
        return
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if len(came) > 1:
            raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    heeded = [number for number, handler in before.items() if handler != signal.SIG_IGN]
    for number in heeded:
        signal.signal(number, note)
    mask = block_alarm()
    try:
        yield
    finally:
        if came:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, signal.SIG_IGN)  # one that has gone off already is forgotten
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number in heeded:
            signal.signal(number, before[number])
    if came:
        signal.raise_signal(came[0])


def block_alarm() -> set[signal.Signals]:
    """Block SIGALRM in this thread and those that it starts; returns the mask that was.

    Ray handles SIGTERM in C++ while it starts: it sets an alarm that aborts the process 3 s later, and that
    comes to any thread which does not block it.
    """
    return signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
