"""Standard output and standard error, as a command finds them: closed, or of few letters.

A terminal in Latin-1 or ASCII has no minus sign and no name in Chinese, and a file's name may hold bytes that
are no text at all. Neither is worth a command that has done its work.
"""

from __future__ import annotations

import codecs
import logging
import os
import sys
from contextlib import suppress

PLAIN = {"−": "-", "–": "-", "—": "-", "·": "|", "…": "...", "±": "+/-", "→": "->", "↑": "^", "↓": "v"}
"""What our own lines hold beyond ASCII, and how it is written where that cannot be."""


def prepare_streams() -> None:
    """Let everything be printed, whatever this process was given to print to."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:  # or the next file opened, a database say, would be what a library prints to
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    codecs.register_error("radtune", _plainer)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))
        elif hasattr(stream, "reconfigure"):  # a notebook's has no such thing, and takes all letters
            stream.reconfigure(errors="radtune")


def hide_warnings() -> None:
    """Let no library's warning reach the terminal: it speaks to who writes against the library, and names a
    file in site-packages. Nothing of ours is said in this way. `--debug` shows them."""
    logger = logging.getLogger("py.warnings")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    logging.captureWarnings(True)


def complain(line: str) -> None:
    """Print a line on standard error, if anybody reads it."""
    with suppress(OSError):
        print(f"radtune: {line}", file=sys.stderr)


def close_stdout() -> None:
    """So that nothing more is written where it cannot be, at the interpreter's end either."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _plainer(error: UnicodeError) -> tuple[str, int]:
    """Handler of what an encoding lacks: our own signs in ASCII, the byte of a file's name as `\\xff`, any
    other letter as `\\u80ba`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_ascii, error.object[error.start : error.end])), error.end


def _ascii(letter: str) -> str:
    if "\udc80" <= letter <= "\udcff":
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return PLAIN.get(letter) or letter.encode("ascii", "backslashreplace").decode()
