"""A store of MLflow, opened within seconds or not at all, and in silence."""

from __future__ import annotations

import logging
import os
import urllib.error
import urllib.request
from pathlib import Path

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.utils.file_utils import get_local_path_or_none

from study.credentials import masked
from study.sqlite_uri import sqlite_file

ANSWER_SECONDS = 4.0
"""In which a server must answer before anything is asked of it."""
LOCKED = "database is locked"
"""What SQLite says where another program has had a database for itself for too long."""

os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# Its own are 7 retries of 120 s each: a server that hangs would be waited for as long as a study takes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
logging.getLogger("mlflow").setLevel(logging.WARNING)
logging.getLogger("alembic").setLevel(logging.WARNING)
# It prints 5 KB of traceback of every fault that it raises as well, which is said in a line here.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def open_store(uri: str) -> MlflowClient:
    """A client of a store: OSError, soon, where a server does not answer, and whatever MLflow raises.

    Two processes that make the tables of a fresh SQLite file at once would end each other, so one waits.
    """
    if is_server(uri):
        _ask(uri)
    database = sqlite_file(uri)
    if database is None:
        return MlflowClient(tracking_uri=uri)
    with FileLock(f"{database}.lock"):
        return MlflowClient(tracking_uri=uri)


def is_server(uri: str) -> bool:
    """Whether a tracking URI is that of a server, which may be away, and not of a database."""
    return uri.startswith(("http://", "https://"))


def _ask(uri: str) -> None:
    """OSError, soon, where a server does not answer: MLflow's client would wait for minutes."""
    request = urllib.request.Request(uri.rstrip("/") + "/health")
    try:
        urllib.request.urlopen(request, timeout=ANSWER_SECONDS).close()
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            raise
        # Something answers; a proxy may know of no /health, and MLflow's client says what it refuses.


def artifacts_beside(uri: str) -> Path | None:
    """Where the artifacts of a SQLite store belong; None of another store."""
    database = sqlite_file(uri)
    return Path(database).parent / "mlartifacts" if database else None


def is_gone(place: str, expected: Path) -> bool:
    """Whether an experiment's artifacts, at this URI, were kept on this machine somewhere that is no longer
    there."""
    kept = get_local_path_or_none(place)
    return kept is not None and Path(kept) != expected and not Path(kept).exists()


def short(error: Exception) -> str:
    """What an error says, in one line without credentials and without the statement of a database."""
    said = str(error).partition("[SQL:")[0]
    return masked(" ".join(said.split()))[:300] or type(error).__name__
