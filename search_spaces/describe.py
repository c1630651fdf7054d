"""A space in words, as `radtune space` prints it: its parameters, its presets, how a study changes it."""

from __future__ import annotations

import importlib
import textwrap
from collections.abc import Mapping

from search_spaces.parameters import Interval, Parameter

_WIDTH = 100


def describe(name: str) -> str:
    """The space of this module of `search_spaces`, one of `SPACES`."""
    module = importlib.import_module(f"search_spaces.{name}")
    parameters = module.SPACE.parameters
    head = ("name", "searched", "scale", "only under")
    rows = [head, *((parameter_name, *_cells(one)) for parameter_name, one in parameters.items())]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    meanings = ["", *(parameter.meaning for parameter in parameters.values())]

    lines = []
    for row, meaning in zip(rows, meanings, strict=True):
        lines.append("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        lines += textwrap.wrap(meaning, _WIDTH, initial_indent="    ", subsequent_indent="    ")
    for preset, params in module.PRESETS.items():
        lines += ["", f"preset {preset}:"]
        lines += [f"  {parameter_name}: {_plain(value)}" for parameter_name, value in params.items()]
    lines += ["", "in a study file:", f"  trainable: {name}", "  search:", *_example(parameters)]
    return "\n".join([module.__doc__.splitlines()[0], "", *lines, ""])


def _example(parameters: Mapping[str, Parameter]) -> list[str]:
    """How a study file holds a choice, bounds an interval and lists values, by parameters of this space."""
    free = {name: one.search for name, one in parameters.items() if one.under is None}
    choices = [name for name, search in free.items() if not isinstance(search, Interval)]
    intervals = [name for name, search in free.items() if isinstance(search, Interval)]
    lines = []
    if choices:
        held = f"      {choices[0]}: {_plain(free[choices[0]][0])}"
        lines += ["    fixed:", f"{held:<40}# always this value, not searched"]
    if intervals:
        bounded = f"      {intervals[0]}: {{high: {free[intervals[0]].high:g}}}"
        lines += ["    ranges:", f"{bounded:<40}# low, high, log; what is left out stays as above"]
    for name in intervals[1:2]:
        listed = f"      {name}: [{free[name].low:g}, {free[name].high:g}]"
        lines.append(f"{listed:<40}# or a list of choices")
    return lines


def _cells(parameter: Parameter) -> tuple[str, str, str]:
    """What is searched, on which scale, under which choice."""
    under = f"{parameter.under.name} = {' or '.join(parameter.under.choices)}" if parameter.under else ""
    if not isinstance(parameter.search, Interval):
        return ", ".join(map(_plain, parameter.search)), "choice", under
    whole = ", whole" if parameter.integer else ""
    low, high, log = parameter.search.low, parameter.search.high, parameter.search.log
    return f"{low:g} to {high:g}{whole}", "log" if log else "linear", under


def _plain(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:g}"
