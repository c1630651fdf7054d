"""The one exception for what a user can put right, and words fit for its message."""


class InputError(ValueError):
    """A file, key or argument breaks a rule that its author can mend.

    The message is one line and names the thing, the rule and the remedy; the command line prints it
    without a traceback and exits with code 2.
    """


LONGEST_QUOTE = 200


def shortened(text: str) -> str:
    """The beginning of a text that somebody else wrote, where it is longer than a message can be."""
    return text if len(text) <= LONGEST_QUOTE else f"{text[:LONGEST_QUOTE]}..."
