"""`radtune export`: a study's answer as a bundle, and as a model in MLflow's registry."""

from __future__ import annotations

import argparse

from study.command import Commands, add_command, shown_command


def add_command_to(commands: Commands) -> None:
    """Add `export` to the parsers `commands`."""
    export = add_command(
        commands,
        "export",
        _export,
        "export the study's final model, or one trial, as a bundle that predicts",
        "radtune export runs/sample-probe --out exports/sample --with-encoder",
    )
    export.add_argument("run", metavar="RUN", help="a run folder")
    export.add_argument("--out", required=True, metavar="DIR", help="the bundle's folder")
    export.add_argument(
        "--trial",
        type=int,
        metavar="N",
        help="this trial instead of the final model, which is several heads averaged in a cross-validated "
        "study and the best on validation otherwise; a published configuration keeps the published threshold",
    )
    export.add_argument(
        "--with-encoder",
        action="store_true",
        help="put the encoder's weights in as well; those of a path always are",
    )
    export.add_argument(
        "--register",
        metavar="NAME@alias",
        help="register the bundle in the study's MLflow store too, as the newest version of the model NAME",
    )


def _export(arguments: argparse.Namespace) -> None:
    from study.study import Study

    study = Study.open(arguments.run)
    if arguments.register:
        from study.registered_model import registered_name

        registered_name(arguments.register)  # before the test split is counted and the bundle written
    folder = study.export(arguments.out, trial=arguments.trial, with_encoder=arguments.with_encoder)
    print(f"exported: {folder}    model card: {folder / 'README.md'}")
    if arguments.register:
        number = study.register(folder, arguments.register)
        print(f"registered: models:/{arguments.register}, version {number}")
    print(f"next: {shown_command('predict', folder)} IMAGE...")
