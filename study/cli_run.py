"""`radtune run` and `radtune show`: a study runs, and how far it is."""

from __future__ import annotations

import argparse
import signal

from cohort.errors import InputError
from study.command import Commands, add_command, shown_command, shown_path
from study.interrupts import block_alarm, held_back
from study.log import show_warnings
from study.streams import close_stdout


def add_commands_to(commands: Commands) -> None:
    """Add `run` and `show` to the parsers `commands`."""
    runs = add_command(
        commands,
        "run",
        run,
        "run a study, or continue one",
        "radtune run configs/sample_probe.yaml --set search.configurations=128",
    )
    runs.add_argument("study", metavar="STUDY.yaml", nargs="?", help="the study file; not with --from")
    runs.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="a.b=value",
        dest="overrides",
        help="set one key of the study file; may be given again",
    )
    said = runs.add_mutually_exclusive_group()
    said.add_argument("--quiet", action="store_true", help="print errors alone; run.log has the rest")
    said.add_argument("--verbose", action="store_true", help="print what libraries warn of, too")
    runs.add_argument(
        "--resume",
        action="store_true",
        help="continue the study's run folder; with --set search.configurations=N extend it",
    )
    runs.add_argument(
        "--from",
        dest="copy",
        metavar="PLACE",
        help="with --resume: go on from the copy at CHECKPOINTS/NAME, a folder or a URI, where the study's "
        "own folder was lost",
    )

    show = add_command(commands, "show", _show, "show a study while it runs or afterwards")
    show.add_argument("run", metavar="RUN", help="a run folder, such as runs/sample-probe")
    show.add_argument(
        "--status",
        action="store_true",
        help="a line for scripts, and the exit code: 0 finished, 1 nothing completed, 3 to be resumed, "
        "4 running",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run a study; 1 where nothing of it completed."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until `study.interrupts` takes it
    block_alarm()  # before there is a second thread
    with held_back():  # an exception while a library's C++ is imported would abort
        from study.progress import nothing_completed
        from study.study import Study

    if bool(arguments.copy) == bool(arguments.study):
        raise InputError("give either STUDY.yaml, or --resume with --from PLACE")
    if arguments.copy and not arguments.resume:
        raise InputError("--from PLACE continues a study; give --resume with it")
    if arguments.copy:
        study = Study.from_copy(arguments.copy, arguments.overrides)
    else:
        study = Study.from_yaml(arguments.study, arguments.overrides)
    if arguments.verbose:
        show_warnings()
    say = (lambda line: None) if arguments.quiet else _say
    study.run(resume=arguments.resume, echo=say)
    folder = shown_path(study.folder.path)
    if nothing_completed(study.records.values()):
        return 1  # the study's last line said why
    say(f"next: {shown_command('analyze', folder)}    (test scores with baselines and intervals; the report)")
    return 0


def _show(arguments: argparse.Namespace) -> int:
    from study.progress import describe_run, status
    from study.study import Study

    folder = Study.open(arguments.run).folder
    line, code = status(folder) if arguments.status else (describe_run(folder), 0)
    print(line)
    return code


def _say(line: str) -> None:
    """Print a line of a study's progress; where nobody reads it any more, stop the study as Ctrl-C does."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        close_stdout()
        # Ray takes what is raised from its callbacks for a fault of the trial, unless it is this.
        raise KeyboardInterrupt from None
