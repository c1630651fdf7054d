"""What of an address must not be printed, logged or kept."""

from __future__ import annotations

import re

_USER = re.compile(r"(://)(?:[^\s/:@]*:\S*|[^\s/?#@]+)@")
"""A password may hold a slash or, wrongly, an @."""
_NAMED = re.compile(r"((?:password|passwd|passfile|token|secret)[^=\s&]*=)[^&\s'\"]+", re.IGNORECASE)


def masked(text: str) -> str:
    """The same text with the credentials of every URI in it replaced by three stars.

    >>> masked("postgresql+psycopg2://ann:s3cret@db:5432/mlflow")
    'postgresql+psycopg2://***@db:5432/mlflow'
    """
    return _NAMED.sub(r"\1***", _USER.sub(r"\1***@", text))


def holds_password(uri: str) -> bool:
    """Whether a URI has a password in it; a user's name alone is none."""
    return bool(re.search(r"://[^/?#@]*:\S*@", uri) or _NAMED.search(uri))
