"""How every command of `radtune` is set up."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable
from pathlib import Path

Commands = argparse._SubParsersAction
"""What `ArgumentParser.add_subparsers` gives; argparse has no public name for it."""


def add_command(
    commands: Commands,
    name: str,
    function: Callable[[argparse.Namespace], int | None],
    summary: str,
    example: str = "",
) -> argparse.ArgumentParser:
    """Add a command that calls `function` with its arguments; returns its parser, for its own options."""
    parser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"example:\n  {example}" if example else "",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(command=function)
    return parser


def shown_command(*words: str | Path) -> str:
    """A command of `radtune` for people to copy, quoted as a shell wants it."""
    return shlex.join(["radtune", *map(str, words)])


def add_download_flag(parser: argparse.ArgumentParser) -> None:
    """Add `--allow-download` to a command that reads bundles."""
    parser.add_argument(
        "--allow-download",
        action="store_true",
        help="get an encoder that a bundle only names from the hub, without this machine's access token "
        "(default: nothing is asked of a network)",
    )


def shown_path(path: Path) -> Path:
    """A path as a person would type it from here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
