"""One point of a search space, under its trial's number: what a trainable trains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from search_spaces.parameters import Space


@dataclass(frozen=True)
class Configuration:
    """One whole configuration of a space; what a parameter means is documented in the space.

    Raises:
        ValueError: a name that the space does not have, a missing one, a value outside its bounds, or a
            parameter that does not exist under the others' choices.
    """

    space: Space = field(repr=False)
    number: int
    """Optuna's trial number; with `seed` it keys what is drawn for this trial alone."""
    params: Mapping[str, Any]
    """Every parameter that exists under the others' choices, in the space's order."""
    seed: int = 0
    """Seed of the initial weights, and of what else a trial draws."""
    preset: str = ""
    """Name of a published configuration (`paper`), trained and thresholded as published; empty: searched."""

    def __post_init__(self) -> None:
        space, params = self.space, self.params
        if unknown := sorted(set(params) - set(space.parameters)):
            raise ValueError(f"params must be names of the space {space.name}, not {', '.join(unknown)}")
        existing = space.names_under(params)
        if missing := [name for name in existing if name not in params]:
            raise ValueError(f"params must be a whole configuration, not one without {', '.join(missing)}")
        for name in ("number", "seed"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ValueError(f"{name} must be a whole number from 0, not {value!r}")
        for name, parameter in space.parameters.items():
            if name in existing:
                if complaint := parameter.complaint(params[name]):
                    raise ValueError(f"{name} {complaint}, not {params[name]!r}")
            elif name in params:
                under = parameter.under
                raise ValueError(
                    f"{name} belongs to the {under.name} {' or '.join(under.choices)}, not to "
                    f"{params.get(under.name)}; leave it out"
                )
        object.__setattr__(self, "params", {name: params[name] for name in existing})

    def __getitem__(self, name: str) -> Any:
        """A parameter's value; KeyError where it does not exist here."""
        return self.params[name]

    def get(self, name: str, default: Any) -> Any:
        """A parameter's value, or `default` where it does not exist under the others' choices.

        Raises:
            KeyError: the space has no such parameter at all.
        """
        if name not in self.space.parameters:
            raise KeyError(name)
        return self.params.get(name, default)
