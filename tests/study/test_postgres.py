"""A study that logs to an MLflow server on a real PostgreSQL."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient

from study import Study
from study.cli import main
from tests.study.conftest import settings, square_cohort
from tests.study.test_tracking import children, free_port, mlflow_server

PASSWORD = "s3cret"


def program(name: str) -> str:
    """A program of PostgreSQL, which Debian keeps off the PATH; skips where there is none."""
    places = [path.parent for path in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))]
    found = shutil.which(name, path=os.pathsep.join([os.environ["PATH"], *map(str, places)]))
    if found is None:
        pytest.skip(f"no {name} on this machine: `apt-get install postgresql` brings it")
    return found


@pytest.fixture
def database():
    """The URI of an empty database of this test's own, on a port of its own."""
    psycopg2 = pytest.importorskip("psycopg2", reason="the extra postgres is not installed")
    initdb, postgres = program("initdb"), program("postgres")
    # PostgreSQL refuses root, and nobody else may enter pytest's own folders.
    other = {"user": "nobody"} if os.getuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="radtune-", dir="/tmp"))
    (folder / "password").write_text(PASSWORD)
    if other:
        for path in (folder, folder / "password"):
            shutil.chown(path, **other)
    options = ["--username=mlflow", "--auth=scram-sha-256", f"--pwfile={folder / 'password'}", "--no-sync"]
    subprocess.run(
        [initdb, f"--pgdata={folder / 'data'}", *options],
        check=True,
        capture_output=True,
        cwd=folder,
        **other,
    )
    port = free_port()
    options = ["-D", str(folder / "data"), "-h", "127.0.0.1", "-p", str(port), "-k", str(folder), "-F"]
    with open(folder / "log", "w") as log:
        server = subprocess.Popen([postgres, *options], cwd=folder, stdout=log, stderr=log, **other)
    uri = f"postgresql://mlflow:{PASSWORD}@127.0.0.1:{port}/postgres"
    try:
        deadline = time.monotonic() + 60
        while True:
            assert server.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()[-2000:]
            try:
                psycopg2.connect(uri).close()
                break
            except psycopg2.OperationalError:
                time.sleep(0.2)
        yield uri
    finally:
        server.send_signal(signal.SIGINT)  # ends it though a client is connected
        server.wait(timeout=30)
        shutil.rmtree(folder)


@pytest.mark.slow
def test_a_study_is_logged_by_a_server_on_postgresql(database, tmp_path, capsys):
    import psycopg2

    square_cohort(tmp_path / "cohort")
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    store = database.replace("postgresql://", "postgresql+psycopg2://")
    with mlflow_server(port, tmp_path, store) as log:
        deadline = time.monotonic() + 180
        while main(["ui", "--uri", uri]) != 0:
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(1)
        capsys.readouterr()
        lines: list[str] = []
        given = settings(tmp_path, configurations=8) | {"tracking": {"uri": uri}}
        study = Study.from_dict(given).run(echo=lines.append)
        assert not any("MLflow" in line for line in lines), lines
        parent = study.folder.mlflow_run_file.read_text().strip()
        assert sorted(children(uri, parent)) == list(range(8))
        assert main(["analyze", str(study.folder.path), "--only", "scores"]) == 0
        run = MlflowClient(uri).get_run(parent)
        assert "| final model, test |" in run.data.tags["mlflow.note.content"]
        assert run.inputs.dataset_inputs[0].dataset.name == "cohort"
        assert next((tmp_path / "artifacts").rglob("analysis/report.html")).stat().st_size
        main(["ui", "--uri", uri])
        assert f"squares: {uri}/#/experiments/" in capsys.readouterr().out
        with closing(psycopg2.connect(database)) as connection, connection.cursor() as cursor:
            cursor.execute("select count(*) from runs")
            assert cursor.fetchone() == (9,)
