import math

from tests.trainables.drawn_records import complete, failed
from trainables.ranking import ranking, trials_frame
from trainables.records import as_on_given_split


def test_completed_configurations_are_ranked_by_objective_then_by_number():
    records = [
        complete(5, objective=0.4),
        complete(1, objective=0.2),
        complete(2, objective=0.9, state="PRUNED"),
        failed(0),
        complete(4, objective=0.4),
    ]
    assert [record.number for record in ranking(iter(records))] == [4, 5, 1]
    assert ranking([failed()]) == []


def test_what_was_judged_on_other_images_is_ranked_with_no_other():
    published = as_on_given_split(
        complete(0, objective=0.9, preset="paper", metrics={"val.macro_ap": 0.9, "val.labels_averaged": 1.0})
    )
    assert [record.number for record in ranking([published, complete(1, objective=0.3)])] == [1]
    assert ranking([published]) == [published]
    # Nor does it have a number under the name of theirs.
    assert published.metrics == {"given_split.macro_ap": 0.9, "given_split.labels_averaged": 1.0}
    frame = trials_frame([published, complete(1, metrics={"val.macro_ap": 0.3})], {})
    assert frame["val.macro_ap"].isna().tolist() == [True, False]
    assert frame["given_split.macro_ap"].tolist()[0] == 0.9


def test_the_table_of_trials_has_a_row_a_configuration():
    paper = complete(0, preset="paper", params={"epochs": 10}, metrics={"val.macro_ap": 0.5, "size": 3.0})
    frame = trials_frame([complete(7), failed(4), paper], {7: "run-seven"})
    assert frame["number"].tolist() == [0, 4, 7]
    assert frame["preset"].tolist() == ["paper", "", ""]
    assert frame["state"].tolist() == ["COMPLETE", "FAIL", "COMPLETE"]
    assert frame["mlflow_run_id"].tolist() == ["", "", "run-seven"]
    assert frame["params.epochs"].tolist() == [10, 3, 20]
    assert math.isnan(frame["params.learning_rate"][0]) and frame["params.learning_rate"][2] == 0.1 + 0.2
    assert frame["val.macro_ap"].tolist()[::2] == [0.5, 1 / 3]
    assert list(frame.columns) == [
        *("number", "preset", "state", "reason"),
        *("params.epochs", "params.learning_rate", "params.loss", "val.macro_ap", "val.loss"),
        *("epoch", "seconds", "precision", "strategy", "mlflow_run_id"),
    ]
