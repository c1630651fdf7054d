"""What a reader is to the command line, and the options that all readers share.

A reader is a module of this package, named in `READERS` there, with

- `HELP`: what it reads, in a line, for the list of commands; `EXAMPLE`: a command that works;
- `arguments(parser)`: adds the options that are its own;
- `read(arguments) -> Cohort`: reads, given those and the shared options; `shared(arguments)` gives the
  latter as the keyword arguments of the same names that every reading function takes.

The command line imports every reader to list it, so a reader imports NumPy, pandas and whatever imports them
(`cohort.manifest`, `assemble`, `source_table`, `cohort.splits`) inside the functions that read.
"""

from __future__ import annotations

import argparse
from typing import Any

from cohort.errors import InputError
from cohort.labels import BLANK_RULES, NO_FINDING_RULES
from cohort.readers.label_wording import read_wording
from cohort.readers.name_lists import cells, comma_separated


def add_shared_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that mean the same whatever is read."""
    parser.add_argument("--seed", type=int, default=0, help="of the stratified split (default: %(default)s)")
    parser.add_argument(
        "--fractions",
        type=comma_separated,
        metavar="TRAIN,VAL,TEST",
        help="shares of the stratified split (default: 0.7,0.15,0.15)",
    )
    parser.add_argument(
        "--uncertain",
        default="ignore",
        metavar="RULE",
        help="ignore, zeros, ones, or LABEL=RULE,... for what is marked -1 (default: ignore)",
    )
    parser.add_argument(
        "--blank",
        choices=BLANK_RULES,
        help="what an empty cell means (default: missing; negative in a CheXpert/CheXbert table)",
    )
    parser.add_argument("--no-finding", choices=NO_FINDING_RULES, help="how the label No Finding comes about")
    parser.add_argument(
        "--label-names",
        metavar="LABEL=NAME,...|YAML",
        help="how labels are said to people and to a text tower; a YAML file may hold prompts as well",
    )
    parser.add_argument(
        "--intensity",
        metavar="RULE",
        help="what is black and white in 16-bit gray: full (0 to the full scale of the bit depth), "
        "window:LOW,HIGH, or percentiles:LOW,HIGH of the training images (default: full)",
    )
    parser.add_argument("--licence", metavar="TEXT", help="terms under which the images may be used, a line")
    parser.add_argument("--skip-unreadable", action="store_true", help="leave unreadable images out")
    parser.add_argument(
        "--allow-duplicates",
        action="store_true",
        help="only warn of images in several splits that are the same or nearly so; a split that is drawn "
        "need not keep them together then",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="the cohort's folder")


def shared(arguments: argparse.Namespace) -> dict[str, Any]:
    """Keyword arguments from the shared options; what is not given is left to the reader's own default."""
    given = {name: getattr(arguments, name) for name in ("blank", "no_finding", "intensity", "licence")}
    if arguments.fractions is not None:
        given["fractions"] = _numbers("--fractions", arguments.fractions)
    if arguments.label_names is not None:
        given["label_names"], given["label_prompts"] = read_wording(arguments.label_names)
    return {
        "out": arguments.out,
        "seed": arguments.seed,
        "uncertain": _uncertain_rules(arguments.uncertain),
        "skip_unreadable": arguments.skip_unreadable,
        "allow_duplicates": arguments.allow_duplicates,
    } | {name: value for name, value in given.items() if value is not None}


def _numbers(option: str, cells: list[str]) -> list[float]:
    try:
        return [float(cell) for cell in cells]
    except ValueError as error:
        raise InputError(f"{option} {','.join(cells)}: expected numbers with commas between them") from error


def _uncertain_rules(text: str) -> str | dict[str, str]:
    if "=" not in text:
        return text
    parts = [cell for cell in cells(text) if cell]
    if loose := [part for part in parts if "=" not in part]:
        raise InputError(f"--uncertain {loose[0]}: expected LABEL=ignore, LABEL=zeros or LABEL=ones")
    return dict(part.split("=", 1) for part in parts)
