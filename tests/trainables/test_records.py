"""A record on its way from a bank file to a predictor and to a table."""

import json
import math
from dataclasses import fields, replace

import numpy as np
import pytest
from safetensors.numpy import load, save

from cohort.errors import InputError
from scoring.judging import JudgedRows, judge
from scoring.thresholds import STRATEGIES, shares_global
from trainables.packed import pack, unpack
from trainables.records import (
    STATES,
    TrialRecord,
    as_on_given_split,
    judged_fields,
    pack_bank,
    ranking,
    trials_frame,
    unpack_bank,
)
from vlm.encoders import load_encoder
from vlm.linear_head import LinearHead

LABELS = ("heart", "effusion", "hernia")
THRESHOLDS = {
    "fixed": [0.5, 0.5, 0.5],
    "global": [0.3, 0.3, 0.3],
    "per_label": [0.2, 0.4, 0.3],
    "shrunk": [0.25, 1 / 3, 0.3],
}


def draw_head(width: int = 1024, labels: int = 3, seed: int = 0) -> LinearHead:
    rng = np.random.default_rng(seed)
    return LinearHead(
        weight_DC=rng.normal(size=(width, labels)).astype(np.float32),
        bias_C=rng.normal(size=labels).astype(np.float32),
        mean_D=rng.normal(size=width).astype(np.float32),
        scale_D=rng.uniform(0.1, 3, width).astype(np.float32),
        l2=bool(seed % 2),
    )


def complete(number: int = 3, **changes) -> TrialRecord:
    record = TrialRecord(
        number=number,
        params={"learning_rate": 0.1 + 0.2, "epochs": 20, "loss": "bce"},
        state="COMPLETE",
        reason="no better loss in 5 evaluations up to epoch 15",
        warnings=["a line"],
        objective=1 / 3,
        metrics={"val.macro_ap": 1 / 3, "val.loss": 1e-300},
        curve=[{"epoch": 5, "train_loss": 0.7, "val_loss": 0.6, "objective": 1 / 3}],
        epoch=5,
        seconds=0.125,
        precision="bf16",
        strategy="per_label",
        thresholds=THRESHOLDS,
        few=[False, False, True],
        arrays=draw_head(seed=abs(number)).tensors(),
    )
    return replace(record, **changes)


def failed(number: int = 4) -> TrialRecord:
    return TrialRecord(number=number, params={"epochs": 3}, state="FAIL", reason="diverged in epoch 2")


def assert_equal(one: TrialRecord, other: TrialRecord) -> None:
    """To the last bit, whatever the field."""
    for field in fields(TrialRecord):
        if field.name not in ("arrays", "objective"):
            assert getattr(one, field.name) == getattr(other, field.name), field.name
    np.testing.assert_array_equal(one.objective, other.objective)  # NaN where it failed
    assert one.arrays.keys() == other.arrays.keys()
    for name, array in one.arrays.items():
        assert array.dtype == other.arrays[name].dtype
        np.testing.assert_array_equal(array, other.arrays[name])


# ---- bank files ----


def test_a_bank_comes_back_from_its_file_bit_by_bit_and_in_its_order():
    bank = [complete(13), failed(4), complete(1, state="PRUNED"), complete(0, preset="paper")]
    again = unpack_bank(pack_bank(bank))
    assert len(again) == 4
    for before, after in zip(bank, again, strict=True):
        assert_equal(before, after)


def test_any_named_array_travels_not_only_the_heads():
    extra = {"second/weight_DC": np.arange(6, dtype=np.float16).reshape(2, 3), "rows": np.array([7])}
    record = complete(2)
    (again,) = unpack_bank(pack_bank([replace(record, arrays=record.arrays | extra)]))
    for name, array in extra.items():
        assert again.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(again.arrays[name], array)
    assert again.head.weight_DC.shape == (1024, 3)


@pytest.mark.parametrize("bank", [[], [failed(1), failed(2)]], ids=["empty", "all failed"])
def test_a_bank_without_any_head_has_a_file_too(bank):
    again = unpack_bank(pack_bank(bank))
    assert [record.number for record in again] == [record.number for record in bank]
    assert all(record.head is None and record.arrays == {} for record in again)


def with_description(data: bytes, change) -> bytes:
    """The same file with its records described otherwise."""
    arrays, described = unpack(data)
    return pack(arrays, change(described))


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]


