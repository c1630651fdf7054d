"""How many examples of what is drawn are tried: fewer in `make test` than in `make test-slow`."""

from hypothesis import settings

EXAMPLES = 60 if settings.get_current_profile_name() == "thorough" else 15
