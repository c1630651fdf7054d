"""What stands in the MLflow store, and what happens when the store refuses."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from mlflow import MlflowClient

from analysis.report_parts import ReportPart, write_part
from cohort.errors import InputError
from study import Study
from study.cli import main
from study.mlflow_experiment import KIND_TAG, pages
from study.sqlite_uri import sqlite_uri
from study.study_runs import CURVE_EPOCHS, NUMBER_TAG
from study.tracked_analysis import record_test_access
from study.tracked_study import TrackedStudy
from study.tracking import StudyTracker
from tests.conftest import REPOSITORY
from tests.study.conftest import settings, square_cohort
from trainables.records import TrialRecord, as_on_given_split

RUN_FILE = "mlflow_run_id"


def tracker_of(uri: str, name: str, folder, **changes) -> StudyTracker:
    study = {
        "name": name,
        "tags": {"radtune.study": name, "radtune.trainable": "linear_probe", "radtune.encoder": "pixels"},
        "params": {"cohort": "squares", "search.selection": "split", "search.seed": 0},
        "objective": "val.macro_ap",
        "searched": ("loss", "learning_rate"),
        "cohort": "/data/squares",
        "cohort_hash": "c0ffee" * 10,
        "labels": ("Bright", "Left"),
    }
    return StudyTracker(uri, TrackedStudy(**study | changes), folder / RUN_FILE)


def record(number: int, epochs: int = 3, **changes) -> TrialRecord:
    curve = [{"epoch": epoch, "objective": epoch / 1000} for epoch in range(1, epochs + 1)]
    return TrialRecord(
        **{
            "number": number,
            "params": {"loss": "bce", "learning_rate": 1e-3},
            "state": "COMPLETE",
            "objective": 0.5,
            "metrics": {"val.macro_ap": 0.5, "val.absent": float("nan")},
            "curve": curve,
        }
        | changes
    )


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    """One store for the module: making its tables takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"


def children(uri: str, parent: str) -> dict[int, object]:
    client = MlflowClient(uri)
    runs = client.search_runs(
        [client.get_run(parent).info.experiment_id],
        filter_string=f"tags.`mlflow.parentRunId` = '{parent}'",
    )
    return {int(run.data.tags[NUMBER_TAG]): run for run in runs}


def test_a_curve_is_logged_by_epoch_and_a_long_one_thinned_to_its_last(uri, tmp_path):
    tracker = tracker_of(uri, "curves", tmp_path)
    records = [
        record(0, epochs=3),
        record(1, epochs=CURVE_EPOCHS),
        record(2, epochs=1000),
        record(3, epochs=0),
    ]
    tracker.log(records)
    assert tracker.close(records, [], {}) == ""
    client, runs = MlflowClient(uri), children(uri, tracker.parent)
    steps = {
        number: [
            point.step for point in client.get_metric_history(runs[number].info.run_id, "curve.objective")
        ]
        for number in range(4)
    }
    assert steps[0] == [1, 2, 3]
    assert steps[1] == list(range(1, CURVE_EPOCHS + 1))
    assert steps[2] == list(range(20, 1001, 20))
    assert steps[3] == []


def test_a_failed_trial_and_what_was_got_over_are_told(uri, tmp_path):
    tracker = tracker_of(uri, "faults", tmp_path)
    records = [
        record(0, state="FAIL", reason="diverged in step 7", objective=float("nan")),
        record(1, warnings=["a damaged checkpoint", "another"]),
    ]
    assert tracker.close(records, [], {}) == ""
    runs = children(uri, tracker.parent)
    assert runs[0].info.status == "FAILED" and runs[0].data.tags["radtune.state"] == "FAIL"
    assert runs[0].data.tags["radtune.reason"] == "diverged in step 7"
    assert runs[1].info.status == "FINISHED"
    assert runs[1].data.tags["radtune.warnings"] == "a damaged checkpoint; another"
    assert runs[1].data.metrics == {"val.macro_ap": 0.5, "curve.objective": 0.003}


