"""The command line, as a confined process calls it."""

import os
from pathlib import Path


def radtune(folder: Path, *arguments: str) -> int:
    """Run one command in a folder; its exit code."""
    from study.cli import main

    os.chdir(folder)
    return main(list(arguments))
