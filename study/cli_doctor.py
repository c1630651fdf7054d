"""`radtune doctor`: what is wrong with this machine, or odd about a cohort."""

from __future__ import annotations

import argparse
from pathlib import Path

from study.command import Commands, add_command

STATUS = {"ok": 0, "note": 0, "warning": 1, "error": 2}
"""Exit status for the gravest line."""


def add_command_to(commands: Commands) -> None:
    """Add `doctor` to the parsers `commands`."""
    parser = add_command(
        commands,
        "doctor",
        _doctor,
        "check this machine, or 200 images of a cohort; status 1 after warnings, 2 after errors",
        "radtune doctor cohorts/mine",
    )
    parser.add_argument(
        "cohort", metavar="DIR", nargs="?", help="a cohort folder (default: this machine is checked)"
    )
    parser.add_argument("--cache", default="cache", type=Path, help="cache folder (default: %(default)s)")
    parser.add_argument("--uri", default="sqlite:///mlflow.db", help="tracking URI (default: %(default)s)")


def _doctor(arguments: argparse.Namespace) -> int:
    if arguments.cohort is not None:
        return _look_at(arguments.cohort)
    from study.doctor import examine

    gravest = 0
    for check in examine(arguments.cache, arguments.uri):
        print(f"{check.severity:<8} {check.subject:<9} {check.said}", flush=True)
        gravest = max(gravest, STATUS[check.severity])
    return gravest


def _look_at(folder: str) -> int:
    from cohort.manifest import Cohort
    from cohort.odd_images import odd_images

    count, oddities = odd_images(Cohort.open(folder))
    print(f"{folder}: {count} images read{'' if oddities else ', nothing odd'}")
    for severity, said in oddities:
        print(f"{severity:<8} {said}")
    return max((STATUS[severity] for severity, _ in oddities), default=0)
