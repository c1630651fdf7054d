"""What a reader is to the command line, and the options that all readers take.

A reader is a module of this package, named in `READERS` there, with

- `HELP`: what it reads, in a line, for the list of commands; `EXAMPLE`: a command that works;
- `arguments(parser)`: adds its arguments;
- `read(arguments) -> Cohort`: reads, given those and `--out`;
- `OUT`: what `--out` is, a placeholder and words, where it is no cohort's folder.

What a reader may be told beside the files is a subclass of `SharedOptions`: a field made by `option` is an
option of the command line as well, which `add_options` adds and `options_of` reads back. A field there is one
for every reader.

The command line imports every reader to list it, so a reader imports NumPy, pandas and whatever imports them
(`cohort.manifest`, `assemble`, `source_table`, `cohort.splits`) inside the functions that read.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from cohort.labels import BLANK_RULES, NO_FINDING_RULES
from cohort.readers.label_wording import read_wording
from cohort.readers.name_lists import comma_separated


def option(default: Any, **argument: Any) -> Any:
    """A dataclass's field that is an option as well: `label_column` is `--label-column`, with the keyword
    arguments of `argparse.ArgumentParser.add_argument`."""
    return field(default=default, metadata={"argument": argument})


def numbers(text: str) -> list[float]:
    """The numbers in `0.7,0.15,0.15`; the type of an option."""
    try:
        return [float(cell) for cell in comma_separated(text)]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text}: expected numbers with commas between them") from error


def uncertain_rules(text: str) -> str | dict[str, str]:
    """`ignore`, or the rules in `A=ones,B=zeros`; the type of an option."""
    if "=" not in text:
        return text
    parts = comma_separated(text)
    if loose := [part for part in parts if "=" not in part]:
        raise argparse.ArgumentTypeError(f"{loose[0]}: expected LABEL=ignore, LABEL=zeros or LABEL=ones")
    return dict(part.split("=", 1) for part in parts)


@dataclass(frozen=True, kw_only=True)
class SharedOptions:
    """What means the same whatever is read. None leaves a choice to the reader.

    `label_names` and `label_prompts` are those of `Cohort`, `intensity` is one of `cohort.intensity.RULES`,
    and the rules for labels are those of `LabelPolicy`.
    """

    seed: int = option(0, type=int, help="of the stratified split (default: %(default)s)")
    fractions: Sequence[float] | None = option(
        None,
        type=numbers,
        metavar="TRAIN,VAL,TEST",
        help="shares of the stratified split (default: 0.7,0.15,0.15)",
    )
    uncertain: str | Mapping[str, str] = option(
        "ignore",
        type=uncertain_rules,
        metavar="RULE",
        help="ignore, zeros, ones, or LABEL=RULE,... for what is marked -1 (default: ignore)",
    )
    blank: str | None = option(
        None,
        choices=BLANK_RULES,
        help="what an empty cell means (default: missing; negative in a CheXpert/CheXbert table)",
    )
    no_finding: str | None = option(
        None, choices=NO_FINDING_RULES, help="how the label No Finding comes about"
    )
    label_names: Mapping[str, str] | None = option(
        None,
        metavar="LABEL=NAME,...|YAML",
        help="how labels are said to people and to a text tower; a YAML file may hold prompts as well",
    )
    label_prompts: Mapping[str, Sequence[str]] | None = None
    intensity: str = option(
        "full",
        metavar="RULE",
        help="what is black and white in 16-bit gray: full (0 to the full scale of the bit depth), "
        "window:LOW,HIGH, or percentiles:LOW,HIGH of the training images; for DICOM voi:NAME or "
        "voi:CENTER,WIDTH instead of each file's first window (default: full)",
    )
    licence: str | None = option(
        None, metavar="TEXT", help="terms under which the images may be used, a line"
    )
    skip_unreadable: bool = option(False, action="store_true", help="leave unreadable images out")
    allow_duplicates: bool = option(
        False,
        action="store_true",
        help="only warn of images in several splits that are the same or nearly so; a split that is drawn "
        "need not keep them together then",
    )


Options = TypeVar("Options", bound=SharedOptions)


def add_options(parser: argparse.ArgumentParser, kind: type[SharedOptions]) -> None:
    """The options of a reader, its own before those of all."""
    shared = {one.name for one in fields(SharedOptions)}
    for one in sorted(fields(kind), key=lambda one: one.name in shared):
        if "argument" in one.metadata:
            name = f"--{one.name.replace('_', '-')}"
            argument = {"default": one.default} | one.metadata["argument"]
            if argument.get("action") == "append":
                argument["default"] = None  # argparse would append to it
            parser.add_argument(name, **argument)


def options_of(arguments: argparse.Namespace, kind: type[Options]) -> Options:
    """The options of a reader from the command line; InputError for what it does not take."""
    given = {one.name: getattr(arguments, one.name) for one in fields(kind) if hasattr(arguments, one.name)}
    given = {name: value for name, value in given.items() if value is not None}
    if arguments.label_names is not None:
        given["label_names"], given["label_prompts"] = read_wording(arguments.label_names)
    return kind(**given)
