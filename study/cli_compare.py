"""`radtune compare`: encoders side by side."""

from __future__ import annotations

import argparse
import textwrap

from cohort.errors import InputError
from cohort.readers.name_lists import comma_separated
from study.command import Commands, add_command


def add_command_to(commands: Commands, encoders: str) -> None:
    """Add `compare` to the parsers `commands`; `encoders` says how encoders are named."""
    compare = add_command(
        commands,
        "compare",
        _compare,
        "hold encoders side by side on cohorts: separability, probes, overlaid text",
        "radtune compare --cohort cohorts/mine --cohort cohorts/theirs --encoder biomedclip "
        "--encoder ViT-B-16/laion2b_s34b_b88k --features projected,deep --out comparisons/mine",
    )
    compare.add_argument(
        "--cohort",
        action="append",
        required=True,
        metavar="DIR",
        dest="cohorts",
        help="a cohort folder; may be given again",
    )
    compare.add_argument(
        "--encoder",
        action="append",
        required=True,
        metavar="NAME",
        dest="encoders",
        help=f"{encoders}; may be given again, pixels come of themselves",
    )
    compare.add_argument("--out", required=True, metavar="DIR", help="folder of the page and its tables")
    compare.add_argument(
        "--features",
        type=comma_separated,
        default=["projected"],
        metavar="KINDS",
        help="of projected, pooled, deep, as far as an encoder has them (default: projected)",
    )
    compare.add_argument(
        "--on",
        choices=("development", "test"),
        default="development",
        help="score out of fold on training and validation patients, so that the choice of an encoder leaves "
        "the test split unseen, or open the test split (default: %(default)s)",
    )
    compare.add_argument("--cache", default="cache", help="cache folder (default: %(default)s)")
    compare.add_argument("--seed", type=int, default=0, help="of folds and draws (default: %(default)s)")


def _compare(arguments: argparse.Namespace) -> None:
    from study.compare import compare_encoders
    from vlm.feature_kinds import SINGLE

    if strange := [kind for kind in arguments.features if kind not in SINGLE]:
        raise InputError(f"--features: must be of {', '.join(SINGLE)}, got {strange[0]!r}")
    result = compare_encoders(
        arguments.cohorts,
        arguments.encoders,
        arguments.out,
        features=arguments.features,
        on=arguments.on,
        cache=arguments.cache,
        seed=arguments.seed,
        echo=lambda line: print(line, flush=True),
    )
    print("\n" + textwrap.fill(result.headline, 110))
    print(f"\nreport: {result.report}")
