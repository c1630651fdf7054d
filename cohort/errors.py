"""The one exception for what a user can put right, and words fit for its message."""

from pathlib import Path


class InputError(ValueError):
    """A file, key or argument breaks a rule that its author can mend.

    The message is one line and names the thing, the rule and the remedy; the command line prints it
    without a traceback and exits with code 2.
    """


LONGEST_QUOTE = 200


def printable(text: Path | str) -> str:
    r"""A path, or a line with one, as text that can be printed and stored: a byte of a name that is not UTF-8
    as `\xff`."""
    return str(text).encode(errors="surrogateescape").decode(errors="backslashreplace")


def shortened(text: str) -> str:
    """A text that somebody else wrote in one line, and of a long one the beginning."""
    line = " ".join(text[: 2 * LONGEST_QUOTE].split())
    return line if len(line) <= LONGEST_QUOTE else f"{line[:LONGEST_QUOTE]}..."
