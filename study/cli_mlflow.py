"""`radtune ui` and `radtune sync`: what people see in MLflow, and what it lacks."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from cohort.errors import InputError
from study.command import Commands, add_command


def add_commands_to(commands: Commands) -> None:
    """Add `ui` and `sync` to the parsers `commands`."""
    ui = add_command(commands, "ui", _ui, "open MLflow's own UI on the studies' store, on this machine only")
    ui.add_argument("--port", type=int, default=5000, help="port on 127.0.0.1 (default: %(default)s)")
    ui.add_argument("--uri", default="sqlite:///mlflow.db", help="tracking URI (default: %(default)s)")

    sync = add_command(
        commands,
        "sync",
        _sync,
        "send to MLflow what it lacks of a study, after its server was away",
        "radtune sync runs/sample-probe",
    )
    sync.add_argument("run", metavar="RUN", help="a run folder")


def _ui(arguments: argparse.Namespace) -> None:
    import socket

    from study.config import SQLITE
    from study.tracking import is_server, runs_page

    uri = arguments.uri
    if uri.startswith(SQLITE):
        database = Path(uri.removeprefix(SQLITE)).absolute()
        if not database.exists():
            raise InputError(f"{database}: no MLflow store there; start where studies are run, or give --uri")
        uri = SQLITE + str(database)
    if is_server(uri):
        print(f"MLflow on {uri.rstrip('/')}{runs_page(uri)}")
        return
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", arguments.port)) == 0:
            raise InputError(f"--port {arguments.port}: in use already; give another one")
    page = f"http://127.0.0.1:{arguments.port}{runs_page(uri)}"
    print(f"MLflow, in some 20 s, on {page} (Ctrl-C ends it)", flush=True)
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri]
    os.execv(sys.executable, [*command, "--host", "127.0.0.1", "--port", str(arguments.port)])


def _sync(arguments: argparse.Namespace) -> None:
    from study.study import Study

    study = Study.open(arguments.run)
    if complaint := study.sync():
        raise InputError(complaint)
    print(f"MLflow ({study.config.tracking.uri}) holds all {len(study.records)} configurations")
