"""What is read of a record, up to the predictor that it becomes."""

import json

import numpy as np
import pytest

from cohort.errors import InputError
from scoring.judging import JudgedRows, judge
from scoring.thresholds import STRATEGIES, shares_global
from tests.trainables.drawn_records import LABELS, THRESHOLDS, complete, draw_head, failed
from trainables.records import STATES, TrialRecord, judged_fields
from vlm.encoders import load_encoder


def test_a_state_is_one_of_three():
    assert STATES == ("COMPLETE", "PRUNED", "FAIL")
    with pytest.raises(ValueError, match="state must be one of COMPLETE, PRUNED, FAIL, not 'RUNNING'"):
        TrialRecord(number=0, params={}, state="RUNNING")


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
