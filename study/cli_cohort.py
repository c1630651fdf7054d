"""`radtune cohort ...`: draw the sample, read a source, show what a cohort holds."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path

from cohort.errors import InputError
from cohort.readers import READERS
from study.command import Commands, add_command, shown_command


def add_commands(commands: Commands) -> None:
    """Add `cohort` with its subcommands to the parsers `commands`."""
    parser = commands.add_parser(
        "cohort", help="build a cohort, or show one", description="Build a cohort, or show one."
    )
    kinds = parser.add_subparsers(title="sources", required=True, metavar="SOURCE")
    _add_sample(kinds)
    for name in READERS:
        _add_reader(kinds, name)
    _add_annotate(kinds)
    _add_show(kinds)


def _add_sample(kinds: Commands) -> None:
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


def _add_reader(kinds: Commands, name: str) -> None:
    reader = import_module(f"cohort.readers.{name}")
    command = add_command(kinds, name.replace("_", "-"), _read, reader.HELP, reader.EXAMPLE)
    reader.arguments(command)
    metavar, what = getattr(reader, "OUT", ("DIR", "the cohort's folder"))
    command.add_argument("--out", required=True, metavar=metavar, help=what)
    command.set_defaults(reader=reader)


def _add_annotate(kinds: Commands) -> None:
    annotate = add_command(
        kinds,
        "annotate",
        _annotate,
        "put boxes or masks of labels or organs beside a cohort",
        "radtune cohort annotate cohorts/nih --boxes BBox_List_2017.csv --format nih",
    )
    annotate.add_argument("cohort", metavar="DIR", help="a cohort folder")
    source = annotate.add_mutually_exclusive_group(required=True)
    source.add_argument("--boxes", metavar="FILE", help="boxes or run lengths in a file of --format")
    source.add_argument(
        "--masks",
        metavar="DIR|ZIP",
        help="images of the region, named as the images of the cohort, in folders named as its labels",
    )
    annotate.add_argument(
        "--format",
        default="csv",
        metavar="F",
        help="csv (image, label, x, y, w, h or x_min, ...), coco, nih, vindr, chexlocalize or siim "
        "(default: %(default)s)",
    )
    source.add_argument(
        "--remove", metavar="RATER", help="take RATER's regions away, with --organ that organ's"
    )
    which = annotate.add_mutually_exclusive_group()
    which.add_argument("--label", default="", metavar="L", help="of all regions, whatever the file says")
    which.add_argument(
        "--positive-labels",
        action="store_true",
        help="each region is of every label that its image is positive for",
    )
    which.add_argument(
        "--organ",
        default="",
        metavar="NAME",
        help="each region is of this organ, such as lungs, and valid for every label: the report says how "
        "much of the maps lies inside, apart from regions of labels",
    )
    annotate.add_argument(
        "--rater",
        default="",
        metavar="NAME",
        help="who drew them; an earlier annotation by NAME is replaced",
    )
    annotate.add_argument(
        "--drawn-by",
        choices=("people", "software"),
        help="what the regions come from, as the report will say (default: people where the format is of a "
        "release that radiologists annotated, otherwise not stated)",
    )
    annotate.add_argument(
        "--drawn-on",
        metavar="W,H",
        help="pixels of the images that boxes were drawn on, where they are not the cohort's (nih: "
        "1024,1024)",
    )


def _add_show(kinds: Commands) -> None:
    show = add_command(kinds, "show", _show, "counts, prevalence, patients, what is missing or contradicts")
    show.add_argument("cohort", metavar="DIR", help="a cohort folder")
    show.add_argument(
        "--contact-sheet", metavar="FILE", help="write 32 of its images with their labels to a .png or .jpg"
    )
    show.add_argument(
        "--duplicates",
        metavar="FILE",
        help="write the first 32 pairs of images that are the same or nearly so to a .png or .jpg",
    )


def _sample(arguments: argparse.Namespace) -> None:
    from cohort.summary import describe
    from sample.phantoms import draw_cohort

    print(describe(draw_cohort(arguments.out, arguments.images, arguments.size, arguments.seed)))


def _read(arguments: argparse.Namespace) -> None:
    from cohort.summary import describe

    print(describe(arguments.reader.read(arguments)))


def _annotate(arguments: argparse.Namespace) -> None:
    from cohort.manifest import Cohort
    from cohort.readers.annotation_formats import BY_PEOPLE
    from cohort.readers.annotations import annotate, read_boxes, read_masks, remove

    cohort = Cohort.open(arguments.cohort)
    if arguments.remove is not None:
        print(f"{remove(cohort, arguments.remove, arguments.organ)} regions removed")
        return
    drawn_by = arguments.drawn_by or ("people" if arguments.boxes and arguments.format in BY_PEOPLE else "")
    if arguments.masks:
        drawn, other_names = read_masks(Path(arguments.masks)), {}
    else:
        drawn, other_names = read_boxes(Path(arguments.boxes), arguments.format)
    found = annotate(
        cohort,
        drawn,
        label=arguments.label,
        positive_labels=arguments.positive_labels,
        organ=arguments.organ,
        drawn_by=drawn_by,
        rater=arguments.rater,
        drawn_on=_width_and_height(arguments.drawn_on),
        other_names=other_names,
    )
    print("\n".join(found.lines))
    print(f"next: {shown_command('cohort', 'show', arguments.cohort)}")


def _width_and_height(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    parts = text.split(",")
    if len(parts) != 2 or not all(
        part.isascii() and part.isdigit() and 0 < int(part) < 10**6 for part in parts
    ):
        raise InputError(f"--drawn-on must be two numbers such as 1024,1024, got {text!r}")
    return int(parts[0]), int(parts[1])


def _show(arguments: argparse.Namespace) -> None:
    from cohort.contact_sheet import contact_sheet, sheet_of_duplicates
    from cohort.manifest import Cohort
    from cohort.summary import describe

    cohort = Cohort.open(arguments.cohort)
    sheet = contact_sheet(cohort, arguments.contact_sheet) if arguments.contact_sheet else None
    pairs = sheet_of_duplicates(cohort, arguments.duplicates) if arguments.duplicates else None
    print(describe(cohort))
    if sheet:
        print(f"\ncontact sheet: {sheet}")
    if pairs:
        print(f"\npairs of images: {pairs}")
