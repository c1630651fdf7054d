"""The one exception for what a user can put right."""


class InputError(ValueError):
    """A file, key or argument breaks a rule that its author can mend.

    The message is one line and names the thing, the rule and the remedy; the command line prints it
    without a traceback and exits with code 2.
    """
