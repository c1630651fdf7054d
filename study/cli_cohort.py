"""`radtune cohort ...`: draw the sample, read a source, show what a cohort holds."""

from __future__ import annotations

import argparse
from importlib import import_module

from cohort.readers import READERS
from cohort.readers.shared_arguments import add_shared_arguments
from study.command import Commands, add_command


def add_commands(commands: Commands) -> None:
    """Add `cohort` with its subcommands to the parsers `commands`."""
    parser = commands.add_parser(
        "cohort", help="build a cohort, or show one", description="Build a cohort, or show one."
    )
    kinds = parser.add_subparsers(title="sources", required=True, metavar="SOURCE")

    sample = add_command(
        kinds,
        "sample",
        _sample,
        "draw the embedded sample of radiograph phantoms",
        "radtune cohort sample --out cohorts/sample",
    )
    sample.add_argument("--images", type=int, default=1200, help="how many (default: %(default)s)")
    sample.add_argument("--size", type=int, default=128, help="pixels a side (default: %(default)s)")
    sample.add_argument("--seed", type=int, default=0, help="same seed, same files (default: %(default)s)")
    sample.add_argument("--out", required=True, metavar="DIR", help="the cohort's folder")

    for name in READERS:
        reader = import_module(f"cohort.readers.{name}")
        command = add_command(kinds, name.replace("_", "-"), _read, reader.HELP, reader.EXAMPLE)
        reader.arguments(command)
        add_shared_arguments(command)
        command.set_defaults(reader=reader)

    show = add_command(kinds, "show", _show, "counts, prevalence, patients, what is missing or contradicts")
    show.add_argument("cohort", metavar="DIR", help="a cohort folder")
    show.add_argument(
        "--contact-sheet", metavar="FILE", help="write 32 of its images with their labels to a .png or .jpg"
    )


def _sample(arguments: argparse.Namespace) -> None:
    from cohort.summary import describe
    from sample.phantoms import draw_cohort

    print(describe(draw_cohort(arguments.out, arguments.images, arguments.size, arguments.seed)))


def _read(arguments: argparse.Namespace) -> None:
    from cohort.summary import describe

    print(describe(arguments.reader.read(arguments)))


def _show(arguments: argparse.Namespace) -> None:
    from cohort.contact_sheet import contact_sheet
    from cohort.manifest import Cohort
    from cohort.summary import describe

    cohort = Cohort.open(arguments.cohort)
    sheet = contact_sheet(cohort, arguments.contact_sheet) if arguments.contact_sheet else None
    print(describe(cohort))
    if sheet:
        print(f"\ncontact sheet: {sheet}")
