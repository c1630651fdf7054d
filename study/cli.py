"""The command line: `radtune`, or `python -m study` from an uninstalled checkout.

A thin layer: it reads arguments, calls one function, prints what that returns. Every import of weight stands
inside the command that needs it, so that `radtune --help` answers at once.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from analysis.sections import SECTIONS
from cohort.errors import InputError, shortened
from cohort.readers.name_lists import comma_separated
from cohort.version import VERSION
from search_spaces import SPACES
from study import cli_cohort, cli_compare, cli_export, cli_mlflow, cli_saliency, cli_verify
from study.command import Commands, add_command, add_download_flag, shown_command
from study.interrupts import block_alarm, held_back
from study.ray_watch import RayDied, end_process
from study.streams import hide_warnings, prepare_streams

EXAMPLES = """\
a first study, start to end:
  radtune cohort sample --out cohorts/sample
  radtune run configs/sample_probe.yaml
  radtune analyze runs/sample-probe
  radtune export runs/sample-probe --out exports/sample
  radtune predict exports/sample IMAGE.png
  radtune ui
"""


_FULL = "make room there, or choose another place"
_FORBIDDEN = "choose a place that you may write to, or change its permissions"
_IMPOSSIBLE = "no file or folder can be there; choose another path"
NO_ROOM = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), _FULL),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), _FORBIDDEN),
    **dict.fromkeys((errno.ENAMETOOLONG, errno.ENOTDIR, errno.ELOOP, errno.EEXIST), _IMPOSSIBLE),
}
"""What the user can mend of a disk or a path, with the remedy."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it succeeded, 1 when it came to nothing, 2 for what the user can mend, 130 when
    interrupted."""
    prepare_streams()
    arguments = argparse.Namespace(command=None, debug=False)
    try:
        try:
            arguments = _parser().parse_args(argv)
        except SystemExit:  # argparse has printed its help, or what was wrong
            sys.stdout.flush()
            raise
        if not arguments.debug:
            hide_warnings()
        code = arguments.command(arguments) or 0
        sys.stdout.flush()
        return code
    except InputError as error:
        if arguments.debug:
            raise
        _complain(f"error: {error}")
        return 2
    except RayDied as error:
        end_process(str(error))
    except KeyboardInterrupt:
        remedy = "; a study goes on with `radtune run STUDY.yaml --resume`"
        _complain("interrupted" + (remedy if arguments.command is _run else ""))
        return 130
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        _close_stdout()
        return 0
    except OSError as error:
        if arguments.debug or error.errno not in NO_ROOM:
            raise
        if error.filename is None:  # printing
            _close_stdout()
        place = shortened(str(error.filename or "standard output"))
        _complain(f"error: {place}: {error.strerror}; {NO_ROOM[error.errno]}")
        return 2


def _complain(line: str) -> None:
    """Print a line on standard error, if anybody reads it."""
    with suppress(OSError):
        print(f"radtune: {line}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="radtune",
        description="Adapt a biomedical vision-language model to rare, co-occurring labels, "
        "and know what may be claimed.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"radtune {VERSION}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    cli_cohort.add_commands(commands)
    _add_embed(commands)
    _add_run(commands)
    _add_space(commands)
    _add_show(commands)
    _add_analyze(commands)
    cli_compare.add_command_to(commands, ENCODERS)
    cli_export.add_command_to(commands)
    _add_predict(commands)
    cli_saliency.add_command_to(commands)
    cli_verify.add_command_to(commands)
    cli_mlflow.add_commands_to(commands)
    return parser


def _add_embed(commands: Commands) -> None:
    embed = add_command(commands, "embed", _embed, "fill the embedding cache of a cohort and an encoder")
    embed.add_argument("cohort", metavar="DIR", help="a cohort folder")
    embed.add_argument("--encoder", required=True, metavar="NAME", help=ENCODERS)
    embed.add_argument(
        "--features",
        type=comma_separated,
        metavar="KINDS",
        help="of projected, pooled, deep (default: all that the encoder has, as a linear probe wants them; "
        "fine-tuning wants one, projected)",
    )
    embed.add_argument("--cache", default="cache", help="cache folder (default: %(default)s)")
    embed.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16"),
        default="auto",
        help="auto: bf16 where the processor computes in it (default: %(default)s)",
    )
    embed.add_argument("--batch-size", type=int, default=64, help="images at a time (default: %(default)s)")


def _add_run(commands: Commands) -> None:
    run = add_command(
        commands,
        "run",
        _run,
        "run a study, or continue one",
        "radtune run configs/sample_probe.yaml --set search.configurations=128",
    )
    run.add_argument("study", metavar="STUDY.yaml", nargs="?", help="the study file; not with --from")
    run.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="a.b=value",
        dest="overrides",
        help="set one key of the study file; may be given again",
    )
    run.add_argument(
        "--resume",
        action="store_true",
        help="continue the study's run folder; with --set search.configurations=N extend it",
    )
    run.add_argument(
        "--from",
        dest="copy",
        metavar="PLACE",
        help="with --resume: go on from the copy at CHECKPOINTS/NAME, a folder or a URI, where the study's "
        "own folder was lost",
    )


def _add_space(commands: Commands) -> None:
    space = add_command(
        commands,
        "space",
        _space,
        "what a study searches, and the published presets",
        "radtune space linear_probe",
    )
    space.add_argument("name", metavar="NAME", choices=SPACES, help=" or ".join(SPACES))


def _add_show(commands: Commands) -> None:
    show = add_command(commands, "show", _show, "show a study while it runs or afterwards")
    show.add_argument("run", metavar="RUN", help="a run folder, such as runs/sample-probe")
    show.add_argument(
        "--status",
        action="store_true",
        help="a line for scripts, and the exit code: 0 finished, 1 nothing completed, 3 to be resumed, "
        "4 running",
    )


def _add_analyze(commands: Commands) -> None:
    analyze = add_command(
        commands,
        "analyze",
        _analyze,
        "score floors, zero-shot and the best trials on the test split; write the report",
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


def _add_predict(commands: Commands) -> None:
    predict = add_command(
        commands,
        "predict",
        _predict,
        "probabilities and decisions of a bundle, as CSV",
        "radtune predict exports/sample scans/ --out predictions.csv",
    )
    predict.add_argument("bundle", metavar="BUNDLE", help="a folder that `radtune export` wrote")
    predict.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="PNG or JPEG files, folders of them, or quoted patterns such as 'scans/a*.png'",
    )
    predict.add_argument("--out", metavar="CSV", help="file to write (default: standard output)")
    predict.add_argument(
        "--skip-unreadable", action="store_true", help="leave the cells of unreadable images empty"
    )
    add_download_flag(predict)


ENCODERS = (
    "phantom-clip, pixels, biomedclip, hf-hub:OWNER/NAME, local-dir:PATH, MODEL/PRETRAINED of open_clip, "
    "timm:NAME or timm:NAME@FILE"
)


def _embed(arguments: argparse.Namespace) -> None:
    from cohort.manifest import Cohort
    from study.cluster import joined_ray
    from study.config import Resources
    from study.shards_on_nodes import on_nodes
    from vlm.embeddings import embed
    from vlm.encoder_names import name_for
    from vlm.encoders import load_encoder

    cohort = Cohort.open(arguments.cohort)
    name = name_for(arguments.encoder, cohort.channels)
    encoder = load_encoder(name, features=arguments.features and tuple(arguments.features))
    with joined_ray(Resources(), print) as capacity:
        embeddings = embed(
            cohort,
            encoder,
            cache=arguments.cache,
            batch_size=arguments.batch_size,
            precision=arguments.precision,
            run_shards=on_nodes(capacity) if capacity else None,
        )
    images, width = embeddings.features_ND.shape
    origin = "from the cache" if embeddings.cached else "computed"
    what = f"{images} x {width} features of {encoder.name}, {embeddings.precision}"
    print(f"{what}, {origin}: {embeddings.folder}")


def _run(arguments: argparse.Namespace) -> int:
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
    study.run(resume=arguments.resume, echo=_say)
    folder = _shown(study.folder.path)
    if nothing_completed(study.records.values()):
        return 1  # the study's last line said why
    print(
        f"next: {shown_command('analyze', folder)}    (test scores with floors and intervals, and the report)"
    )
    return 0


def _space(arguments: argparse.Namespace) -> None:
    from search_spaces.describe import describe

    print(describe(arguments.name), end="")


def _show(arguments: argparse.Namespace) -> int:
    from study.progress import describe_run, status
    from study.study import Study

    folder = Study.open(arguments.run).folder
    line, code = status(folder) if arguments.status else (describe_run(folder), 0)
    print(line)
    return code


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
            _complain(f"error: {error}")
    if failed:
        _complain(f"error: {failed} of {len(arguments.runs)} studies were not analysed")
    return 2 if failed else 0


def _analyze_one(run: str, arguments: argparse.Namespace) -> None:
    from study.study import Study

    asked_for = [f"analysis.looked_at={json.dumps(arguments.image)}"] if arguments.image else []
    study = Study.open(run, [*arguments.overrides, *asked_for])
    result = study.analyze(arguments.only, skip=arguments.skip, echo=_say)
    for name, reason in result.failed.items():
        print(f"section {name} could not be made: {reason}")
    for remark in result.remarks:
        print(remark)
    if result.not_recorded:
        print(result.not_recorded)
    print(f"\nreport: {_shown(result.report)}")
    out = f"exports/{study.config.name}"
    print(f"next: {shown_command('export', _shown(study.folder.path), '--out', out)}")


def _predict(arguments: argparse.Namespace) -> None:
    import pandas as pd
    import pyarrow as pa

    from analysis.number_format import counted
    from cohort.csv_text import csv_text
    from cohort.files import check_output_file, write_atomically
    from cohort.image_files import find_images
    from vlm.bundle import Bundle

    if arguments.out:
        check_output_file(arguments.out)
    images = find_images(arguments.images)
    bundle = Bundle.load(arguments.bundle, allow_download=arguments.allow_download)
    table = bundle.predict(images, skip_unreadable=arguments.skip_unreadable)
    # Whole numbers stay whole beside the empty cells of unreadable images.
    frame = table.to_pandas(types_mapper={pa.int8(): pd.Int8Dtype()}.get)
    text = csv_text(frame, "%.6f")
    if not arguments.out:
        print(text, end="")
        return
    write_atomically(arguments.out, text.encode())
    print(f"{counted(len(frame), 'image')}: {arguments.out}")


def _say(line: str) -> None:
    """Print a line of a study's progress; where nobody reads it any more, stop the study as Ctrl-C does."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        _close_stdout()
        # Ray takes what is raised from its callbacks for a fault of the trial, unless it is this.
        raise KeyboardInterrupt from None


def _close_stdout() -> None:
    """So that nothing more is written where it cannot be, at the interpreter's end either."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _shown(path: Path) -> Path:
    """A path as a person would type it from here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
