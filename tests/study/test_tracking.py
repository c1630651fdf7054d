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
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from mlflow import MlflowClient

from cohort.errors import InputError
from study import Study
from study.cli import main
from study.tracking import CURVE_EPOCHS, KIND_TAG, NUMBER_TAG, StudyTracker, record_opening, runs_page
from tests.study.conftest import settings, square_cohort
from trainables.records import TrialRecord

RUN_FILE = "mlflow_run_id"
TAGS = {"radtune.study": "a", "radtune.cohort_hash": "c"}


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
    tracker = StudyTracker(uri, "curves", tmp_path / RUN_FILE, TAGS)
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
    tracker = StudyTracker(uri, "faults", tmp_path / RUN_FILE, TAGS)
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
    first = StudyTracker(uri, "halves", tmp_path / RUN_FILE, TAGS)
    assert first.close([record(0), record(1)], [], {"seconds": 1.0}) == ""
    MlflowClient(uri).update_run(first.run_ids[1], status="RUNNING")  # as a killed driver leaves it
    second = StudyTracker(uri, "halves", tmp_path / RUN_FILE, TAGS)
    assert second.parent == first.parent
    assert second.close([record(0), record(1)], [], {}) == ""
    assert sorted(children(uri, first.parent)) == [0, 1]
    assert second.run_ids[0] == first.run_ids[0] and second.run_ids[1] != first.run_ids[1]


def test_an_abandoned_tracker_writes_no_more_and_a_new_one_logs_the_rest(uri, tmp_path):
    first = StudyTracker(uri, "abandoned", tmp_path / RUN_FILE, TAGS)
    first.log([record(number) for number in range(40)])
    first.abandon()
    assert not first._thread.is_alive()
    logged = len(first.run_ids)
    assert logged < 40
    second = StudyTracker(uri, "abandoned", tmp_path / RUN_FILE, TAGS)
    assert len(second.run_ids) == logged
    assert second.close([record(number) for number in range(40)], [], {}) == ""
    assert sorted(children(uri, first.parent)) == list(range(40))


def test_the_ui_opens_on_the_studies_runs(uri, tmp_path):
    tracker = StudyTracker(uri, "page", tmp_path / RUN_FILE, TAGS)
    tracker.close([], [], {})
    client = MlflowClient(uri)
    experiment = client.get_experiment(client.get_run(tracker.parent).info.experiment_id)
    assert experiment.tags[KIND_TAG] == "custom_model_development"
    page = f"/#/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning"
    assert runs_page(uri) == page
    assert runs_page(f"sqlite:///{tmp_path}/empty.db") == ""
    with server_that("refuses") as away, pytest.raises(InputError, match=r"--uri .*MLflow cannot open"):
        runs_page(away)


def test_a_store_that_cannot_be_opened_is_named(tmp_path):
    (tmp_path / "store").write_text(
        "this is no database, but it is long enough to be taken for a damaged one"
    )
    uri = f"sqlite:///{tmp_path}/store"
    with pytest.raises(InputError, match=r"tracking\.uri .*/store: MLflow cannot open this store"):
        StudyTracker(uri, "a", tmp_path / RUN_FILE, TAGS)


def test_a_store_that_refuses_a_run_leaves_the_study_alone_and_one_line(uri, tmp_path, monkeypatch):
    tracker = StudyTracker(uri, "refused", tmp_path / RUN_FILE, TAGS)

    def refuse(*arguments, **options):
        raise OSError("no space left\non the device")

    monkeypatch.setattr(tracker._client, "log_batch", refuse)
    tracker.log([record(0)])
    complaint = tracker.close([record(0)], [], {})
    assert "no space left on the device; 1 configuration missing there; `radtune sync" in complaint
    assert tracker.run_ids == {}


def test_every_opening_of_the_test_split_is_counted_or_refused(uri, tmp_path):
    tracker = StudyTracker(uri, "openings", tmp_path / RUN_FILE, TAGS)
    tracker.close([], [], {})
    analysis = tmp_path / "analysis"
    (analysis / "figures").mkdir(parents=True)
    (analysis / "test_scores.csv").write_text("setting,value\n")
    (analysis / "figures" / "overlay.png").write_bytes(b"png")
    openings, note = tmp_path / "openings.jsonl", tmp_path / RUN_FILE
    for day in ("monday", "tuesday"):
        with open(openings, "a") as file:
            file.write(json.dumps({"when": day, "why": "analyze a"}) + "\n")
        figures = {"test.macro_ap": 0.4, "test.nan": float("nan")}
        assert record_opening(uri, note, openings, figures, analysis) == ""
    run = MlflowClient(uri).get_run(tracker.parent)
    assert run.data.tags["radtune.test_openings"] == "monday analyze a; tuesday analyze a"
    assert run.data.metrics == {"test.macro_ap": 0.4}
    for below, kept in (("analysis", "test_scores.csv"), ("analysis/figures", "overlay.png")):
        paths = [one.path for one in MlflowClient(uri).list_artifacts(tracker.parent, below)]
        assert f"{below}/{kept}" in paths
    note.write_text("0" * 32)
    refused = record_opening(uri, note, openings, {}, analysis)
    assert "could not record this opening" in refused and f"`radtune sync {tmp_path}` sends it" in refused


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
def mlflow_server(port, folder):
    """MLflow's own server, for the length of the block; yields its log."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--workers", "1"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    with open(folder / "server.log", "w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        yield folder / "server.log"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)


@pytest.mark.parametrize("how", ["refuses", "hangs", "fails"])
def test_a_server_that_is_away_costs_five_seconds_and_a_line(how, tmp_path):
    with server_that(how) as uri:
        started = time.monotonic()
        tracker = StudyTracker(uri, "away", tmp_path / RUN_FILE, TAGS)
        assert time.monotonic() - started < 20  # not the minutes of MLflow's own client
        assert tracker.away and "\n" not in tracker.away and tracker.run_ids == {}
        tracker.log([record(0), record(1)])
        complaint = tracker.close([record(0), record(1)], [], {"seconds": 1.0})
        assert time.monotonic() - started < 60
        assert (
            f"MLflow ({uri}) did not take everything" in complaint and "2 configurations missing" in complaint
        )
        (tmp_path / RUN_FILE).write_text("0" * 32)
        (tmp_path / "openings.jsonl").write_text("")
        refused = record_opening(uri, tmp_path / RUN_FILE, tmp_path / "openings.jsonl", {}, tmp_path)
        assert "could not record this opening" in refused
    abandoned = StudyTracker(uri, "away", tmp_path / RUN_FILE, TAGS)
    abandoned.abandon()  # at once, and without a fault


@pytest.mark.slow
def test_a_server_that_comes_back_takes_every_configuration_once(tmp_path, monkeypatch):
    monkeypatch.setattr("study.tracking.AGAIN_SECONDS", 1.0)
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    tracker = StudyTracker(uri, "back", tmp_path / RUN_FILE, TAGS)
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
        again = StudyTracker(uri, "back", tmp_path / RUN_FILE, TAGS)
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
    assert "could not record this opening of the test split" in capsys.readouterr().out
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
        assert "analyze squares" in sent.data.tags["radtune.test_openings"]
        assert sent.data.metrics["configurations"] == 8
        assert main(["sync", run]) == 0
        assert sorted(children(uri, parent)) == list(range(8))
