"""`radtune verify`: whether a folder that radtune wrote still holds what it was written with."""

from __future__ import annotations

import argparse
from pathlib import Path

from cohort.errors import InputError
from study.command import Commands, add_command

NAMED = 10
"""Faults that are told; of the others the number."""


def add_command_to(commands: Commands) -> None:
    """Add `verify` to the parsers `commands`."""
    parser = add_command(
        commands,
        "verify",
        _verify,
        "hold the files of a cohort, a cache, a study or a bundle against their checksums",
        "radtune verify exports/sample",
    )
    parser.add_argument("folder", metavar="PATH", type=Path, help="cohort, cache, run folder or bundle")


def _verify(arguments: argparse.Namespace) -> None:
    folder = arguments.folder
    for name, file, verified in KINDS:
        if any(folder.glob(file)):
            print(verified(folder, name))
            return
    known = ", ".join(f"{name} (has {file})" for name, file, _ in KINDS)
    raise InputError(f"{folder}: nothing that can be verified; it must be one of: {known}")


def _bundle(folder: Path, name: str) -> str:
    from vlm.bundle import verify_bundle

    return verify_bundle(folder)


def _cohort(folder: Path, name: str) -> str:
    from cohort.verify import verify

    return _said(folder, name, verify(folder))


def _run(folder: Path, name: str) -> str:
    from study.verify_run import verify

    return _said(folder, name, verify(folder))


def _images(folder: Path, name: str) -> str:
    from cohort.image_store import verify

    return _said(folder, name, verify(folder))


def _features(folder: Path, name: str) -> str:
    from vlm.embeddings import verify

    return _said(folder, name, verify(folder))


def _cache(folder: Path, name: str) -> str:
    from cohort.image_store import verify as verify_images
    from vlm.embeddings import verify as verify_features

    complaints = [line for store in sorted(folder.glob("images-*")) for line in verify_images(store)]
    for kind in ("embeddings-*", "altered-*"):
        complaints += [line for features in sorted(folder.glob(kind)) for line in verify_features(features)]
    return _said(folder, name, complaints)


def _said(folder: Path, name: str, complaints: list[str]) -> str:
    if not complaints:
        return f"{folder}: {name} as it was written"
    more = f"; and {len(complaints) - NAMED} more" if len(complaints) > NAMED else ""
    raise InputError("; ".join(complaints[:NAMED]) + more)


KINDS = (
    ("bundle", "bundle.json", _bundle),
    ("cohort", "cohort.parquet", _cohort),
    ("study", "study.yaml", _run),
    ("decoded images", "images.npy", _images),
    ("features", "*.arrow", _features),
    ("cache", "*-*/lock", _cache),
)
"""What a kind of folder is called, the file by which it is known, and what holds it against its checksums:
that returns a line for people, or raises InputError, in one line, for what is damaged."""