def test_a_run_that_was_half_logged_is_logged_anew_once(uri, tmp_path):
    first = tracker_of(uri, "halves", tmp_path)
    assert first.close([record(0), record(1)], [], {"seconds": 1.0}) == ""
    MlflowClient(uri).update_run(first.run_ids[1], status="RUNNING")  # as a killed driver leaves it
    second = tracker_of(uri, "halves", tmp_path)
    assert second.parent == first.parent
    assert second.close([record(0), record(1)], [], {}) == ""
    assert sorted(children(uri, first.parent)) == [0, 1]
    assert second.run_ids[0] == first.run_ids[0] and second.run_ids[1] != first.run_ids[1]


def writers() -> set[threading.Thread]:
    """The threads of all trackers of this process."""
    return {thread for thread in threading.enumerate() if thread.name == "mlflow"}


def test_an_abandoned_tracker_writes_no_more_and_a_new_one_logs_the_rest(uri, tmp_path):
    before = writers()
    first = tracker_of(uri, "abandoned", tmp_path)
    first.log([record(number) for number in range(40)])
    first.abandon()
    assert writers() == before
    logged = len(first.run_ids)
    assert logged < 40
    second = tracker_of(uri, "abandoned", tmp_path)
    assert len(second.run_ids) == logged
    assert second.close([record(number) for number in range(40)], [], {}) == ""
    assert sorted(children(uri, first.parent)) == list(range(40))


def test_a_configuration_that_was_trained_again_replaces_its_run(uri, tmp_path):
    """Its bank file was lost, say, and a resume asked for it once more."""
    tracker = tracker_of(uri, "again", tmp_path)
    assert tracker.close([record(0), record(1)], [], {}) == ""
    before = children(uri, tracker.parent)
    tracker = tracker_of(uri, "again", tmp_path)
    trained = record(1, objective=0.7, metrics={"val.macro_ap": 0.7})
    tracker.log([record(0), trained])
    assert tracker.close([record(0), trained], [], {}) == ""
    after = children(uri, tracker.parent)
    assert after[0].info.run_id == before[0].info.run_id and after[1].info.run_id != before[1].info.run_id
    assert {n: run.data.metrics["val.macro_ap"] for n, run in after.items()} == {0: 0.5, 1: 0.7}
    assert tracker.run_ids == {n: run.info.run_id for n, run in after.items()}


