"""From the prediction table on disk alone a reader gets the scores of the report, with scikit-learn."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from tests.analysis.synthetic import finished_study


@pytest.fixture(scope="module")
def table(analysed) -> pd.DataFrame:
    return pd.read_parquet(analysed.folder / "test_predictions.parquet")


def test_a_reader_recomputes_the_averages_of_every_row_from_the_file(analysed, scores, table):
    labels = np.array(analysed.judgement.cohort.labels)[analysed.judgement.split.averaged_C]
    assert list(table["setting"].unique()) == [row.name for row in analysed.judgement.rows]
    for setting, rows in table.groupby("setting"):
        for metric, of_label, what in (
            ("macro_ap", average_precision_score, "score"),
            ("macro_auroc", roc_auc_score, "score"),
            ("macro_f1", f1_score, "decision"),
        ):
            value = np.mean(
                [of_label(rows[f"truth.{label}"].astype(int), rows[f"{what}.{label}"]) for label in labels]
            )
            reported = scores.loc[(setting, metric, "")]
            if setting == "random":  # the file holds one draw, the report the mean of a hundred
                assert abs(value - reported["value"]) < 0.1
            else:
                assert value == pytest.approx(reported["value"], abs=1e-9)


def test_a_row_says_whose_image_it_is_and_what_the_cohort_carries_along(analysed, table):
    cohort = analysed.judgement.cohort
    places = cohort.indices("test")
    best = table[table["setting"] == "best-1"]
    assert list(best["image"]) == cohort.images(places)
    for name in ("patient", "split", "keep.age"):
        assert list(best[name]) == [cohort.column(name)[n] for n in places]
    assert set(best["split"]) == {"test"}


def test_what_only_ranks_has_no_probability(table):
    for setting, only_ranks in (("zero-shot", True), ("all-positive", True), ("logreg", False)):
        rows = table[table["setting"] == setting]
        assert rows["probability.Edema"].isna().all() == only_ranks
        assert rows["score.Edema"].notna().all()


def test_a_masked_truth_is_missing(tmp_path):
    judgement = finished_study(600, masked=0.1, bootstrap=200).judgement(tmp_path)
    rows = judgement.test_predictions.query("setting == 'prevalence'")
    truth = rows[[f"truth.{label}" for label in judgement.cohort.labels]]
    np.testing.assert_array_equal(truth.to_numpy(float, na_value=np.nan), judgement.split.targets_NC)
    assert truth.isna().any().any() and set(map(str, truth.dtypes)) == {"Int8"}
