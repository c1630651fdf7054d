"""The command line: `radtune`, or `python -m study` from an uninstalled checkout.

A thin layer: it reads arguments, calls one function, prints what that returns. Every import of weight stands
inside the command that needs it, so that `radtune --help` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cohort.errors import InputError
from search_spaces import SPACES

EXAMPLES = """\
a first study, start to end:
  radtune cohort sample --out cohorts/sample
  radtune run configs/sample_probe.yaml
  radtune analyze runs/sample-probe
  radtune export runs/sample-probe --out exports/sample
  radtune predict exports/sample IMAGE.png
  radtune ui
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it succeeded, 2 for what the user can mend, 130 when interrupted."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        arguments.command(arguments)
    except InputError as error:
        if arguments.debug:
            raise
        print(f"radtune: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("radtune: interrupted; a study goes on with `radtune run STUDY.yaml --resume`", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="radtune",
        description="Adapt a biomedical vision-language model to rare, co-occurring labels, "
        "and know what may be claimed.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_cohort(commands)

    embed = _command(commands, "embed", _embed, "fill the embedding cache of a cohort and an encoder")
    embed.add_argument("cohort", metavar="DIR", help="a cohort folder")
    embed.add_argument("--encoder", required=True, metavar="NAME", help=ENCODERS)
    embed.add_argument(
        "--features",
        choices=("projected", "pooled"),
        default="projected",
        help="after or before the projection into the joint space (default: %(default)s)",
    )
    embed.add_argument("--cache", default="cache", help="cache folder (default: %(default)s)")
    embed.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16"),
        default="auto",
        help="auto: bf16 where the processor computes in it (default: %(default)s)",
    )
    embed.add_argument("--batch-size", type=int, default=64, help="images at a time (default: %(default)s)")

    run = _command(
        commands,
        "run",
        _run,
        "run a study, or continue one",
        "radtune run configs/sample_probe.yaml --set search.configurations=128",
    )
    run.add_argument("study", metavar="STUDY.yaml", help="the study file")
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

    space = _command(
        commands,
        "space",
        _space,
        "what a study searches, and the published presets",
        "radtune space linear_probe",
    )
    space.add_argument("name", metavar="NAME", choices=SPACES, help=" or ".join(SPACES))

    show = _command(commands, "show", _show, "show a study while it runs or afterwards")
    show.add_argument("run", metavar="RUN", help="a run folder, such as runs/sample-probe")

    analyze = _command(
        commands,
        "analyze",
        _analyze,
        "score floors, zero-shot and the best trials on the test split; write the report",
    )
    analyze.add_argument("run", metavar="RUN", help="a run folder")

    export = _command(
        commands,
        "export",
        _export,
        "export the best trial as a bundle that predicts",
        "radtune export runs/sample-probe --out exports/sample --with-encoder",
    )
    export.add_argument("run", metavar="RUN", help="a run folder")
    export.add_argument("--out", required=True, metavar="DIR", help="the bundle's folder")
    export.add_argument("--trial", type=int, metavar="N", help="trial number (default: best on validation)")
    export.add_argument("--with-encoder", action="store_true", help="put the encoder's weights in as well")

    predict = _command(
        commands,
        "predict",
        _predict,
        "probabilities and decisions of a bundle, as CSV",
        "radtune predict exports/sample scans/*.png --out predictions.csv",
    )
    predict.add_argument("bundle", metavar="BUNDLE", help="a folder that `radtune export` wrote")
    predict.add_argument("images", nargs="+", metavar="IMAGE", help="PNG or JPEG files")
    predict.add_argument("--out", metavar="CSV", help="file to write (default: standard output)")
    predict.add_argument("--skip-unreadable", action="store_true", help="leave unreadable images out")

    ui = _command(commands, "ui", _ui, "open MLflow's own UI on the studies' store, on this machine only")
    ui.add_argument("--port", type=int, default=5000, help="port on 127.0.0.1 (default: %(default)s)")
    ui.add_argument("--uri", default="sqlite:///mlflow.db", help="tracking URI (default: %(default)s)")
    return parser


ENCODERS = (
    "phantom-clip, pixels, biomedclip, hf-hub:OWNER/NAME, local-dir:PATH or MODEL/PRETRAINED of open_clip"
)


def _command(commands, name, function, summary, example=""):  # type: ignore[no-untyped-def]
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


# cohort ----------------------------------------------------------------------------------------------------


