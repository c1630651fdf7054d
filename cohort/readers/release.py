"""What the readers of published data sets share: where their tables are, their options, their terms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cohort.errors import InputError
from cohort.readers.name_lists import comma_separated
from cohort.readers.options import SharedOptions, add_options, option, options_of
from cohort.readers.table_options import TableOptions

if TYPE_CHECKING:
    import argparse

    from cohort.manifest import Cohort
    from cohort.readers.table_sources import SourceRowsRead

VAL_SHARE = 0.1
"""Of the training patients, for validation, where a release has none."""


@dataclass(frozen=True, kw_only=True)
class ReleaseOptions(SharedOptions):
    """What may be said of any published data set."""

    split: str = option(
        "official",
        choices=("official", "drawn"),
        help="the release's own, or one drawn by patient (default: %(default)s)",
    )
    views: Sequence[str] | None = option(
        None, type=comma_separated, metavar="PA,AP", help="keep these views only (default: all)"
    )
    keep: Sequence[str] | None = option(
        None,
        type=comma_separated,
        metavar="A,B",
        help="columns to carry along (default: age and sex, where they are)",
    )


@dataclass(frozen=True, kw_only=True)
class Release:
    """What a cohort of a published data set says of it."""

    reader: str
    name: str
    licence: str
    citation: str


def command_of(
    read_it: Callable[..., Cohort], options: type[ReleaseOptions], tables: str
) -> tuple[Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], Cohort]]:
    """`arguments` and `read` of a reader (`cohort.readers.options`) that finds its tables in a folder.

    Args:
        read_it: (tables, images, out, options) -> the cohort.
        options: what else the command line may say.
        tables: which files lie in the folder, in words.
    """

    def arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--tables", required=True, metavar="DIR", help=f"the folder with {tables}")
        parser.add_argument("--images", required=True, metavar="DIR|ZIP", help="the images")
        add_options(parser, options)

    def read(given: argparse.Namespace) -> Cohort:
        return read_it(given.tables, given.images, given.out, options_of(given, options))

    return arguments, read


def published(folder: Path | str, *patterns: str) -> Path | None:
    """The first file of one of these names (with wildcards) in a folder or one below it, packed or not."""
    for pattern in patterns:
        for place in (pattern, f"*/{pattern}"):
            for packed in ("", ".gz", ".zip"):
                if found := sorted(Path(folder).glob(place + packed)):
                    return found[0]
    return None


def required(folder: Path | str, *patterns: str) -> Path:
    """`published`; InputError where there is none."""
    if found := published(folder, *patterns):
        return found
    raise InputError(f"{folder}: no {patterns[0]} there, nor a .gz or .zip of it; give its folder")


def table_options(options: ReleaseOptions, **columns: Any) -> TableOptions:
    """The options of a table with what is the same for every source, but for `fractions`, which come with
    `read_release`."""
    shared = {one.name: getattr(options, one.name) for one in fields(SharedOptions)}
    shared["fractions"] = None
    return TableOptions(**shared | {name: value for name, value in columns.items() if value is not None})


def read_release(
    read: SourceRowsRead, images: Path | str, out: Path | str, release: Release, options: ReleaseOptions
) -> Cohort:
    """Write the cohort of a release's rows; the columns that are kept are those that it has."""
    from cohort.readers.source_table import as_written
    from cohort.readers.table import Origin, read_rows
    from cohort.writing import check_output_folder

    check_output_folder(out, images)
    columns = set(read.frame.columns)
    keep = read.options.keep if options.keep is None else options.keep
    keep = [as_written(read.frame, name) for name in keep]
    keep = [name for name in keep if options.keep or name in columns]
    given = {"keep": keep, "fractions": options.fractions}
    if options.views is not None:
        given["views"] = options.views
    if options.split == "drawn":
        given |= {"split_column": None, "split_list": (), "val_from_train": None}
    read.options = replace(read.options, **given)
    origin = Origin(
        source=release.name, reader=release.reader, licence=release.licence, citation=release.citation
    )
    return read_rows(read, images, out, origin)
