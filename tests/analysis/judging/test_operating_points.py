"""The best row at wanted operating points: thresholds from validation alone, numbers of test by hand."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax

from scoring.operating_points import OperatingPoint
from tests.analysis.synthetic import finished_study


@pytest.fixture(scope="module")
def judgement(tmp_path_factory):
    study = finished_study(1200, bootstrap=300)
    points = tuple(map(OperatingPoint.parse, ("sensitivity 0.9", "specificity 0.8")))
    return replace(study, facts=replace(study.facts, operating_points=points)).judgement(
        tmp_path_factory.mktemp("points")
    )


def test_thresholds_come_from_validation_and_the_numbers_from_test(judgement):
    row, c = judgement.answer, judgement.cohort.labels.index("No Finding")
    val_N, judged_N = row.rule.scale.unit(row.val_scores_NC)[:, c], judgement.judged.targets_NC[:, c]
    test_N, target_N = row.test_unit_NC[:, c], judgement.split.targets_NC[:, c]
    for point, measure in (("sensitivity 0.9", 1), ("specificity 0.8", 0)):
        table = judgement.operating_points.set_index(["point", "label"])
        own = table.loc[(point, "No Finding")].set_index("metric")
        (threshold,) = set(own["threshold"])
        on_validation = (val_N >= threshold)[judged_N == measure].mean()
        assert on_validation >= 0.9 if measure else on_validation <= 0.2
        decided_N = test_N >= threshold
        for metric, value in (
            ("sensitivity", decided_N[target_N == 1].mean()),
            ("specificity", 1 - decided_N[target_N == 0].mean()),
            ("ppv", (target_N[decided_N & ~np.isnan(target_N)] == 1).mean()),
            ("npv", (target_N[~decided_N & ~np.isnan(target_N)] == 0).mean()),
        ):
            assert own.loc[metric, "value"] == pytest.approx(value)
            assert own.loc[metric, "low"] < value < own.loc[metric, "high"]
        assert own["positives"].iloc[0] == (target_N == 1).sum()


def test_under_ten_positive_patients_there_is_no_interval(judgement):
    few = judgement.operating_points.query("positive_patients < 10")
    assert len(few) and few["low"].isna().all()
    assert judgement.operating_points.query("positive_patients >= 10")["low"].notna().all()


def test_where_none_is_wanted_there_is_no_row(analysed):
    assert analysed.judgement.operating_points.empty


def test_thresholds_of_multiclass_labels_lie_on_their_probabilities(of_classes):
    facts = replace(of_classes.judgement.study, operating_points=(OperatingPoint.parse("sensitivity 0.9"),))
    judgement = replace(of_classes.judgement, study=facts)
    row, c = judgement.answer, 0
    table = judgement.operating_points.set_index(["label", "metric"])
    threshold = table.loc[(judgement.cohort.labels[c], "sensitivity"), "threshold"]
    val_N = softmax(row.val_scores_NC, axis=1)[judgement.judged.targets_NC[:, c] == 1, c]
    test_N = softmax(row.test_scores_NC, axis=1)[judgement.split.targets_NC[:, c] == 1, c]
    assert (val_N >= threshold).mean() == pytest.approx(0.9, abs=1 / len(val_N))
    assert table.loc[(judgement.cohort.labels[c], "sensitivity"), "value"] == (test_N >= threshold).mean()