def _add_cohort(commands) -> None:  # type: ignore[no-untyped-def]
    parser = commands.add_parser(
        "cohort", help="build a cohort, or show one", description="Build a cohort, or show one."
    )
    kinds = parser.add_subparsers(title="sources", required=True, metavar="SOURCE")

    sample = _command(
        kinds,
        "sample",
        _cohort_sample,
        "draw the embedded sample of radiograph phantoms",
        "radtune cohort sample --out cohorts/sample",
    )
    sample.add_argument("--images", type=int, default=1200, help="how many (default: %(default)s)")
    sample.add_argument("--size", type=int, default=128, help="pixels a side (default: %(default)s)")
    sample.add_argument("--seed", type=int, default=0, help="same seed, same files (default: %(default)s)")

    iu_xray = _command(
        kinds,
        "iu-xray",
        _cohort_iu_xray,
        "read IU-Xray from its Kaggle tables",
        "radtune cohort iu-xray --reports indiana_reports.csv "
        "--projections indiana_projections.csv --images images/images_normalized --out cohorts/iu",
    )
    iu_xray.add_argument("--reports", required=True, metavar="CSV", help="indiana_reports.csv")
    iu_xray.add_argument("--projections", required=True, metavar="CSV", help="indiana_projections.csv")
    iu_xray.add_argument("--images", required=True, metavar="DIR", help="folder of the PNGs")
    iu_xray.add_argument(
        "--labels",
        metavar="CSV",
        help="CheXpert/CheXbert labels of the reports (default: from the manual MeSH annotation)",
    )
    iu_xray.add_argument(
        "--split",
        choices=("stratified", "paper"),
        default="stratified",
        help="patient-grouped and multi-label stratified, or the paper's procedure (default: %(default)s)",
    )
    iu_xray.add_argument("--seed", type=int, default=0, help="of the stratified split (default: %(default)s)")

    table = _command(
        kinds,
        "table",
        _cohort_table,
        "read any CSV or Parquet table with its images",
        "radtune cohort table --table labels.csv --images images --image-column image_id "
        "--patient-column patient_id --labels Cardiomegaly,Effusion --out cohorts/mine",
    )
    table.add_argument(
        "--table", required=True, metavar="CSV|PARQUET", help="a row an image, or an image and label"
    )
    table.add_argument("--images", required=True, metavar="DIR|ZIP", help="the images")
    table.add_argument(
        "--image-column", required=True, metavar="C", help="file names, with or without ending"
    )
    table.add_argument("--patient-column", metavar="C", help="groups the split (default: each image its own)")
    table.add_argument("--study-column", metavar="C")
    table.add_argument("--view-column", metavar="C")
    table.add_argument("--views", metavar="PA,AP", help="keep these views only")
    labels = table.add_mutually_exclusive_group(required=True)
    labels.add_argument("--labels", metavar="A,B,C", help="label columns holding 1, 0, -1 or blank")
    labels.add_argument("--label-column", metavar="C", help="one label a row, in this column")
    table.add_argument("--split-column", metavar="C", help="train, val, test (default: a stratified split)")
    table.add_argument("--keep", metavar="sex,age", help="columns to carry along")
    table.add_argument("--seed", type=int, default=0, help="of the stratified split (default: %(default)s)")

    for reader in (iu_xray, table):
        reader.add_argument(
            "--uncertain",
            default="ignore",
            metavar="RULE",
            help="ignore, zeros, ones, or LABEL=RULE,... for what is marked -1 (default: ignore)",
        )
        reader.add_argument(
            "--blank",
            choices=("negative", "missing"),
            help="what an empty cell means (default: missing; negative in a CheXpert/CheXbert table)",
        )
        reader.add_argument(
            "--no-finding",
            choices=("complement", "strict", "as-given"),
            help="how the label No Finding comes about",
        )
        reader.add_argument("--skip-unreadable", action="store_true", help="leave unreadable images out")
    for reader in (sample, iu_xray, table):
        reader.add_argument("--out", required=True, metavar="DIR", help="the cohort's folder")

    show = _command(
        kinds, "show", _cohort_show, "counts, prevalence, patients, what is missing or contradicts"
    )
    show.add_argument("cohort", metavar="DIR", help="a cohort folder")


def _cohort_sample(arguments: argparse.Namespace) -> None:
    from cohort.phantom import draw_cohort
    from cohort.summary import describe

    print(describe(draw_cohort(arguments.out, arguments.images, arguments.size, arguments.seed)))


def _cohort_iu_xray(arguments: argparse.Namespace) -> None:
    from cohort.readers.iu_xray import read_iu_xray
    from cohort.summary import describe

    cohort = read_iu_xray(
        arguments.reports,
        arguments.projections,
        arguments.images,
        arguments.out,
        labels=arguments.labels,
        split=arguments.split,
        seed=arguments.seed,
        **_policy(arguments),
    )
    print(describe(cohort))


