"""`radtune verify`: whether a folder that radtune wrote still holds what it was written with."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from cohort.errors import InputError
from study.command import Commands, add_command


def _bundle(folder: Path) -> str:
    from vlm.bundle import verify_bundle

    return verify_bundle(folder)


KINDS = {"bundle.json": ("bundle", _bundle)}
"""File by which a kind of folder is known -> its name, and what holds such a folder against its checksums:
that returns a line for people, or raises InputError, in one line, for what is damaged."""


def add_command_to(commands: Commands) -> None:
    """Add `verify` to the parsers `commands`."""
    names = " or ".join(name for name, _ in KINDS.values())
    parser = add_command(
        commands,
        "verify",
        _verify,
        f"hold the files of a {names} against their checksums",
        "radtune verify exports/sample",
    )
    parser.add_argument("folder", metavar="PATH", type=Path, help=f"a {names}")


def _verify(arguments: argparse.Namespace) -> None:
    for file, (_, verified) in KINDS.items():
        if os.path.isfile(arguments.folder / file):
            print(verified(arguments.folder))
            return
    known = ", ".join(f"{name} (has {file})" for file, (name, _) in KINDS.items())
    raise InputError(f"{arguments.folder}: nothing that can be verified; it must be one of: {known}")
