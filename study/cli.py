"""The command line: `radtune`, or `python -m study` from an uninstalled checkout.

A thin layer: it reads arguments, calls one function, prints what that returns. Every import of weight stands
inside the command that needs it, so that `radtune --help` answers at once.
"""

from __future__ import annotations

import argparse
import errno
import sys
from collections.abc import Sequence

from cohort.errors import InputError, shortened
from cohort.readers.name_lists import comma_separated
from cohort.version import VERSION
from search_spaces import SPACES
from study import (
    cli_analyze,
    cli_cohort,
    cli_compare,
    cli_doctor,
    cli_export,
    cli_mlflow,
    cli_run,
    cli_saliency,
    cli_verify,
)
from study.command import Commands, add_command, add_download_flag
from study.ray_watch import RayDied, end_process
from study.streams import close_stdout, complain, hide_warnings, prepare_streams

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
        complain(f"error: {error}")
        return 2
    except RayDied as error:
        end_process(str(error))
    except KeyboardInterrupt:
        remedy = "; a study goes on with `radtune run STUDY.yaml --resume`"
        complain("interrupted" + (remedy if arguments.command is cli_run.run else ""))
        return 130
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        close_stdout()
        return 0
    except OSError as error:
        if arguments.debug or error.errno not in NO_ROOM:
            raise
        if error.filename is None:  # printing
            close_stdout()
        place = shortened(str(error.filename or "standard output"))
        complain(f"error: {place}: {error.strerror}; {NO_ROOM[error.errno]}")
        return 2


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
    cli_run.add_commands_to(commands)
    _add_space(commands)
    cli_analyze.add_command_to(commands)
    cli_compare.add_command_to(commands, ENCODERS)
    cli_export.add_command_to(commands)
    _add_predict(commands)
    cli_saliency.add_command_to(commands)
    cli_verify.add_command_to(commands)
    cli_doctor.add_command_to(commands)
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


def _add_space(commands: Commands) -> None:
    space = add_command(
        commands,
        "space",
        _space,
        "what a study searches, and the published presets",
        "radtune space linear_probe",
    )
    space.add_argument("name", metavar="NAME", choices=SPACES, help=" or ".join(SPACES))


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
        help="image files (PNG, JPEG, TIFF, DICOM, ...), folders of them, or quoted patterns such as "
        "'scans/a*.png'",
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


def _space(arguments: argparse.Namespace) -> None:
    from search_spaces.describe import describe

    print(describe(arguments.name), end="")


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
