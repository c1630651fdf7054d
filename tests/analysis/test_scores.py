"""The whole analysis: its rows, its files, and the fall from validation to test."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy.special import expit

from analysis.scores import OPPONENTS, analyze, read_tables, validation_rows, validation_to_test
from analysis.settings import floors_and_trials
from analysis.test_split import open_test_labels
from cohort.errors import InputError
from scoring.judging import judge
from tests.analysis.synthetic import finished_study, logits_of


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
        validation_rows(study.cohort, study.objective_labels_C, seed=0),
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


def test_the_fall_is_measured_over_the_same_labels_on_both_splits(analysed, scores):
    fall = analysed.result.fall.set_index("setting")
    assert fall.loc["best-1", "test"] == pytest.approx(scores.loc[("best-1", "macro_ap", ""), "value"])
    np.testing.assert_allclose(fall["fall"], fall["validation"] - fall["test"])


def fall_of(study):
    """`fall.csv` of a study, without the rest of its analysis."""
    rows = validation_rows(study.cohort, study.objective_labels_C, seed=0)
    arguments = (study.features_ND, study.pixel_features_ND, study.trials, study.objective, rows)
    settings, _ = floors_and_trials(study.cohort, study.encoder, *arguments, seed=0)
    split = open_test_labels(study.cohort, study.cohort.indices("test"), study.objective_labels_C)
    fall = validation_to_test(rows, split, settings, study.trials, study.objective).set_index("setting")
    return fall, settings, rows, split


def test_the_fall_of_macro_f1_does_not_depend_on_the_scale_of_image_text_products():
    study = finished_study(images=600, objective="macro_f1")
    louder = replace(study.encoder, direction_CD=1000 * study.encoder.direction_CD)
    fall, loud = fall_of(study)[0], fall_of(replace(study, encoder=louder))[0]
    for side in ("validation", "test"):
        assert loud.loc["zero-shot", side] == pytest.approx(fall.loc["zero-shot", side])


def test_a_trials_macro_f1_on_validation_is_judged_as_in_its_study():
    study = finished_study(images=600, objective="macro_f1")
    params = study.trials[1].params | {"threshold_shrinkage": 100.0}
    study = replace(study, trials=[replace(study.trials[1], params=params)])
    fall, settings, rows, split = fall_of(study)
    trial = settings[-1]
    (judged,) = judge(trial.val_scores_NC[None], replace(rows, averaged_C=split.averaged_C), [100.0])
    assert fall.loc["best-1", "validation"] == judged.metrics["val.macro_f1"]


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
    trial, logits_NC = logits_of(analysed.study, "best-1")
    own = table[table["setting"] == "best-1"]
    labels = analysed.study.cohort.labels
    np.testing.assert_array_equal(own[[f"probability.{label}" for label in labels]], expit(logits_NC))
    np.testing.assert_array_equal(
        own[[f"decision.{label}" for label in labels]], expit(logits_NC) >= trial.thresholds_C
    )
    assert list(own["image"]) == analysed.study.cohort.images(analysed.study.cohort.indices("test"))


def test_without_a_text_tower_there_is_no_zero_shot_row_and_the_report_says_why(uninformed):
    assert "zero-shot" not in set(uninformed.scores["setting"])
    assert "encoder synthetic has no text tower" in uninformed.report.read_text()
