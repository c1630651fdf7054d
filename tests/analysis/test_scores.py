"""The score table, the paired tests and the files, against scikit-learn and trainables.metrics."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn import metrics as sk

from analysis import settings as names
from analysis.floors import sigmoid
from analysis.held_out import open_test_labels
from analysis.scores import OPPONENTS, SCORE_COLUMNS, analyze, read_tables, score_setting
from analysis.settings import floors_and_trials
from analysis.statistics import patient_weights
from cohort.errors import InputError
from tests.analysis.synthetic import finished_study


@pytest.fixture(scope="module")
def scores(analysed):
    return analysed.result.scores.set_index(["setting", "metric", "label"])


def targets_of(analysed):
    study = analysed.study
    return study.cohort.targets_NC(study.cohort.indices("test"))


def logits_of(analysed, name):
    study = analysed.study
    trial = next(trial for trial in study.trials if trial.name == name)
    return trial, trial.head.logits(study.features_ND[study.cohort.indices("test")]).astype(np.float64)


def test_every_setting_has_its_rows_and_the_table_its_columns(analysed):
    table = analysed.result.scores
    assert tuple(table.columns) == SCORE_COLUMNS
    assert list(dict.fromkeys(table["setting"])) == [
        "random",
        "prevalence",
        "all-positive",
        "zero-shot",
        "zero-shot-prompts",
        "pixels",
        "logreg",
        "paper",
        "best-1",
        "best-2",
        "best-3",
    ]
    assert not table.duplicated(["setting", "metric", "label"]).any()


def test_a_trials_scores_are_scikit_learns(analysed, scores):
    targets_NC = targets_of(analysed)
    trial, logits_NC = logits_of(analysed, "best-1")
    decisions_NC = sigmoid(logits_NC) >= trial.thresholds_C
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
    targets_NC = targets_of(analysed)
    _, logits_NC = logits_of(analysed, "paper")
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
    averaged = open_test_labels(
        analysed.study.cohort, analysed.study.cohort.indices("test"), analysed.study.objective_labels_C
    ).averaged_C
    chosen = [label for label, used in zip(analysed.study.cohort.labels, averaged, strict=True) if used]
    of_labels = [scores.loc[("logreg", "auroc", label), "value"] for label in chosen]
    assert scores.loc[("logreg", "macro_auroc", ""), "value"] == pytest.approx(np.mean(of_labels))


def test_what_knows_nothing_scores_what_nothing_scores(scores):
    for name in (names.PREVALENCE, names.ALL_POSITIVE):
        assert scores.loc[(name, "macro_auroc", ""), "value"] == 0.5
    assert scores.loc[(names.RANDOM, "macro_auroc", ""), "value"] == pytest.approx(0.5, abs=0.02)
    assert scores.loc[(names.ALL_POSITIVE, "macro_recall", ""), "value"] == 1
    assert abs(scores.loc[(names.PREVALENCE, "macro_brier_skill", ""), "value"]) < 0.02


def test_below_ten_positive_patients_a_label_has_counts_and_no_interval(analysed):
    table = analysed.result.scores
    labels = table[(table["label"] != "") & (table["setting"] != names.RANDOM) & table["value"].notna()]
    few = labels["positive_patients"] < 10
    assert few.any() and (~few).any()
    assert labels.loc[few, ["low", "high"]].isna().all(axis=None)
    assert labels.loc[~few, ["low", "high"]].notna().all(axis=None)


def test_intervals_hold_their_value_and_stay_in_range(analysed):
    table = analysed.result.scores.dropna(subset=["low"]).query("setting != 'random'")
    assert (table["low"] <= table["value"] + 1e-6).all() and (table["value"] <= table["high"] + 1e-6).all()
    bounded = table[~table["metric"].str.contains("brier_skill|coverage_error|mcc")]
    assert bounded["low"].min() >= 0 and bounded["high"].max() <= 1


def test_replicates_at_unit_weights_are_the_values_themselves(analysed):
    study = analysed.study
    test_N = study.cohort.indices("test")
    split = open_test_labels(study.cohort, test_N, study.objective_labels_C)
    rows, _ = floors_and_trials(
        study.cohort,
        study.encoder,
        study.features_ND,
        study.pixel_features_ND,
        study.trials,
        "macro_ap",
        study.objective_labels_C,
        seed=0,
    )
    setting = next(row for row in rows if row.name == "best-2")
    frame, replicates = score_setting(split, setting, np.ones((split.patients, 2)))
    value = frame.set_index(["metric", "label"])["value"]
    for metric, replicates_EB in replicates.by_label.items():
        for e, label in enumerate(split.names):
            if e < len(replicates_EB) and (metric, label) in value:
                assert replicates_EB[e, 0] == pytest.approx(value[metric, label], nan_ok=True)
    for metric, replicates_B in (replicates.by_image | replicates.micro).items():
        assert replicates_B[0] == pytest.approx(value[metric, ""])


def test_settings_do_not_depend_on_the_test_labels(analysed):
    study = analysed.study
    table = study.cohort.table
    in_test = np.array(table["split"].to_pylist()) == "test"
    for label in study.cohort.labels:
        column = f"label.{label}"
        cells = np.array(table[column].to_pylist())
        cells[in_test] = np.random.default_rng(0).permutation(cells[in_test])
        table = table.set_column(table.column_names.index(column), column, pa.array(cells, pa.int8()))
    shuffled = replace(study.cohort, table=table)
    arguments = (
        study.encoder,
        study.features_ND,
        study.pixel_features_ND,
        study.trials,
        "macro_ap",
        study.objective_labels_C,
        0,
    )
    for one, other in zip(
        floors_and_trials(study.cohort, *arguments)[0],
        floors_and_trials(shuffled, *arguments)[0],
        strict=True,
    ):
        assert one.note == other.note and one.strategy == other.strategy
        np.testing.assert_array_equal(one.test_decisions_NC, other.test_decisions_NC)
        np.testing.assert_array_equal(one.test_scores_NC, other.test_scores_NC)


def test_the_best_is_compared_with_every_opponent_in_two_families(analysed):
    table = analysed.result.comparisons
    assert set(table["first"]) == {"best-1"}
    assert list(table.loc[table["family"] == "average", "second"]) == list(OPPONENTS)
    labels = table[table["family"] == "labels"]
    counted = analysed.result.scores.query("setting == 'best-1' and metric == 'auroc'")
    claimable = counted[(counted["positive_patients"] >= 10) & ~counted["label"].str.startswith("domain:")][
        "label"
    ]
    assert set(labels["label"]) == set(claimable)
    assert len(labels) == len(claimable) * len(OPPONENTS)
    assert (table["p_holm"] >= table["p"]).all()


def test_another_studys_best_stands_in_the_tables_and_is_one_more_opponent(tmp_path):
    study = finished_study(images=600)
    beside = replace(study.trials[2], name="probes", features_ND=-study.features_ND)
    result = analyze(**vars(study), beside=beside, folder=tmp_path, bootstrap=200)
    average = result.comparisons.query("family == 'average'").set_index("second")
    assert list(average.index) == [*OPPONENTS, "probes"]
    macro = result.scores.query("metric == 'macro_ap'").set_index("setting")["value"]
    assert average.loc["probes", "difference"] == pytest.approx(macro["best-1"] - macro["probes"])
    assert "the study probes" in result.claims[-1].sentence
    assert set(pd.read_csv(tmp_path / "settings.csv")["setting"]) >= {"probes"}
    with pytest.raises(InputError, match="a study named pixels cannot stand beside the row of that name"):
        analyze(**vars(study), beside=replace(beside, name="pixels"), folder=tmp_path, bootstrap=200)


def test_a_difference_is_that_of_the_two_rows_of_the_score_table(analysed, scores):
    row = analysed.result.comparisons.query("family == 'average' and second == 'pixels'").iloc[0]
    first, second = (scores.loc[(name, "macro_ap", ""), "value"] for name in ("best-1", "pixels"))
    assert row["difference"] == pytest.approx(first - second)
    assert row["low"] < row["difference"] < row["high"]


def test_a_strong_label_is_above_chance_and_noise_is_not(analysed, uninformed):
    table = analysed.result.comparisons
    chance = table[(table["family"] == "labels") & (table["second"] == names.PREVALENCE)]
    strongest = chance.loc[chance["difference"].idxmax()]
    assert strongest["p_holm"] < 0.05
    chance = uninformed.comparisons.query("family == 'average' and second == 'prevalence'").iloc[0]
    assert chance["p_holm"] > 0.05
    assert next(claim for claim in uninformed.claims if claim.label == "").verdict == "not above chance"


def test_the_fall_is_measured_over_the_same_labels_on_both_splits(analysed, scores):
    fall = analysed.result.fall.set_index("setting")
    assert fall.loc["best-1", "test"] == pytest.approx(scores.loc[("best-1", "macro_ap", ""), "value"])
    np.testing.assert_allclose(fall["fall"], fall["validation"] - fall["test"])


def test_the_files_read_back_as_the_result(analysed):
    read_scores, read_comparisons = read_tables(analysed.folder)
    pd.testing.assert_frame_equal(
        read_scores, analysed.result.scores.reset_index(drop=True), rtol=1e-4, atol=1e-6, check_dtype=False
    )
    assert list(read_comparisons["second"]) == list(analysed.result.comparisons["second"])
    assert read_tables(analysed.folder / "figures") is None
    best = analysed.study.trials[1]
    assert read_tables(analysed.folder, best) is not None
    assert read_tables(analysed.folder, replace(best, number=best.number + 1)) is None
    assert (analysed.folder / "claims.txt").read_text().count("\n") == len(analysed.result.claims)


def test_the_predictions_on_disk_are_the_trials_probabilities_and_decisions(analysed):
    table = pd.read_parquet(analysed.folder / "test_predictions.parquet")
    trial, logits_NC = logits_of(analysed, "best-1")
    own = table[table["setting"] == "best-1"]
    labels = analysed.study.cohort.labels
    np.testing.assert_array_equal(own[[f"probability.{label}" for label in labels]], sigmoid(logits_NC))
    np.testing.assert_array_equal(
        own[[f"decision.{label}" for label in labels]], sigmoid(logits_NC) >= trial.thresholds_C
    )
    assert list(own["image"]) == analysed.study.cohort.images(analysed.study.cohort.indices("test"))


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(analysed):
    study = analysed.study
    split = open_test_labels(study.cohort, study.cohort.indices("test"), study.objective_labels_C)
    setting = floors_and_trials(
        study.cohort,
        study.encoder,
        study.features_ND,
        study.pixel_features_ND,
        study.trials[:1],
        "macro_ap",
        study.objective_labels_C,
        seed=0,
    )[0][-1]
    frames = [
        score_setting(split, setting, patient_weights(split.patients, 100, seed))[0] for seed in (0, 0, 1)
    ]
    pd.testing.assert_frame_equal(frames[0], frames[1])
    assert not frames[0]["low"].equals(frames[2]["low"])


def test_without_a_text_tower_there_is_no_zero_shot_row_and_the_report_says_why(uninformed):
    assert "zero-shot" not in set(uninformed.scores["setting"])
    assert "encoder synthetic has no text tower" in uninformed.report.read_text()


def test_a_test_split_without_positives_is_refused():
    study = finished_study(images=500)
    nothing = np.zeros(len(study.cohort.labels), dtype=bool)
    with pytest.raises(InputError, match="none of the study's labels has 2 positive patients on test"):
        open_test_labels(study.cohort, study.cohort.indices("test"), nothing)
