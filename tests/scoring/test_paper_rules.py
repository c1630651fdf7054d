"""The published rules against scikit-learn with zero_division=0, and values worked by hand."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from scoring.metric_table import METRICS, averages
from scoring.model_output import ModelOutput
from scoring.paper_rules import HEADLINE, PRESETS, scores, with_zero_division
from tests.scoring.drawn import predictions


def test_scores_of_every_mode_worked_by_hand():
    logits_NC = np.array([[3.0, -4.0], [0.0, 0.0]])
    np.testing.assert_allclose(scores(logits_NC, "temperature"), 1 / (1 + np.exp(-logits_NC)))
    np.testing.assert_allclose(scores(logits_NC, "minmax"), [[1, 0], [0, 0]])
    np.testing.assert_allclose(scores(logits_NC, "cosine"), [[0.8, 0.1], [0.5, 0.5]])
    tempered_NC = scores(logits_NC, "temperature", tau=50)
    np.testing.assert_allclose(tempered_NC, 1 / (1 + np.exp(-logits_NC / 50)))
    assert scores(np.array([[-1e4, 1e4]], dtype=np.float32), "temperature").tolist() == [[0, 1]]


@settings(max_examples=100, deadline=None)
@given(predictions(masked=False), st.sampled_from(sorted(PRESETS)))
def test_a_preset_gives_scikit_learns_averages_with_zero_division_0(drawn, name):
    targets_NC, logits_NC = drawn
    logits_NC = logits_NC - 0.4
    preset = PRESETS[name]
    s, y = preset.scores(logits_NC), targets_NC.astype(int)
    d = preset.decisions(s)
    labels = range(y.shape[1])
    made = ModelOutput(targets_NC=targets_NC, scores_NC=s, decisions_NC=d)
    rows = averages(made, table=[with_zero_division(metric) for metric in METRICS])
    value = {row.name: row.value for row in rows}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of every undefined value
        expected = {
            "macro_f1": sk.f1_score(y, d, average="macro", zero_division=0),
            "micro_f1": sk.f1_score(y, d, average="micro", zero_division=0),
            "macro_precision": sk.precision_score(y, d, average="macro", zero_division=0),
            "micro_precision": sk.precision_score(y, d, average="micro", zero_division=0),
            "macro_recall": sk.recall_score(y, d, average="macro", zero_division=0),
            "micro_recall": sk.recall_score(y, d, average="micro", zero_division=0),
            "macro_mcc": np.mean([sk.matthews_corrcoef(y[:, c], d[:, c]) for c in labels]),
            "macro_ap": np.mean([sk.average_precision_score(y[:, c], s[:, c]) for c in labels]),
            "exact_match": sk.accuracy_score(y, d),
            "lrap": sk.label_ranking_average_precision_score(y, s),
            "coverage_error": sk.coverage_error(y, s),
            "ranking_loss": sk.label_ranking_loss(y, s),
        }
    for metric, reference in expected.items():
        assert value[metric] == pytest.approx(reference, abs=1e-12), metric
    averaged = {row.name: row.labels_averaged for row in rows}
    assert averaged["macro_f1"] == len(labels)


def test_an_image_of_which_nothing_is_known_stays_out_of_the_published_means():
    targets_NC = np.array([[1.0, 0.0], [np.nan, np.nan], [0.0, 0.0]])
    scores_NC = np.array([[0.1, 0.9], [0.5, 0.5], [0.2, 0.3]])
    made = ModelOutput(targets_NC=targets_NC, scores_NC=scores_NC, decisions_NC=scores_NC >= 0.5)
    rows = {row.name: row for row in averages(made, table=HEADLINE)}
    assert list(rows) == ["macro_f1", "exact_match", "lrap", "coverage_error", "ranking_loss"]
    assert (rows["lrap"].value, rows["lrap"].images) == ((1 / 2 + 1) / 2, 2)
    assert (rows["coverage_error"].value, rows["ranking_loss"].value) == ((2 + 0) / 2, (1 + 0) / 2)
    assert (rows["exact_match"].value, rows["exact_match"].images) == (1 / 2, 2)


@pytest.mark.parametrize(
    ("mode", "tau", "message"),
    [
        ("softmax", 1.0, "`mode` to be one of .*, but got 'softmax'"),
        ("temperature", 0.0, "`tau` > 0, but got 0.0"),
    ],
)
def test_arguments_that_break_a_rule_are_refused(mode, tau, message):
    with pytest.raises(ValueError, match=message):
        scores(np.zeros((2, 2)), mode, tau)
