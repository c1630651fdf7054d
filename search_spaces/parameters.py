"""What a search space is made of: parameters, what each may be, and which of them a configuration has.

A space is an Optuna define-by-run function, so that a parameter is asked for only under the choice it
belongs to. A study may fix any parameter and change any range; `check` refuses what the space does not have
before anything starts. Optuna itself is never imported: a trial brings it along.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from cohort.errors import InputError

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A number between two bounds, both included, drawn on a logarithmic scale where `log`."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True, kw_only=True)
class Under:
    """The choices of another parameter under which a parameter exists."""

    name: str
    choices: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One dimension of a space."""

    search: Interval | tuple
    """What is searched by default: an interval of numbers, or a tuple of names or numbers."""
    multiclass: tuple[str, ...] = ()
    """Of names: those beside `search` where a cohort's labels are multiclass, and only there."""
    ordinal: tuple[str, ...] = ()
    """Of names: those beside these where the labels are grades in their order, and only there."""
    optional: tuple[str, ...] = ()
    """Of names: others that a study may choose by naming them."""
    allowed: Interval | None = None
    """The numbers that make sense at all, for a study to choose from; None for names: those of `search`."""
    integer: bool = False
    open_ended: bool = False
    """Of names: others than those of `search` may make sense too, which only what uses them can tell."""
    under: Under | None = None
    """None: every configuration has it."""
    meaning: str

    def choices_of(self, multiclass: bool, ordinal: bool) -> Interval | tuple:
        """What is searched by default on such labels."""
        if isinstance(self.search, Interval):
            return self.search
        return self.search + self.multiclass * multiclass + self.ordinal * ordinal

    def complaint(self, value: Any) -> str:
        """The rule that `value` breaks ("must be ..."), or an empty string."""
        if self.open_ended:
            return "" if isinstance(value, str) and value else "must be a name"
        if self.allowed is None:
            names = self.search + self.optional + self.multiclass + self.ordinal
            return "" if value in names else f"must be one of {', '.join(names)}"
        kind = "a whole number" if self.integer else "a number"
        rule = f"must be {kind} from {self.allowed.low:g} to {self.allowed.high:g}"
        if isinstance(value, bool) or not isinstance(value, int if self.integer else int | float):
            return rule
        return "" if self.allowed.low <= value <= self.allowed.high else rule  # NaN is in no interval


