"""Which radtune this is, for pyproject.toml too."""

VERSION = "0.1.0"
