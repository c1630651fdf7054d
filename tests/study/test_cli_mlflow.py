"""`radtune ui` and `radtune dashboard`: servers that answer when their page is printed, and then end."""

import builtins
import signal
import socket
import subprocess
import sys
import urllib.request

import optuna
import pytest

from study.cli import main
from study.journal import begun_journal, shown_journal
from tests.conftest import REPOSITORY
from tests.study.test_tracking import free_port


class Command:
    """`radtune ...` as a person starts it; its lines up to the one that says how it ends."""

    def __init__(self, *words: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "study", *words],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if line.startswith("Ctrl-C"):
                break

    def end(self, how: signal.Signals) -> tuple[int, str]:
        self.process.send_signal(how)
        rest = self.process.communicate(timeout=60)[0]
        return self.process.returncode, rest


def got(address: str) -> tuple[int, str]:
    with urllib.request.urlopen(address, timeout=30) as answer:
        return answer.status, answer.read().decode()


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_the_ui_answers_when_it_prints_its_pages_and_ends_with_all_its_processes(studied, how):
    study, _ = studied
    port = free_port()
    command = Command("ui", "--port", str(port), "--uri", study.config.tracking.uri)
    try:
        parent = study.folder.mlflow_run_file.read_text().strip()
        assert len(command.lines) == 3, command.lines  # and no warning
        assert command.lines[0].startswith(f"squares: http://127.0.0.1:{port}/#/experiments/")
        assert command.lines[0].endswith(f"viewStateShareKey={parent}")
        assert command.lines[1].startswith(f"All studies: http://127.0.0.1:{port}/#/")
        assert got(f"http://127.0.0.1:{port}/")[0] == 200
        assert main(["ui", "--port", str(port), "--uri", study.config.tracking.uri]) == 2
    finally:
        ended = command.end(how)
    assert ended == (0, "") and is_free(port)


def test_open_opens_the_latest_study_and_only_a_few_are_printed(monkeypatch, capsys):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    found = [(f"study {place}", f"/#/{place}") for place in range(8)] + [("All studies", "/#/all")]
    monkeypatch.setattr("study.mlflow_experiment.pages", lambda uri: found)
    assert main(["ui", "--uri", "http://127.0.0.1:1", "--open"]) == 0
    assert opened == ["http://127.0.0.1:1/#/0"]
    assert capsys.readouterr().out.splitlines() == [
        *(f"study {place}: http://127.0.0.1:1/#/{place}" for place in range(5)),
        "All studies: http://127.0.0.1:1/#/all",
    ]
    found = []
    assert main(["ui", "--uri", "http://127.0.0.1:1"]) == 0
    assert capsys.readouterr().out == "MLflow: http://127.0.0.1:1\n" and len(opened) == 1


def test_a_store_that_mlflow_cannot_serve_ends_in_one_line(tmp_path, capsys):
    (tmp_path / "store").write_text("this is no database, but long enough to be taken for a damaged one")
    assert main(["ui", "--port", str(free_port()), "--uri", f"sqlite:///{tmp_path}/store"]) == 2
    assert "MLflow cannot open this store" in capsys.readouterr().err


def test_a_journal_is_read_while_its_driver_writes_and_never_written_to(tmp_path):
    path = tmp_path / "optuna.journal"
    study = optuna.create_study(study_name="a", storage=begun_journal(path), direction="maximize")
    study.tell(study.ask(), 0.5)
    shown = optuna.load_study(study_name="a", storage=shown_journal(path))
    assert [trial.value for trial in shown.trials] == [0.5]
    study.tell(study.ask(), 0.75)
    with open(path, "ab") as file:
        file.write(b'{"op_code": 4, "wor')  # half a line, as a driver that writes at this moment leaves it
    before = path.read_bytes()
    assert [trial.value for trial in shown.trials] == [0.5, 0.75]
    with pytest.raises(PermissionError, match="only its driver writes to it"):
        shown.ask()
    assert path.read_bytes() == before and [one.name for one in tmp_path.iterdir()] == [path.name]


@pytest.mark.slow
def test_the_dashboard_shows_the_study_and_leaves_its_journal_alone(studied):
    pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed")
    study, _ = studied
    port, before = free_port(), study.folder.journal.read_bytes()
    command = Command("dashboard", str(study.folder.path), "--port", str(port))
    try:
        page = f"http://127.0.0.1:{port}/dashboard"
        assert command.lines[0] == f"{study.folder.journal}, only read: {page}"
        assert got(page)[0] == 200
        assert '"study_name": "squares"' in got(f"http://127.0.0.1:{port}/api/studies")[1]
    finally:
        ended = command.end(signal.SIGINT)
    assert ended == (0, "") and is_free(port)
    assert study.folder.journal.read_bytes() == before


def test_without_optuna_dashboard_the_extra_is_named(studied, monkeypatch, capsys):
    real = builtins.__import__

    def absent(name, *rest):
        if name == "optuna_dashboard":
            raise ModuleNotFoundError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    assert main(["dashboard", str(studied[0].folder.path)]) == 2
    said = capsys.readouterr().err
    assert "`pip install -e '.[dashboard]'` adds it" in said and said.count("\n") == 1
