"""What stands in the MLflow store, and what happens when the store refuses."""

import json

import pytest
from mlflow import MlflowClient

from cohort.errors import InputError
from study.tracking import CURVE_EPOCHS, NUMBER_TAG, StudyTracker, record_opening
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
    assert "no space left on the device; --resume logs what is missing" in complaint
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
        record_opening(uri, note, openings, {"test.macro_ap": 0.4, "test.nan": float("nan")}, analysis)
    run = MlflowClient(uri).get_run(tracker.parent)
    assert run.data.tags["radtune.test_openings"] == "monday analyze a; tuesday analyze a"
    assert run.data.metrics == {"test.macro_ap": 0.4}
    for below, kept in (("analysis", "test_scores.csv"), ("analysis/figures", "overlay.png")):
        paths = [one.path for one in MlflowClient(uri).list_artifacts(tracker.parent, below)]
        assert f"{below}/{kept}" in paths
    note.write_text("0" * 32)
    with pytest.raises(InputError, match="cannot record this opening"):
        record_opening(uri, note, openings, {}, analysis)
