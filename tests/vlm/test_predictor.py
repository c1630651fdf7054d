"""Heads on an encoder and the rule that turns their scores into decisions.

Shape legend: N images, D features, C labels.
"""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from scoring.decision_rule import DecisionRule
from scoring.judging import LOGITS, Scale
from scoring.predictions import Origin
from vlm.encoders import load_encoder
from vlm.linear_head import LinearHead
from vlm.predictor import Predictor

LABELS = ("Edema", "Effusion", "Fracture")


def draw_head(seed: int = 0, labels: int = 3, width: int = 1024) -> LinearHead:
    rng = np.random.default_rng(seed)
    return LinearHead.plain(rng.normal(size=(width, labels)) / 30, rng.normal(size=labels))


def predictor(**changes) -> Predictor:
    rule = DecisionRule.fitted("per_label", [0.2, 0.5, 0.7], np.array([False, True, False]))
    parts = {
        "name": "best-1",
        "labels": LABELS,
        "encoder": load_encoder("pixels", device="cpu"),
        "heads": (draw_head(),),
        "rule": rule,
        "origin": Origin(note="chosen on validation"),
    }
    return Predictor(**parts | changes)


@pytest.fixture(scope="module")
def x_ND() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(50, 1024)).astype(np.float32)


# ---- scores ----


def test_scores_of_one_head_are_its_logits_in_double_precision(x_ND):
    one = predictor()
    scores_NC = one.scores(x_ND)
    assert scores_NC.dtype == np.float64
    np.testing.assert_array_equal(scores_NC, one.heads[0].logits(x_ND))


def test_scores_of_several_heads_are_the_mean_of_theirs(x_ND):
    heads = tuple(draw_head(seed) for seed in range(3))
    expected_NC = sum(head.logits(x_ND).astype(np.float64) for head in heads) / 3
    np.testing.assert_allclose(predictor(heads=heads).scores(x_ND), expected_NC, rtol=1e-12)


def test_probabilities_are_the_scores_on_the_rules_scale(x_ND):
    one = predictor()
    np.testing.assert_allclose(one.probabilities(x_ND), expit(one.scores(x_ND)), rtol=1e-12)
    scale = Scale(centre=0.4, width=2.0)
    ranks = replace(one, rule=replace(one.rule, scale=scale), ranks_only=True)
    expected_NC = expit((one.scores(x_ND) - 0.4) / 2)
    np.testing.assert_allclose(ranks.probabilities(x_ND), expected_NC, rtol=1e-12)


def test_heads_that_no_feature_moves_are_constant(x_ND):
    still = LinearHead.plain(np.zeros((1024, 3)), [-1, 0, 1])
    constant = predictor(heads=(still,))
    assert constant.constant and np.ptp(constant.scores(x_ND), axis=0).tolist() == [0, 0, 0]
    assert not predictor().constant and not predictor(heads=(still, draw_head())).constant


# ---- decisions ----


def test_a_finding_is_present_from_its_threshold_on():
    rule = DecisionRule.fitted("per_label", [0.5, 0.0, 1.0], np.zeros(3, bool))
    scores_NC = np.array([[0.0, -800, 800], [-1e-6, 0, 30]])
    # sigmoid(0) is 0.5; 0 is reached by every score, 1 by none that leaves a doubt
    assert rule.decide(scores_NC).tolist() == [[True, True, True], [False, True, False]]


def test_decisions_follow_the_scale():
    rule = DecisionRule.fitted("global", [0.5], np.array([False]), Scale(centre=10.0, width=3.0))
    assert rule.decide(np.array([[9.9], [10.0], [10.1]])).tolist() == [[False], [True], [True]]


@pytest.mark.parametrize(
    ("strategy", "shared"),
    [("fixed", False), ("global", False), ("per_label", True), ("shrunk", True)],
)
def test_only_a_strategy_with_thresholds_of_labels_own_has_labels_that_share(strategy, shared):
    rule = DecisionRule.fitted(strategy, [0.3, 0.3], np.array([True, False]))
    assert rule.shared_C.tolist() == [shared, False]
    assert rule.thresholds_C.dtype == np.float64 and rule.scale == LOGITS


def test_the_fixed_rule_cuts_every_label_at_one_half_and_shares_nothing():
    rule = DecisionRule.fixed(3)
    assert (rule.strategy, rule.thresholds_C.tolist()) == ("fixed", [0.5, 0.5, 0.5])
    assert rule.shared_C.tolist() == [False, False, False]


# ---- what is refused ----


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"thresholds_C": np.array([0.5, 1.1])}, r"thresholds_C must be one number in \[0, 1\] a label, not"),
        (
            {"thresholds_C": np.array([-0.1, 0.5])},
            r"thresholds_C must be one number in \[0, 1\] a label, not",
        ),
        (
            {"thresholds_C": np.array([np.nan, 0.5])},
            r"thresholds_C must be one number in \[0, 1\] a label, not",
        ),
        (
            {"thresholds_C": np.array([[0.5, 0.5]])},
            r"thresholds_C must be one number in \[0, 1\] a label, not",
        ),
        ({"shared_C": np.zeros(3, bool)}, r"shared_C must be bool \(2,\), not"),
        ({"shared_C": np.zeros(2)}, r"shared_C must be bool \(2,\), not"),
    ],
)
def test_a_rule_that_cannot_be_applied_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(DecisionRule.fixed(2), **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": ()}, r"heads must be one at least, of at most 1024 columns and 3 labels, not \[\]"),
        ({"heads": (draw_head(labels=2),)}, r"3 labels, not \[\(1024, 2\)\]"),
        ({"heads": (draw_head(), draw_head(width=1025))}, r"not \[\(1024, 3\), \(1025, 3\)\]"),
        ({"labels": LABELS[:2]}, r"1024 columns and 2 labels, not \[\(1024, 3\)\]"),
        ({"rule": DecisionRule.fixed(2)}, "rule must have 3 thresholds, not 2"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        predictor(**changes)


def test_a_rule_of_multiclass_labels_decides_for_exactly_one():
    # z = (0, 1, 2) and offsets -logit(t) of 0, 0 and -ln 4: 0, 1 and 0.61; probabilities e^z / sum.
    rule = DecisionRule.fitted(
        "per_label", [0.5, 0.5, 0.8], np.zeros(3, bool), Scale(1.0, 2.0), multiclass=True
    )
    scores_NC = np.array([[1.0, 3.0, 5.0], [1.0, 1.0, 1.0], [9.0, 1.0, 1.0]])
    expected_C = np.exp([0, 1, 2]) / np.exp([0, 1, 2]).sum()
    np.testing.assert_allclose(rule.probabilities(scores_NC)[0], expected_C)
    assert rule.decide(scores_NC).argmax(1).tolist() == [1, 0, 0]
    assert (rule.decide(scores_NC).sum(1) == 1).all()
    assert DecisionRule.fixed(3, multiclass=True).decide(scores_NC).argmax(1).tolist() == [2, 0, 0]


def test_probabilities_of_multiclass_labels_sum_to_one_whatever_head_gave_the_scores():
    made = predictor(rule=DecisionRule.fixed(3, multiclass=True))
    probs_NC = made.probabilities(np.random.default_rng(1).random((5, 1024)))
    np.testing.assert_allclose(probs_NC.sum(1), 1)