@dataclass(frozen=True)
class Space:
    """A trainable's parameters, in the order in which they are asked for: a choice before what it governs."""

    name: str
    parameters: Mapping[str, Parameter]
    multiclass: bool = False
    """Whether the labels are multiclass, which opens further choices."""
    ordinal: bool = False
    """Whether they are grades in their order as well, which opens more of them."""

    def for_labels(
        self,
        multiclass: bool,
        fixed: Mapping[str, Any] | None = None,
        ranges: Mapping[str, Any] | None = None,
        *,
        ordinal: bool = False,
    ) -> Space:
        """The space of a study on labels that are independent, multiclass, or grades in their order.

        Raises:
            InputError: the study tries a choice that such labels do not have.
        """
        space = replace(self, multiclass=multiclass, ordinal=ordinal)
        for name, parameter in self.parameters.items():
            for choice in space.choices(name, fixed or {}, ranges or {}):
                if choice in parameter.multiclass and not multiclass:
                    rule = "for multiclass labels, of which an image has exactly one"
                elif choice in parameter.ordinal and not ordinal:
                    rule = "for grades in their order (`radtune cohort table --ordinal`)"
                else:
                    continue
                where = "fixed" if name in (fixed or {}) else "ranges"
                kind = "multiclass without an order" if multiclass else "independent"
                raise InputError(
                    f"search.{where}.{name}: {choice} is {rule}, and those of this cohort are {kind}; choose "
                    f"among {', '.join(parameter.choices_of(multiclass, ordinal))}"
                )
        return space

    def names_under(self, params: Mapping[str, Any]) -> list[str]:
        """The parameters that a configuration with these choices has; a choice that it does not have itself
        governs none."""
        existing: list[str] = []
        for name, parameter in self.parameters.items():
            under = parameter.under
            if under is None or (under.name in existing and params.get(under.name) in under.choices):
                existing.append(name)
        return existing

    def suggest(
        self,
        trial: optuna.Trial,
        fixed: Mapping[str, Any] | None = None,
        ranges: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Asks `trial` for one configuration.

        Args:
            trial: an `optuna.Trial`, or anything with its `suggest_float`, `suggest_int`,
                `suggest_categorical`.
            fixed: values that are not searched; they are in the result, though not in `trial.params`.
            ranges: {name: {low, high, log}}, each optional and taken from the space where absent, or
                {name: [choice, ...]}.

        Returns:
            name -> value for every parameter that this configuration has.

        Raises:
            InputError: as `check`.
        """
        fixed, ranges = fixed or {}, ranges or {}
        self.check(fixed, ranges)
        params: dict[str, Any] = {}
        for name, parameter in self.parameters.items():
            if (under := parameter.under) and params.get(under.name) not in under.choices:
                continue
            if name in fixed:
                params[name] = fixed[name]
                continue
            searched = self.searched(name, ranges)
            if isinstance(searched, tuple):
                params[name] = trial.suggest_categorical(name, searched)
            elif parameter.integer:
                low, high = int(searched.low), int(searched.high)
                params[name] = trial.suggest_int(name, low, high, log=searched.log)
            else:
                params[name] = trial.suggest_float(name, searched.low, searched.high, log=searched.log)
        return params

    def check(self, fixed: Mapping[str, Any] | None = None, ranges: Mapping[str, Any] | None = None) -> None:
        """Refuses what the space does not have.

        Raises:
            InputError: an unknown name, a value outside what a parameter may be, a range that is empty or
                malformed, a parameter both fixed and given a range, or one under a choice never tried.
        """
        fixed, ranges = fixed or {}, ranges or {}
        for where, given in (("fixed", fixed), ("ranges", ranges)):
            for name in given:
                self._known(f"search.{where}.{name}", name, self.parameters)
        for name, value in fixed.items():
            if name in ranges:
                raise InputError(
                    f"search.ranges.{name}: it is also in search.fixed; leave it in one of the two"
                )
            if complaint := self.parameters[name].complaint(value):
                raise InputError(f"search.fixed.{name}: {complaint}, not {value!r}")
        for name, given in ranges.items():
            self._check_range(name, given)
        for where, given in (("fixed", fixed), ("ranges", ranges)):
            for name in given:
                if under := self._never_met(name, fixed, ranges):
                    wanted = " or ".join(under.choices)
                    raise InputError(
                        f"search.{where}.{name}: it belongs to the {under.name} {wanted}, which this study "
                        f"does not try; remove it, or let the {under.name} be {wanted}"
                    )

    def starts_inside(
        self,
        starts: Iterable[Mapping[str, Any]],
        fixed: Mapping[str, Any] | None = None,
        ranges: Mapping[str, Any] | None = None,
    ) -> list[dict[str, Any]]:
        """The whole configurations among `starts` that lie inside a study's space, to be enqueued first.

        What the study fixes is left out of each, as is what does not exist beside a fixed choice. Where that
        makes two of them equal, one is enough.

        Raises:
            InputError: as `check`.
        """
        fixed, ranges = fixed or {}, ranges or {}
        self.check(fixed, ranges)
        inside: list[dict[str, Any]] = []
        for start in starts:
            exists = self.names_under(dict(start) | dict(fixed))
            free = {name: value for name, value in start.items() if name in exists and name not in fixed}
            whole = all(name in free or name in fixed for name in exists)
            held = all(_holds(self.searched(name, ranges), value) for name, value in free.items())
            if free and whole and held and free not in inside:
                inside.append(free)
        return inside

    def _never_met(self, name: str, fixed: Mapping[str, Any], ranges: Mapping[str, Any]) -> Under | None:
        """The condition, the parameter's own or one above it, that no configuration of the study meets."""
        under = self.parameters[name].under
        if under is None:
            return None
        if not set(under.choices) & set(self.choices(under.name, fixed, ranges)):
            return under
        return self._never_met(under.name, fixed, ranges)

    def choices(self, name: str, fixed: Mapping[str, Any], ranges: Mapping[str, Any]) -> tuple:
        """The values that a study tries of a parameter: of an interval, its two ends."""
        if name in fixed:
            return (fixed[name],)
        searched = self.searched(name, ranges)
        return searched if isinstance(searched, tuple) else (searched.low, searched.high)

    def searched(self, name: str, ranges: Mapping[str, Any]) -> Interval | tuple:
        """The interval or the choices of a parameter after the study's changes."""
        parameter, given = self.parameters[name], ranges.get(name)
        if given is None:
            return parameter.choices_of(self.multiclass, self.ordinal)
        if isinstance(given, Mapping):
            default = parameter.search if isinstance(parameter.search, Interval) else parameter.allowed
            return Interval(
                low=given.get("low", default.low),
                high=given.get("high", default.high),
                log=given.get("log", default.log),
            )
        return tuple(given)

    def _check_range(self, name: str, given: Any) -> None:
        where, parameter = f"search.ranges.{name}", self.parameters[name]
        if isinstance(given, list | tuple):
            if not given:
                raise InputError(f"{where}: a list of choices must not be empty")
            for value in given:
                if complaint := parameter.complaint(value):
                    raise InputError(f"{where}: each choice {complaint}, not {value!r}")
            if len(set(given)) < len(given):
                raise InputError(f"{where}: a choice stands twice in {list(given)!r}")
            return
        if parameter.allowed is None:
            raise InputError(f"{where}: must be a list out of {', '.join(parameter.search)}, not {given!r}")
        if not isinstance(given, Mapping) or not given:
            raise InputError(f"{where}: must be {{low, high, log}} or a list of choices, not {given!r}")
        for key, value in given.items():
            self._known(f"{where}.{key}", key, ("low", "high", "log"))
            if key == "log":
                if not isinstance(value, bool):
                    raise InputError(f"{where}.log: must be true or false, not {value!r}")
            elif complaint := parameter.complaint(value):
                raise InputError(f"{where}.{key}: {complaint}, not {value!r}")
        interval = self.searched(name, {name: given})
        if interval.low > interval.high:
            raise InputError(f"{where}: low must be at most high, not {interval.low:g} > {interval.high:g}")
        if interval.log and interval.low <= 0:
            raise InputError(
                f"{where}: on a log scale low must be positive, not {interval.low:g}; or set log: false"
            )

    def _known(self, where: str, name: str, names: Iterable[str]) -> None:
        if name in names:
            return
        close = get_close_matches(str(name), names, n=1)
        remedy = f"did you mean {close[0]}?" if close else f"known are {', '.join(names)}"
        raise InputError(f"{where}: there is nothing of this name in the space {self.name}; {remedy}")


def _holds(searched: Interval | tuple, value: Any) -> bool:
    if isinstance(searched, tuple):
        return value in searched
    return searched.low <= value <= searched.high
