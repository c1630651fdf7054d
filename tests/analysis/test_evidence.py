"""The rows that evidence gathers: what they know, and what they do not."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from analysis.evidence import OPPONENTS
from cohort.errors import InputError
from tests.analysis.synthetic import finished_study


def test_rows_do_not_depend_on_the_test_labels(analysed, tmp_path):
    study = analysed.study
    table = study.cohort.table
    in_test = np.array(table["split"].to_pylist()) == "test"
    for label in study.cohort.labels:
        column = f"label.{label}"
        cells = np.array(table[column].to_pylist())
        cells[in_test] = np.random.default_rng(0).permutation(cells[in_test])
        table = table.set_column(table.column_names.index(column), column, pa.array(cells, pa.int8()))
    shuffled = replace(study, cohort=replace(study.cohort, table=table)).evidence(tmp_path)
    for one, other in zip(analysed.evidence.rows, shuffled.rows, strict=True):
        assert one.note == other.note and one.rule.strategy == other.rule.strategy
        np.testing.assert_array_equal(one.test_decisions_NC, other.test_decisions_NC)
        np.testing.assert_array_equal(one.test_scores_NC, other.test_scores_NC)


def test_another_studys_best_stands_in_the_tables_and_is_one_more_opponent(tmp_path):
    study = finished_study(images=600, bootstrap=200)
    mirrored = replace(study.encoder, name="mirrored")
    other = replace(study.trials[2], name="probes", encoder=mirrored)
    features_of = study.features_of | {"mirrored": -study.features_of["synthetic"]}
    study = replace(study, compared_with=other, features_of=features_of)
    evidence = study.evidence(tmp_path)
    average = evidence.comparisons.query("family == 'average'").set_index("second")
    assert list(average.index) == [*(name for name in OPPONENTS if name != "logreg-deep"), "probes"]
    macro = evidence.scores.query("metric == 'macro_ap'").set_index("setting")["value"]
    assert average.loc["probes", "difference"] == pytest.approx(macro["best-1"] - macro["probes"])
    assert "the study probes" in evidence.claims[-1].sentence
    assert "probes" in set(evidence.settings["setting"])
    with pytest.raises(InputError, match="a study named pixels cannot stand beside the row of that name"):
        replace(study, compared_with=replace(other, name="pixels")).evidence(tmp_path)


def test_without_a_text_tower_there_is_no_zero_shot_row_and_the_report_says_why(uninformed):
    assert "zero-shot" not in set(uninformed.result.scores["setting"])
    assert "encoder synthetic has no text tower" in uninformed.result.report.read_text()


def test_the_best_is_the_first_chosen_on_validation(analysed):
    assert analysed.evidence.best == "best-1"
    assert analysed.evidence.has("paper") and not analysed.evidence.has("probes")