@pytest.mark.parametrize(
    "harm",
    [
        lambda whole: b"",
        lambda whole: whole[:-1],
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:8] + b"[" + whole[9:],
        lambda whole: save(load(whole)),
        lambda whole: save(load(whole), metadata={"packed": "[{"}),
        lambda whole: flipped(whole, len(whole) - 3),
        lambda whole: flipped(whole, whole.index(b"macro_ap") + 3),
        lambda whole: with_description(whole, lambda records: [records[0] | {"state": "DONE"}]),
        lambda whole: with_description(whole, lambda records: [records[0] | {"colour": "red"}]),
        lambda whole: with_description(whole, lambda records: [{"number": 3}]),
        lambda whole: pack_bank([complete(arrays={"weight_DC": np.zeros((2, 3), np.float32)})]),
        lambda whole: pack_bank(
            [complete(arrays=draw_head().tensors() | {"bias_C": np.full(3, np.nan, np.float32)})]
        ),
    ],
    ids=[
        "nothing",
        "one byte short",
        "half",
        "no header",
        "no description",
        "no json",
        "a flipped bit of an array",
        "a flipped bit of the description",
        "unknown state",
        "unknown field",
        "missing field",
        "missing array",
        "array that no head can have",
    ],
)
def test_a_damaged_file_is_refused_in_one_line_that_names_it(harm):
    with pytest.raises(InputError) as raised:
        unpack_bank(harm(pack_bank([complete()])), name="runs/s/banks/bank-0001.safetensors")
    message = str(raised.value)
    assert message.startswith("runs/s/banks/bank-0001.safetensors: not a whole bank file (")
    assert message.endswith("); delete it and resume the study") and "\n" not in message


def test_a_state_is_one_of_three():
    assert STATES == ("COMPLETE", "PRUNED", "FAIL")
    with pytest.raises(ValueError, match="state must be one of COMPLETE, PRUNED, FAIL, not 'RUNNING'"):
        TrialRecord(number=0, params={}, state="RUNNING")


# ---- what is read of a record ----


def test_the_head_is_that_of_the_arrays():
    head = draw_head(seed=3)
    again = complete(3).head
    assert again.l2 and again.l2 == head.l2
    np.testing.assert_array_equal(again.weight_DC, head.weight_DC)
    assert failed().head is None


@pytest.mark.parametrize(
    ("strategy", "shared"),
    [("fixed", False), ("global", False), ("per_label", True), ("shrunk", True)],
)
def test_a_searched_configuration_is_cut_by_its_best_strategy(strategy, shared):
    rule = complete(strategy=strategy).rule()
    assert rule.strategy == strategy and rule.thresholds_C.tolist() == THRESHOLDS[strategy]
    assert rule.shared_C.tolist() == [False, False, shared]  # only a strategy with thresholds of labels' own


def test_a_published_configuration_is_cut_at_one_half_and_shares_nothing():
    rule = complete(preset="paper").rule()
    assert rule.strategy == "fixed" and rule.thresholds_C.tolist() == [0.5, 0.5, 0.5]
    assert not rule.shared_C.any()


def test_a_record_becomes_a_predictor_on_the_encoder_it_was_trained_on():
    encoder, record = load_encoder("pixels", device="cpu"), complete(3)
    predictor = record.predictor(
        "best-1", LABELS, encoder, note="chosen on validation", study="squares", trainable="linear_probe"
    )
    assert (predictor.name, predictor.labels, predictor.precision) == ("best-1", LABELS, "bf16")
    assert predictor.encoder is encoder and not predictor.ranks_only
    x_ND = np.random.default_rng(1).normal(size=(4, 1024))
    np.testing.assert_array_equal(predictor.scores(x_ND), record.head.logits(x_ND))
    assert predictor.rule.strategy == "per_label"
    origin = predictor.origin
    assert (origin.note, origin.study, origin.trainable) == (
        "chosen on validation",
        "squares",
        "linear_probe",
    )
    assert (origin.trial, origin.preset, origin.params) == (3, "", record.params)
    assert origin.objective == record.objective


def test_a_record_of_no_trial_has_no_number_in_its_predictor():
    record = complete(number=-1)
    predictor = record.predictor("logreg", LABELS, load_encoder("pixels", device="cpu"), note="a floor")
    assert predictor.origin.trial is None
    assert complete(0).predictor("x", LABELS, predictor.encoder, note="").origin.trial == 0


def test_what_failed_is_no_predictor():
    with pytest.raises(
        InputError, match=r"^trial 4 has no trained head \(diverged in epoch 2\); those that are COMPLETE"
    ):
        failed().predictor("x", LABELS, load_encoder("pixels", device="cpu"), note="")


def test_what_one_look_at_validation_says_fills_the_fields_of_a_record():
    rng = np.random.default_rng(0)
    targets_NC = (rng.random((60, 3)) < 0.4).astype(np.float32)
    targets_NC[:, 2] = np.arange(60) == 5
    rows = JudgedRows(
        targets_NC=targets_NC,
        patients_N=np.arange(60),
        folds_N=np.arange(60) % 3,
        averaged_C=np.array([True, True, False]),
    )
    (judged,) = judge(rng.normal(size=(1, 60, 3)) + targets_NC, rows, [10.0])
    record = TrialRecord(number=0, params={}, state="COMPLETE", **judged_fields(judged))
    assert record.metrics == judged.metrics and record.strategy == judged.strategy
    assert set(record.thresholds) == set(STRATEGIES)
    for name, values_C in judged.thresholds.items():
        assert record.thresholds[name] == values_C.tolist()
    assert record.few == [False, False, True]
    assert json.loads(json.dumps(judged_fields(judged))) == judged_fields(judged)
    assert record.rule().shared_C.tolist() == shares_global(judged.strategy, judged.few_C).tolist()


# ---- many records ----


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