def test_the_ui_knows_a_page_of_each_study_the_latest_first_and_one_of_all(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    assert pages(uri) == []
    first = tracker_of(uri, "first", tmp_path)
    first.close([], [], {})
    (tmp_path / RUN_FILE).unlink()
    time.sleep(0.01)  # MLflow keeps milliseconds
    second = tracker_of(uri, "second", tmp_path)
    second.close([], [], {})
    client = MlflowClient(uri)
    experiment = client.get_experiment(client.get_run(first.parent).info.experiment_id)
    assert experiment.tags[KIND_TAG] == "custom_model_development"
    found = pages(uri)
    assert [name for name, _ in found] == ["second", "first", "All studies"]
    begin = f"/#/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning"
    assert found[0][1] == f"{begin}&compareRunsMode=CHART&viewStateShareKey={second.parent}"
    assert found[2][1] == f"{begin}&compareRunsMode=TABLE&viewStateShareKey=studies"
    with server_that("refuses") as away, pytest.raises(InputError, match=r"--uri .*MLflow cannot open"):
        pages(away)


def test_the_latest_studies_alone_keep_their_views(uri, tmp_path, monkeypatch):
    monkeypatch.setattr("study.study_runs.VIEWS", 2)
    parents = []
    for name in ("one", "two", "three"):
        (tmp_path / RUN_FILE).unlink(missing_ok=True)
        parents.append(tracker_of(uri, name, tmp_path))
        parents[-1].close([], [], {})
        time.sleep(0.01)
    assert [name for name, _ in pages(uri)] == ["three", "two", "All studies"]


def test_the_study_s_run_tells_what_was_studied_and_what_came_of_it(uri, tmp_path):
    tracker = tracker_of(uri, "told", tmp_path)
    figures = {"configurations": 2.0, "val.macro_ap": 0.5, "val.logreg": float("nan"), "val.study": 0.625}
    assert tracker.close([record(0), record(1, state="PRUNED")], [], figures) == ""
    run = MlflowClient(uri).get_run(tracker.parent)
    assert run.data.params == {"cohort": "squares", "search.selection": "split", "search.seed": "0"}
    (cohort,) = run.inputs.dataset_inputs
    assert (cohort.dataset.name, cohort.dataset.digest) == ("squares", ("c0ffee" * 10)[:36])
    assert json.loads(cohort.dataset.source) == {"uri": "/data/squares"}
    told = run.data.tags["mlflow.note.content"]
    assert "A linear probe of pixels on the cohort squares; 2 configurations, chosen by split." in told
    assert "| best configuration, validation | 0.500 |\n| final model, validation | 0.625 |" in told
    assert "logistic" not in told
    assert f"viewStateShareKey={tracker.parent}" in told
    runs = children(uri, tracker.parent)
    assert (runs[0].info.status, runs[1].info.status) == ("FINISHED", "KILLED")

    MlflowClient(uri).set_tag(tracker.parent, "mlflow.note.content", told + "Ask Ann about the masks.")
    again = tracker_of(uri, "told", tmp_path)
    assert again.close([record(0), record(1)], [], {"val.study": 0.75}) == ""
    run = MlflowClient(uri).get_run(tracker.parent)
    assert len(run.inputs.dataset_inputs) == 1
    told = run.data.tags["mlflow.note.content"]
    assert "| final model, validation | 0.750 |" in told and told.count("0.625") == 0
    assert told.endswith("\n---\nAsk Ann about the masks.")


def test_the_best_configuration_is_marked_and_it_alone_after_a_resume(uri, tmp_path):
    def best() -> list[int]:
        runs = children(uri, tracker.parent)
        return [number for number, run in runs.items() if "radtune.best" in run.data.tags]

    records = [record(0, objective=0.25), record(1, objective=0.5), record(2, objective=0.75, state="PRUNED")]
    tracker = tracker_of(uri, "best", tmp_path)
    assert tracker.close(records, [], {}) == ""
    assert best() == [1]
    tracker = tracker_of(uri, "best", tmp_path)
    assert tracker.close([*records, record(3, objective=0.625)], [], {}) == ""
    assert best() == [3]
    run = MlflowClient(uri).get_run(tracker.parent)
    assert run.data.tags["radtune.best_run"] == tracker.run_ids[3]


def test_the_ui_s_best_first_names_the_best_that_compares(uri, tmp_path):
    """A published configuration with a far higher score on other images stands last, and so does one that was
    stopped before it had a score."""
    published = record(0, objective=0.9, preset="paper", metrics={"val.macro_ap": 0.9})
    stopped = record(1, state="PRUNED", objective=float("nan"), metrics={}, fold_objectives=[0.8])
    tracker = tracker_of(uri, "scales", tmp_path)
    assert tracker.close([as_on_given_split(published), stopped, record(2), record(3)], [], {}) == ""
    client = MlflowClient(uri)
    ordered = client.search_runs(
        [client.get_run(tracker.parent).info.experiment_id],
        filter_string=f"tags.`mlflow.parentRunId` = '{tracker.parent}'",
        order_by=["metrics.`val.macro_ap` DESC"],
    )
    assert {int(run.data.tags[NUMBER_TAG]) for run in ordered[:2]} == {2, 3}
    logged = children(uri, tracker.parent)[0].data
    assert logged.metrics["given_split.macro_ap"] == 0.9 and "val.macro_ap" not in logged.metrics


def test_credentials_of_a_store_are_neither_printed_nor_kept(uri, tmp_path):
    with pytest.raises(InputError) as refused:
        tracker_of("postgresql+nosuch://ann:s3cret@db/mlflow", "secret", tmp_path)
    assert "postgresql+nosuch://***@db/mlflow" in str(refused.value)
    assert "s3cret" not in str(refused.value)
    (tmp_path / "study.yaml").write_text("tracking:\n  uri: postgresql://ann:s3cret@db/mlflow\nname: a\n")
    tracker = tracker_of(uri, "kept", tmp_path)
    assert tracker.close([], [tmp_path / "study.yaml"], {}) == ""
    kept = MlflowClient(uri).download_artifacts(tracker.parent, "study.yaml", str(tmp_path / "x"))
    assert open(kept).read() == "tracking:\n  uri: postgresql://***@db/mlflow\nname: a\n"


BEGIN = """
import sys
from pathlib import Path
from tests.study.test_tracking import record, tracker_of

folder = Path(sys.argv[2])
tracker = tracker_of(sys.argv[1], folder.name, folder)
print("ready", flush=True)
complaint = tracker.close([record(0), record(1)], [], {})
assert complaint == "" and len(tracker.run_ids) == 2, complaint
"""


@pytest.mark.slow
def test_two_studies_that_begin_at_once_on_a_fresh_store_both_are_logged(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    began = []
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
        command = [sys.executable, "-c", BEGIN, uri, str(tmp_path / name)]
        began.append(subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True))
    for process in began:
        said = process.communicate(timeout=240)[1]
        assert process.returncode == 0, said[-2000:]
    assert sorted(name for name, _ in pages(uri)) == ["All studies", "one", "three", "two"]
    for name in ("one", "two", "three"):
        assert sorted(children(uri, (tmp_path / name / RUN_FILE).read_text().strip())) == [0, 1]


def test_a_store_that_cannot_be_opened_is_named(tmp_path):
    (tmp_path / "store").write_text(
        "this is no database, but it is long enough to be taken for a damaged one"
    )
    uri = f"sqlite:///{tmp_path}/store"
    with pytest.raises(InputError, match=r"tracking\.uri .*/store: MLflow cannot open this store"):
        tracker_of(uri, "a", tmp_path)


def test_a_store_that_refuses_a_run_leaves_the_study_alone_and_one_line(uri, tmp_path, monkeypatch):
    tracker = tracker_of(uri, "refused", tmp_path)

    def refuse(*arguments, **options):
        raise OSError("no space left\non the device")

    monkeypatch.setattr(MlflowClient, "log_batch", refuse)
    tracker.log([record(0)])
    complaint = tracker.close([record(0)], [], {})
    assert "no space left on the device; 1 configuration missing there; `radtune sync" in complaint
    assert tracker.run_ids == {}


def test_every_access_to_the_test_split_is_counted_or_refused(uri, tmp_path):
    tracker = tracker_of(uri, "openings", tmp_path)
    tracker.close([], [], {})
    analysis = tmp_path / "analysis"
    (analysis / "figures").mkdir(parents=True)
    (analysis / "test_scores.csv").write_text("setting,value\n")
    (analysis / "figures" / "overlay.png").write_bytes(b"png")
    part = ReportPart(name="overlay", title="", state="", html="", tables=["overlay"], figures=["overlay"])
    (analysis / "overlay.csv").write_text("setting,value\n")
    (analysis / "notes.txt").write_text("nobody else's business")
    write_part(analysis, part)
    openings, note = tmp_path / "test_access.jsonl", tmp_path / RUN_FILE
    report = analysis / "report.html"
    report.write_text("a page")
    for day in ("monday", "tuesday"):
        with open(openings, "a") as file:
            file.write(json.dumps({"when": day, "why": "analyze a"}) + "\n")
        figures = {"test.macro_ap": 0.4, "test.nan": float("nan")}
        assert record_test_access(uri, note, openings, figures, report) == ""
    run = MlflowClient(uri).get_run(tracker.parent)
    assert run.data.tags["radtune.test_access"] == "monday analyze a; tuesday analyze a"
    assert run.data.metrics == {"test.macro_ap": 0.4}
    told = run.data.tags["mlflow.note.content"]
    assert "| final model, test | 0.400 |" in told and f"Report: `{report}`" in told
    for below, kept in (("analysis", "test_scores.csv"), ("analysis/figures", "overlay.png")):
        assert f"{below}/{kept}" in kept_below(uri, tracker.parent, below)
    assert "analysis/notes.txt" not in kept_below(uri, tracker.parent, "analysis")
    write_part(analysis, replace(part, tables=["by_text"], figures=[]))
    (analysis / "by_text.csv").write_text("text,value\n")
    assert record_test_access(uri, note, openings, {}, report) == ""
    assert set(kept_below(uri, tracker.parent, "analysis")) - {"analysis/figures"} == {
        "analysis/report.html",
        "analysis/test_scores.csv",
        "analysis/by_text.csv",
    }
    assert kept_below(uri, tracker.parent, "analysis/figures") == []
    report.unlink()  # as in a run folder restored from a copy, which holds no analysis
    assert record_test_access(uri, note, openings, {}, report) == ""
    assert "analysis/report.html" in kept_below(uri, tracker.parent, "analysis")
    note.write_text("0" * 32)
    refused = record_test_access(uri, note, openings, {}, report)
    assert "could not record this access" in refused and f"`radtune sync {tmp_path}` sends it" in refused


def test_artifacts_lie_beside_the_store_whatever_its_folder_is_called(tmp_path):
    folder = tmp_path / "a b%20c?d#e ö"
    folder.mkdir()
    tracker = tracker_of(sqlite_uri(f"{folder}/mlflow.db"), "names", folder)
    (folder / "study.yaml").write_text("name: names\n")
    assert tracker.close([record(0)], [folder / "study.yaml"], {}) == ""
    kept = folder / "mlartifacts" / tracker.parent / "artifacts" / "study.yaml"
    assert kept.read_text() == "name: names\n"
    moved = folder.rename(tmp_path / "c%20d")  # the store keeps the former place, which is gone
    again = tracker_of(sqlite_uri(f"{moved}/mlflow.db"), "names", moved)
    assert again.close([record(0)], [moved / "study.yaml"], {}) == ""
    assert (moved / "mlartifacts" / again.parent / "artifacts" / "study.yaml").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["c%20d"]


def test_where_the_experiment_was_deleted_another_begins_and_what_was_deleted_stays_so(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client = MlflowClient(uri)
    first = tracker_of(uri, "deleted", tmp_path)
    assert first.renamed == "" and first.close([record(0), record(1)], [], {}) == ""
    deleted = client.get_run(first.parent).info.experiment_id
    client.delete_experiment(deleted)
    second = tracker_of(uri, "deleted", tmp_path)
    assert "experiment 'radtune' was deleted, so 'radtune 2' begins" in second.renamed
    assert second.close([record(0), record(1)], [], {}) == ""
    assert sorted(children(uri, second.parent)) == [0, 1] and second.parent != first.parent
    assert client.get_experiment(deleted).lifecycle_stage == "deleted"
    third = tracker_of(uri, "deleted", tmp_path)
    assert (third.renamed, third.parent, len(third.run_ids)) == ("", second.parent, 2)
    assert third.close([record(0), record(1)], [], {}) == ""
    assert [name for name, _ in pages(uri)] == ["deleted", "All studies"]


def kept_below(uri, run, folder):
    """Paths of what the store keeps with a run in a folder."""
    return [one.path for one in MlflowClient(uri).list_artifacts(run, folder)]


class Broken(BaseHTTPRequestHandler):
    """A server that answers 500 to everything."""

    def do_GET(self):
        self.send_error(500)

    do_POST = do_GET

    def log_message(self, *arguments):
        pass


@contextmanager
def server_that(how):
    """The URI of a server on this machine that refuses connections, accepts and never answers, or fails."""
    if how == "fails":
        server = ThreadingHTTPServer(("127.0.0.1", 0), Broken)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        server.server_close()
        return
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if how == "hangs":
            listener.listen()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def mlflow_server(port, folder, store=""):
    """MLflow's own server, for the length of the block; yields its log. `store` is SQLite by default."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--artifacts-destination", str(folder / "artifacts")]
    environment = os.environ | {"MLFLOW_BACKEND_STORE_URI": store or f"sqlite:///{folder}/server.db"}
    with open(folder / "server.log", "w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        yield folder / "server.log"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)


@pytest.mark.parametrize("how", ["refuses", "hangs", "fails"])
def test_a_server_that_is_away_costs_five_seconds_and_a_line(how, tmp_path):
    with server_that(how) as uri:
        started = time.monotonic()
        tracker = tracker_of(uri, "away", tmp_path)
        assert time.monotonic() - started < 20  # not the minutes of MLflow's own client
        assert tracker.away and "\n" not in tracker.away and tracker.run_ids == {}
        tracker.log([record(0), record(1)])
        complaint = tracker.close([record(0), record(1)], [], {"seconds": 1.0})
        assert time.monotonic() - started < 60
        assert (
            f"MLflow ({uri}) did not take everything" in complaint and "2 configurations missing" in complaint
        )
        (tmp_path / RUN_FILE).write_text("0" * 32)
        (tmp_path / "test_access.jsonl").write_text("")
        refused = record_test_access(
            uri, tmp_path / RUN_FILE, tmp_path / "test_access.jsonl", {}, tmp_path / "report.html"
        )
        assert "could not record this access" in refused
    abandoned = tracker_of(uri, "away", tmp_path)
    abandoned.abandon()  # at once, and without a fault


@pytest.mark.slow
def test_a_server_that_comes_back_takes_every_configuration_once(tmp_path, monkeypatch):
    monkeypatch.setattr("study.tracking.AGAIN_SECONDS", 1.0)
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    tracker = tracker_of(uri, "back", tmp_path)
    tracker.log([record(0), record(1)])
    assert tracker.away
    with mlflow_server(port, tmp_path) as log:
        deadline = time.monotonic() + 120
        while len(tracker.run_ids) < 2:
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.5)
        assert not tracker.away
        tracker.log([record(2)])
        kept = tmp_path / "study.yaml"
        kept.write_text("name: back\n")
        assert tracker.close([record(number) for number in range(3)], [kept], {"seconds": 1.0}) == ""
        assert sorted(children(uri, tracker.parent)) == [0, 1, 2]
        again = tracker_of(uri, "back", tmp_path)
        assert again.parent == tracker.parent
        assert again.close([record(number) for number in range(3)], [], {}) == ""
        assert sorted(children(uri, tracker.parent)) == [0, 1, 2]


@pytest.mark.slow
def test_a_study_runs_without_its_server_and_is_sent_there_afterwards(tmp_path, capsys):
    square_cohort(tmp_path / "cohort")
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    given = settings(tmp_path, configurations=8) | {"tracking": {"uri": uri}}
    lines: list[str] = []
    study = Study.from_dict(given).run(echo=lines.append)
    assert any(f"MLflow at {uri} does not answer" in line and "goes on" in line for line in lines)
    assert any("8 configurations missing there" in line for line in lines)
    assert len(study.records) == 8
    run = str(study.folder.path)
    assert main(["analyze", run, "--only", "scores"]) == 0
    assert "could not record this access to the test split" in capsys.readouterr().out
    assert main(["sync", run]) == 2
    assert "did not take everything" in capsys.readouterr().err
    with mlflow_server(port, tmp_path):
        deadline = time.monotonic() + 120
        while main(["sync", run]) != 0:
            assert time.monotonic() < deadline
            time.sleep(1)
        assert "holds all 8 configurations" in capsys.readouterr().out
        parent = study.folder.mlflow_run_file.read_text().strip()
        assert sorted(children(uri, parent)) == list(range(8))
        sent = MlflowClient(uri).get_run(parent)
        assert "analyze squares" in sent.data.tags["radtune.test_access"]
        assert sent.data.metrics["configurations"] == 8
        assert main(["sync", run]) == 0
        assert sorted(children(uri, parent)) == list(range(8))
