"""The rows that judgement gathers: what they know, and what they do not."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from analysis.judging.judgement import OPPONENTS
from tests.analysis.synthetic import finished_study
from trainables.baselines import LOGREG_DEEP, METADATA


def test_rows_do_not_depend_on_the_test_labels(analysed, tmp_path):
    study = analysed.study
    table = study.cohort.table
    in_test = np.array(table["split"].to_pylist()) == "test"
    for label in study.cohort.labels:
        column = f"label.{label}"
        cells = np.array(table[column].to_pylist())
        cells[in_test] = np.random.default_rng(0).permutation(cells[in_test])
        table = table.set_column(table.column_names.index(column), column, pa.array(cells, pa.int8()))
    shuffled = replace(study, cohort=replace(study.cohort, table=table)).judgement(tmp_path)
    for one, other in zip(analysed.judgement.rows, shuffled.rows, strict=True):
        assert one.note == other.note and one.rule.strategy == other.rule.strategy
        np.testing.assert_array_equal(one.test_decisions_NC, other.test_decisions_NC)
        np.testing.assert_array_equal(one.test_scores_NC, other.test_scores_NC)


def test_another_studys_best_stands_in_the_tables_and_is_one_more_opponent(tmp_path):
    study = finished_study(images=600, bootstrap=200)
    mirrored = replace(study.encoder, name="mirrored")
    other = replace(study.trials[2], name="probes", encoder=mirrored)
    features_of = study.features_of | {"mirrored": -study.features_of["synthetic"]}
    study = replace(study, compared_with=other, features_of=features_of)
    judgement = study.judgement(tmp_path)
    average = judgement.comparisons.query("family == 'average'").set_index("second")
    present = [id for id in OPPONENTS if id != LOGREG_DEEP]
    assert list(average.index) == [*present, "published/paper", judgement.compared_with]
    macro = judgement.scores.query("metric == 'macro_ap'").set_index("setting")["value"]
    expected = macro[judgement.best] - macro[judgement.compared_with]
    assert average.loc[judgement.compared_with, "difference"] == pytest.approx(expected)
    assert "the study probes" in judgement.claims[-1].sentence
    assert "study probes" in set(judgement.shown(judgement.settings)["setting"])


@pytest.mark.parametrize("name", ["study", "pixels", "logreg-deep", "random", "best-1", "best-x", "atlas"])
def test_no_name_of_another_study_takes_the_part_of_a_row(analysed, name):
    """Roles decide: whatever the other study is called, claims stay about this one's answer."""
    study = analysed.study
    other = replace(study, compared_with=replace(study.trials[2], name=name))
    predictions, before = other.predictions, study.predictions
    assert predictions.answer.id == before.answer.id == "trial/41"
    assert [row.id for row in predictions.rows[:-1]] == [row.id for row in before.rows]
    added = predictions.rows[-1]
    assert added.role == "other_study" and added.name not in {row.name for row in before.rows}


def test_without_a_text_tower_there_is_no_zero_shot_row_and_the_report_says_why(uninformed):
    assert "zero-shot" not in set(uninformed.result.scores["setting"])
    assert "encoder synthetic has no text tower" in uninformed.result.report.read_text()


def test_the_best_is_the_first_chosen_on_validation(analysed):
    assert analysed.judgement.answer.name == "best-1"
    assert analysed.judgement.published == "published/paper" and not analysed.judgement.compared_with


def test_baselines_of_multiclass_labels_decide_for_one_and_every_label_is_none(of_classes):
    rows = {row.name: row for row in of_classes.judgement.rows}
    assert "all-positive" not in rows
    train_NC = of_classes.study.cohort.targets_NC(of_classes.study.cohort.indices("train"))
    positives_C = np.nansum(train_NC, axis=0)
    assert (rows["prevalence"].test_decisions_NC.argmax(1) == positives_C.argmax()).all()
    known = (~np.isnan(train_NC).any(1)).sum()
    np.testing.assert_allclose(rows["prevalence"].test_unit_NC[0], (positives_C + 0.5) / (known + 2))
    assert set(rows["random"].test_decisions_NC.argmax(1)) == {0, 1, 2, 3}
    for row in rows.values():
        assert row.rule.multiclass and (row.test_decisions_NC.sum(1) == 1).all()
        np.testing.assert_allclose(row.test_unit_NC.sum(1), 1)


def test_the_answer_is_tested_against_the_kept_columns(analysed, scores):
    assert METADATA in OPPONENTS and analysed.judgement.has(METADATA)
    assert np.isfinite(scores.loc[("metadata", "macro_auroc", ""), "value"])
    against = analysed.result.comparisons
    assert {"average", "labels"} == set(against[against["second_row"] == METADATA]["family"])
    assert METADATA in set(analysed.result.gap["row"])
