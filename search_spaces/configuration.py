"""One point of a search space, under its trial's number: what a trainable is told to train."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

from search_spaces.parameters import Space


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """One configuration of `space`; ValueError where it lies outside it.

    A trainable's own class adds a field a parameter. One that does not exist under the others' choices stays
    at its field's default.
    """

    space: ClassVar[Space]

    number: int
    """Optuna's trial number; with `seed` it keys the initial weights."""
    seed: int = 0
    """Seed of the initial weights."""

    def __post_init__(self) -> None:
        for name in ("number", "seed"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ValueError(f"{name} must be a whole number from 0, not {value!r}")
        existing = self.params
        for field in fields(self):
            parameter, value = self.space.parameters.get(field.name), getattr(self, field.name)
            if field.name in existing:
                if complaint := parameter.complaint(value):
                    raise ValueError(f"{field.name} {complaint}, not {value!r}")
            elif parameter is not None and value != field.default:
                under = parameter.under
                raise ValueError(
                    f"{field.name} belongs to the {under.name} {' or '.join(under.choices)}; "
                    f"without it must be {field.default!r}, not {value!r}"
                )

    @classmethod
    def from_params(cls, number: int, params: Mapping[str, Any], seed: int = 0) -> Self:
        """The configuration that the space's `suggest` returned for trial `number`.

        Raises:
            ValueError: a name that the space does not have, a missing one, or a value outside its bounds.
        """
        space = cls.space
        if unknown := sorted(set(params) - set(space.parameters)):
            raise ValueError(f"params must be names of the space {space.name}, not {', '.join(unknown)}")
        if missing := [name for name in space.names_under(params) if name not in params]:
            raise ValueError(f"params must be a whole configuration, not one without {', '.join(missing)}")
        return cls(number=number, seed=seed, **params)

    @property
    def params(self) -> dict[str, Any]:
        """The configuration as `from_params` takes it."""
        values = {name: getattr(self, name) for name in self.space.parameters}
        return {name: values[name] for name in self.space.names_under(values)}
