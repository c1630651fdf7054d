"""`radtune ui`, `radtune sync` and `radtune dashboard`: what people see of a study in a browser."""

from __future__ import annotations

import argparse
import sys
import threading
import webbrowser
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from cohort.errors import InputError
from study.command import Commands, add_command
from study.credentials import masked
from study.server_process import ended_by_ctrl_c, refuse_used, serve

STUDIES_SHOWN = 5
"""Of how many studies, the latest, `radtune ui` prints the page."""


def add_commands_to(commands: Commands) -> None:
    """Add `ui`, `sync` and `dashboard` to the parsers `commands`."""
    ui = add_command(commands, "ui", _ui, "open MLflow's own UI on the studies' store, on this machine only")
    ui.add_argument("--port", type=int, default=5000, help="port on 127.0.0.1 (default: %(default)s)")
    ui.add_argument("--uri", default="sqlite:///mlflow.db", help="tracking URI (default: %(default)s)")
    ui.add_argument("--open", action="store_true", help="open the latest study's page in the browser")

    sync = add_command(
        commands,
        "sync",
        _sync,
        "send to MLflow what it lacks of a study, after its server was away",
        "radtune sync runs/sample-probe",
    )
    sync.add_argument("run", metavar="RUN", help="a run folder")

    dashboard = add_command(
        commands,
        "dashboard",
        _dashboard,
        "open optuna-dashboard on a study's journal, which it only reads, on this machine only",
        "radtune dashboard runs/sample-probe",
    )
    dashboard.add_argument("run", metavar="RUN", help="a run folder; its study may be running")
    dashboard.add_argument("--port", type=int, default=8080, help="port on 127.0.0.1 (default: %(default)s)")


def _ui(arguments: argparse.Namespace) -> None:
    from study.mlflow_experiment import pages
    from study.mlflow_store import is_server
    from study.sqlite_uri import sqlite_file, with_file

    uri = arguments.uri
    try:
        file = sqlite_file(uri)
    except ValueError as error:
        raise InputError(f"--uri {masked(uri)}: {error}") from None
    if file:
        database = Path(file).absolute()
        if not database.exists():
            raise InputError(f"{database}: no MLflow store there; start where studies are run, or give --uri")
        uri = with_file(uri, str(database))
    if is_server(uri):
        _show(uri.rstrip("/"), pages(uri), arguments.open)
        return
    address = f"http://127.0.0.1:{arguments.port}"
    refuse_used(arguments.port)
    found = pages(uri)

    def ready() -> None:
        _show(address, found, arguments.open)
        print("Ctrl-C ends it", flush=True)

    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(arguments.port)]
    # The store's address may hold a password, which a command's arguments would show to everybody.
    serve([*command, "--workers", "1"], {"MLFLOW_BACKEND_STORE_URI": uri}, arguments.port, ready)


def _show(address: str, pages: list[tuple[str, str]], opened: bool) -> None:
    """Print where studies are to be seen, the latest first, and open the first of these pages if wanted."""
    shown = [*pages[:STUDIES_SHOWN], *pages[STUDIES_SHOWN:][-1:]] or [("MLflow", "")]
    for name, page in shown:
        print(f"{name}: {address}{page}", flush=True)
    if opened:
        webbrowser.open(address + shown[0][1])


def _sync(arguments: argparse.Namespace) -> None:
    from study.study import Study

    study = Study.open(arguments.run)
    if complaint := study.sync():
        raise InputError(complaint)
    print(f"MLflow ({masked(study.config.tracking.uri)}) holds all {len(study.records)} configurations")


def _dashboard(arguments: argparse.Namespace) -> None:
    from wsgiref.simple_server import WSGIRequestHandler, make_server

    from study.study import Study

    try:
        from optuna_dashboard import wsgi
    except ImportError:
        raise InputError(
            "radtune dashboard: optuna-dashboard is not installed; in the checkout, `pip install -e "
            "'.[dashboard]'` adds it"
        ) from None
    from study.journal import beginning, shown_journal

    class Silent(WSGIRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    journal = Study.open(arguments.run).folder.journal
    if not journal.exists():
        raise InputError(f"{arguments.run}: nothing was asked for yet, so there is no journal to show")
    refuse_used(arguments.port)

    @lru_cache(maxsize=1)
    def page(beginning: bytes) -> Callable[..., Iterable[bytes]]:
        """Of the journal that begins so: a driver that takes the study up begins another."""
        return wsgi(shown_journal(journal))

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        return page(beginning(journal))(environ, start_response)

    with make_server("127.0.0.1", arguments.port, application, handler_class=Silent) as server:
        # In a thread: while it answers, wsgiref takes Ctrl-C for a fault of the page and goes on.
        serving = threading.Thread(target=server.serve_forever, daemon=True)
        serving.start()
        with ended_by_ctrl_c():
            print(f"{journal}, only read: http://127.0.0.1:{arguments.port}/dashboard", flush=True)
            print("Ctrl-C ends it", flush=True)
            serving.join()
        server.shutdown()
