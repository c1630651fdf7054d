"""`radtune analyze`: studies are judged on the test split."""

from __future__ import annotations

import argparse
import json

from analysis.sections import SECTIONS
from cohort.errors import InputError
from cohort.readers.name_lists import comma_separated
from study.command import Commands, add_command, shown_command, shown_path
from study.streams import complain


def add_command_to(commands: Commands) -> None:
    """Add `analyze` to the parsers `commands`."""
    analyze = add_command(
        commands,
        "analyze",
        _analyze,
        "score baselines, zero-shot and the best trials on the test split; write the report",
        "radtune analyze runs/sample-probe --skip overlay,saliency\n"
        "  radtune analyze runs/sample-probe --only scores,claims",
    )
    analyze.add_argument("runs", metavar="RUN", nargs="+", help="a run folder, or several")
    analyze.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="analysis.b=value",
        dest="overrides",
        help="set one key of the study file's analysis, this time; may be given again",
    )
    analyze.add_argument(
        "--image",
        action="append",
        default=[],
        metavar="ID",
        help="an image of the cohort whose maps the report shows as well (analysis.looked_at); may be given "
        "again",
    )
    analyze.add_argument(
        "--only",
        type=comma_separated,
        metavar="A,B",
        help=f"write these sections of the report anew and keep the others that lie there: "
        f"{', '.join(SECTIONS)} (default: the whole report, of the sections of the study file)",
    )
    analyze.add_argument(
        "--skip",
        type=comma_separated,
        default=(),
        metavar="A,B",
        help="sections not to make now, such as overlay, saliency or separability, which take longest; the "
        "report says so",
    )


def _analyze(arguments: argparse.Namespace) -> int:
    """One study after the other; one that cannot be analysed does not keep the next from it."""
    failed = 0
    for run in arguments.runs:
        if len(arguments.runs) > 1:
            print(f"\n{run}", flush=True)
        try:
            _analyze_one(run, arguments)
        except InputError as error:
            if arguments.debug or len(arguments.runs) == 1:
                raise
            failed += 1
            complain(f"error: {error}")
    if failed:
        complain(f"error: {failed} of {len(arguments.runs)} studies were not analysed")
    return 2 if failed else 0


def _analyze_one(run: str, arguments: argparse.Namespace) -> None:
    from study.study import Study

    asked_for = [f"analysis.looked_at={json.dumps(arguments.image)}"] if arguments.image else []
    study = Study.open(run, [*arguments.overrides, *asked_for])
    result = study.analyze(arguments.only, skip=arguments.skip, echo=lambda text: print(text, flush=True))
    for name, reason in result.failed.items():
        print(f"section {name} could not be made: {reason}")
    for remark in result.remarks:
        print(remark)
    if result.not_recorded:
        print(result.not_recorded)
    print(f"\nreport: {shown_path(result.report)}")
    out = f"exports/{study.config.name}"
    print(f"next: {shown_command('export', shown_path(study.folder.path), '--out', out)}")