def _cohort_table(arguments: argparse.Namespace) -> None:
    from cohort.readers.table import read_table
    from cohort.summary import describe

    cohort = read_table(
        arguments.table,
        arguments.images,
        arguments.out,
        image_column=arguments.image_column,
        patient_column=arguments.patient_column,
        study_column=arguments.study_column,
        view_column=arguments.view_column,
        views=_names(arguments.views) or None,
        labels=_names(arguments.labels) or None,
        label_column=arguments.label_column,
        split_column=arguments.split_column,
        keep=_names(arguments.keep),
        seed=arguments.seed,
        **_policy(arguments),
    )
    print(describe(cohort))


def _policy(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the readers share; what is not given is left to the reader's own default."""
    given = {name: getattr(arguments, name) for name in ("blank", "no_finding")}
    uncertain: str | dict[str, str] = arguments.uncertain
    if "=" in arguments.uncertain:
        uncertain = dict(part.split("=", 1) for part in _names(arguments.uncertain) if "=" in part)
        if loose := [part for part in _names(arguments.uncertain) if "=" not in part]:
            raise InputError(f"--uncertain {loose[0]}: expected LABEL=ignore, LABEL=zeros or LABEL=ones")
    chosen = {name: value for name, value in given.items() if value is not None}
    return {"uncertain": uncertain, "skip_unreadable": arguments.skip_unreadable} | chosen


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()] if text else []


def _cohort_show(arguments: argparse.Namespace) -> None:
    from cohort.manifest import Cohort
    from cohort.summary import describe

    print(describe(Cohort.open(arguments.cohort)))


# encoders and studies --------------------------------------------------------------------------------------


def _embed(arguments: argparse.Namespace) -> None:
    from cohort.manifest import Cohort
    from vlm.embeddings import embed
    from vlm.encoders import load_encoder

    cohort = Cohort.open(arguments.cohort)
    encoder = load_encoder(arguments.encoder, features=arguments.features)
    embeddings = embed(
        cohort, encoder, cache=arguments.cache, batch_size=arguments.batch_size, precision=arguments.precision
    )
    images, width = embeddings.features_ND.shape
    origin = "from the cache" if embeddings.cached else "computed"
    what = f"{images} x {width} features of {encoder.name}, {embeddings.precision}"
    print(f"{what}, {origin}: {embeddings.folder}")


def _run(arguments: argparse.Namespace) -> None:
    from study.study import Study

    study = Study.from_yaml(arguments.study, arguments.overrides)
    study.run(resume=arguments.resume, echo=_say)
    folder = _shown(study.folder.path)
    print(f"next: radtune analyze {folder}    (test scores with floors and intervals, and the report)")


def _space(arguments: argparse.Namespace) -> None:
    from search_spaces.describe import describe

    print(describe(arguments.name), end="")


def _show(arguments: argparse.Namespace) -> None:
    from study.standing import describe_run
    from study.study import Study

    print(describe_run(Study.open(arguments.run).folder))


def _analyze(arguments: argparse.Namespace) -> None:
    from study.study import Study

    study = Study.open(arguments.run)
    result = study.analyze()
    print(result.text)
    print(f"\nreport: {_shown(result.report)}")
    print(f"next: radtune export {_shown(study.folder.path)} --out exports/{study.config.name}")


def _export(arguments: argparse.Namespace) -> None:
    from study.study import Study

    study = Study.open(arguments.run)
    folder = study.export(arguments.out, trial=arguments.trial, with_encoder=arguments.with_encoder)
    print(f"exported: {folder}    model card: {folder / 'README.md'}")
    print(f"next: radtune predict {folder} IMAGE...")


def _predict(arguments: argparse.Namespace) -> None:
    from vlm.bundle import Bundle

    bundle = Bundle.load(arguments.bundle)
    table = bundle.predict(arguments.images, skip_unreadable=arguments.skip_unreadable)
    frame = table.to_pandas()
    frame.to_csv(arguments.out or sys.stdout, index=False, float_format="%.6f")
    if arguments.out:
        print(f"{len(frame)} images: {arguments.out}")


def _ui(arguments: argparse.Namespace) -> None:
    import socket

    prefix = "sqlite:///"
    uri = arguments.uri
    if uri.startswith(prefix):
        database = Path(uri.removeprefix(prefix)).absolute()
        if not database.exists():
            raise InputError(f"{database}: no MLflow store there; start where studies are run, or give --uri")
        uri = prefix + str(database)
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", arguments.port)) == 0:
            raise InputError(f"--port {arguments.port}: in use already; give another one")
    print(f"MLflow on http://127.0.0.1:{arguments.port} (Ctrl-C ends it)", flush=True)
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri]
    os.execv(sys.executable, [*command, "--host", "127.0.0.1", "--port", str(arguments.port)])


def _say(line: str) -> None:
    print(line, flush=True)


def _shown(path: Path) -> Path:
    """A path as a person would type it from here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
