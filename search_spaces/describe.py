"""A space in words, as `radtune space` prints it: its parameters, its presets, how a study changes it."""

from __future__ import annotations

import importlib
import textwrap

from search_spaces.parameters import Interval, Parameter

_WIDTH = 100

# Names that every space has, so that the example fits each.
_EXAMPLE = """\
in a study file:
  trainable: {name}
  search:
    fixed:
      loss: bce                    # always this value, not searched
    ranges:
      weight_decay: {{high: 0.1}}    # low, high, log; what is left out stays as above
      epochs: [10, 20]             # or a list of choices
"""


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
    return "\n".join([module.__doc__.splitlines()[0], "", *lines, "", _EXAMPLE.format(name=name)])


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
