"""The score table against scikit-learn, and what its rows rest on."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, softmax
from sklearn import metrics as sk

from analysis.judging.score_table import SCORE_COLUMNS, score_setting
from scoring.metric_table import METRICS
from scoring.resampling import patient_weights
from tests.analysis.synthetic import logits_of, named, targets_of
from trainables import baselines as ids


def test_every_setting_has_its_rows_and_the_table_its_columns(analysed):
    table = analysed.result.scores
    assert tuple(table.columns) == (*SCORE_COLUMNS, "row")
    assert list(dict.fromkeys(table["setting"])) == [
        "random",
        "prevalence",
        "all-positive",
        "zero-shot",
        "zero-shot-prompts",
        "metadata",
        "pixels",
        "text-informed",
        "logreg",
        "paper",
        "best-1",
        "best-2",
        "best-3",
    ]
    assert not table.duplicated(["setting", "metric", "label"]).any()


def test_a_trials_scores_are_scikit_learns(analysed, scores):
    targets_NC = targets_of(analysed.study)
    trial, logits_NC = logits_of(analysed.study, "best-1")
    decisions_NC = expit(logits_NC) >= trial.rule.thresholds_C
    for c, label in enumerate(analysed.study.cohort.labels):
        if not 0 < targets_NC[:, c].sum() < len(targets_NC):
            continue
        for metric, value in (
            ("auroc", sk.roc_auc_score(targets_NC[:, c], logits_NC[:, c])),
            ("average_precision", sk.average_precision_score(targets_NC[:, c], logits_NC[:, c])),
            ("f1", sk.f1_score(targets_NC[:, c], decisions_NC[:, c])),
        ):
            assert scores.loc[("best-1", metric, label), "value"] == pytest.approx(value)


def test_the_papers_columns_follow_from_scikit_learn_on_min_max_scaled_images(analysed, scores):
    targets_NC = targets_of(analysed.study)
    _, logits_NC = logits_of(analysed.study, "paper")
    low_N1, high_N1 = logits_NC.min(1, keepdims=True), logits_NC.max(1, keepdims=True)
    scaled_NC = (logits_NC - low_N1) / (high_N1 - low_N1)
    for metric, value in (
        ("macro_f1", sk.f1_score(targets_NC, scaled_NC >= 0.5, average="macro", zero_division=0)),
        ("exact_match", sk.accuracy_score(targets_NC, scaled_NC >= 0.5)),
        ("lrap", sk.label_ranking_average_precision_score(targets_NC, scaled_NC)),
        ("coverage_error", sk.coverage_error(targets_NC, scaled_NC)),
        ("ranking_loss", sk.label_ranking_loss(targets_NC, scaled_NC)),
    ):
        assert scores.loc[("paper", f"paper.{metric}", ""), "value"] == pytest.approx(value)


def test_every_row_of_a_macro_average_averages_the_same_labels(analysed, scores):
    for metric in ("macro_auroc", "macro_ap", "macro_f1"):
        assert scores.xs(metric, level="metric")["labels_averaged"].nunique() == 1
    chosen = np.array(analysed.study.cohort.labels)[analysed.judgement.split.averaged_C]
    of_labels = [scores.loc[("logreg", "auroc", label), "value"] for label in chosen]
    assert scores.loc[("logreg", "macro_auroc", ""), "value"] == pytest.approx(np.mean(of_labels))


def test_what_knows_nothing_scores_what_nothing_scores(scores):
    for name in ("prevalence", "all-positive"):
        assert scores.loc[(name, "macro_auroc", ""), "value"] == 0.5
    assert scores.loc[("random", "macro_auroc", ""), "value"] == pytest.approx(0.5, abs=0.02)
    assert scores.loc[("all-positive", "macro_recall", ""), "value"] == 1
    assert abs(scores.loc[("prevalence", "macro_brier_skill", ""), "value"]) < 0.02


def test_below_ten_positive_patients_a_label_has_counts_and_no_interval(analysed):
    table = analysed.result.scores
    labels = table[(table["label"] != "") & (table["row"] != ids.RANDOM) & table["value"].notna()]
    few = labels["positive_patients"] < 10
    assert few.any() and (~few).any()
    assert labels.loc[few, ["low", "high"]].isna().all(axis=None)
    assert labels.loc[~few, ["low", "high"]].notna().all(axis=None)


def test_intervals_hold_their_value_and_stay_in_range(analysed):
    table = analysed.result.scores.dropna(subset=["low"]).query("setting != 'random'")
    assert (table["low"] <= table["value"] + 1e-6).all() and (table["value"] <= table["high"] + 1e-6).all()
    bounded = table[~table["metric"].str.contains("brier_skill|coverage_error|mcc")]
    assert bounded["low"].min() >= 0 and bounded["high"].max() <= 1


@pytest.fixture(scope="module")
def split_and_best(analysed):
    return analysed.judgement.split, analysed.judgement.answer


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(split_and_best):
    split, setting = split_and_best
    frames = [
        score_setting(split, setting, patient_weights(split.patients, 100, seed))[0] for seed in (0, 0, 1)
    ]
    pd.testing.assert_frame_equal(frames[0], frames[1])
    assert not frames[0]["low"].equals(frames[2]["low"])


def test_every_metric_of_the_table_has_its_rows(split_and_best):
    split, setting = split_and_best
    table = score_setting(split, setting, np.ones((split.patients, 2)))[0]
    rows = set(zip(table["metric"], table["label"], strict=True))
    for metric in METRICS:
        assert ((metric.named(""), "") in rows) == (metric.of in ("any", "independent"))
        labels = split.labels if metric.scope == "label" else ()
        assert {(metric.name, label) for label in labels} <= rows
    assert {(metric.named("f1"), "domain:Device") for metric in METRICS if metric.name == "f1"} <= rows


def test_the_rankings_are_those_behind_the_labels_intervals(split_and_best):
    split, setting = split_and_best
    table, resampled = score_setting(split, setting, np.ones((split.patients, 2)))
    value = table.set_index(["metric", "label"])["value"]
    for metric, replicates_CB in resampled.ranking._asdict().items():
        expected_C = [value[metric, label] for label in split.labels]
        np.testing.assert_allclose(replicates_CB[:, 0], expected_C, rtol=1e-12)


def test_a_saturated_sigmoid_ties_no_scores(split_and_best):
    split, setting = split_and_best
    certain = replace(setting, test_scores_NC=100 * setting.test_scores_NC + 300)
    assert (certain.test_unit_NC == 1).mean() > 0.2
    tables = [
        score_setting(split, one, np.ones((split.patients, 2)))[0].set_index(["metric", "label"])["value"]
        for one in (setting, certain)
    ]
    for metric in METRICS:
        if metric.takes == "scores":
            assert tables[1][metric.named(""), ""] == tables[0][metric.named(""), ""]


def test_the_random_row_has_luck_and_no_resamples(split_and_best):
    split, setting = split_and_best
    table, ranking = score_setting(split, replace(setting, id=ids.RANDOM), np.ones((split.patients, 2)))
    assert ranking is None
    macro = table.set_index(["metric", "label"]).loc[("macro_auroc", "")]
    assert macro["low"] < 0.5 < macro["high"] and macro["value"] == pytest.approx(0.5, abs=0.02)


# Multiclass labels


def test_class_metrics_on_test_are_scikit_learns_with_intervals_around_them(of_classes):
    own = of_classes.result.scores.query("label == ''").set_index(["setting", "metric"])
    targets_NC = of_classes.judgement.split.targets_NC
    known_N = ~np.isnan(targets_NC).any(1)
    truth_N = targets_NC[known_N].argmax(1)
    for row in of_classes.judgement.rows:
        decided_NC = row.test_decisions_NC
        assert (decided_NC.sum(1) == 1).all()
        if row.name == "random":
            continue
        for name, reference in (
            ("accuracy", sk.accuracy_score),
            ("balanced_accuracy", sk.balanced_accuracy_score),
            ("cohen_kappa", sk.cohen_kappa_score),
        ):
            found = own.loc[(row.name, name)]
            assert found["value"] == pytest.approx(reference(truth_N, decided_NC[known_N].argmax(1)))
            if row.name == "prevalence" and name != "accuracy":  # the same among whatever patients
                assert found["low"] == found["high"] == found["value"]
            else:
                assert found["low"] < found["value"] < found["high"]
    assert own.loc[("prevalence", "accuracy"), "value"] == pytest.approx(
        np.bincount(truth_N).max() / len(truth_N)
    )
    assert own.loc[("prevalence", "balanced_accuracy"), "value"] == pytest.approx(1 / 4)
    assert own.loc[("random", "accuracy"), "low"] < 0.25 < own.loc[("random", "accuracy"), "high"]


def test_what_says_the_same_twice_is_not_in_the_table_of_multiclass_labels(of_classes):
    metrics = set(of_classes.result.scores["metric"])
    assert not metrics & {"exact_match", "lrap", "coverage_error", "ranking_loss", "micro_f1"}
    assert {"accuracy", "balanced_accuracy", "cohen_kappa"} <= metrics


def test_multiclass_labels_are_ranked_by_their_probabilities_in_every_table(of_classes):
    judgement, scores = of_classes.judgement, of_classes.result.scores
    averages = scores[scores["label"] == ""].set_index(["setting", "metric"])["value"]
    target_NC = judgement.split.targets_NC
    known_N = ~np.isnan(target_NC).any(1)
    expected = {}
    for name in ("best-1", "logreg", "pixels"):
        probs_NC = softmax(named(judgement, name).test_scores_NC, axis=1)
        expected[name] = np.mean(
            [
                sk.average_precision_score(target_NC[known_N, c], probs_NC[known_N, c])
                for c in np.flatnonzero(judgement.split.averaged_C)
            ]
        )
        assert averages[name, "macro_ap"] == pytest.approx(expected[name])
        assert judgement.shown(judgement.gap).set_index("setting").loc[name, "test"] == pytest.approx(
            expected[name]
        )
    tests = judgement.shown(judgement.comparisons).query("family == 'average'").set_index("second")
    difference = expected["best-1"] - expected["logreg"]
    assert tests.loc["logreg", "difference"] == pytest.approx(difference)
    table = judgement.test_predictions.query("setting == 'best-1'")
    assert np.allclose(table[f"score.{judgement.cohort.labels[0]}"], judgement.answer.test_unit_NC[:, 0])
