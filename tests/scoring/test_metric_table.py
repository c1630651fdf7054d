"""The table of metrics: its rows agree with themselves, and say what each value rests on."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from scoring import metrics
from scoring.metric_table import METRICS, averages, by_label
from scoring.model_output import ModelOutput, Resampled
from scoring.resampling import patient_weights
from tests.scoring.drawn import multiclass_bank, random_bank


def of_probs(targets_NC, probs_NC, prevalence):
    return ModelOutput(
        targets_NC=targets_NC,
        scores_NC=probs_NC,
        decisions_NC=probs_NC >= 0.5,
        probs_NC=probs_NC,
        prevalences_C=np.full(targets_NC.shape[1], prevalence),
    )


def every_score(predictions, labels):
    return averages(predictions) + by_label(predictions, labels)


@pytest.fixture(scope="module")
def made():
    targets_NC, scores_KNC = random_bank(heads=1)
    return of_probs(targets_NC, expit(scores_KNC[0]), 0.2)


@pytest.fixture(scope="module")
def made_of_classes():
    targets_NC, probs_KNC, _ = multiclass_bank(heads=1, images=120, labels=6)
    decisions_NC = np.eye(6, dtype=bool)[probs_KNC[0].argmax(1)]
    probs = of_probs(targets_NC, probs_KNC[0], 0.2)
    return replace(probs, decisions_NC=decisions_NC, multiclass=True)


@pytest.fixture
def made_of_grades(made_of_classes):
    """The same, of grades."""
    return replace(made_of_classes, ordinal=True)


@pytest.fixture(params=METRICS, ids=lambda metric: metric.name)
def metric(request):
    return request.param


@pytest.fixture
def made_for_it(metric, made, made_of_classes, made_of_grades):
    """ModelOutput of which the metric is shown."""
    return {"multiclass": made_of_classes, "ordinal": made_of_grades}.get(metric.of, made)


@pytest.fixture
def resampled(made_for_it):
    def under(weights_RB):
        return Resampled(predictions=made_for_it, rows_N=np.arange(120) // 2, weights_RB=weights_RB)

    return under


def test_replicates_at_unit_weights_are_the_values_themselves(metric, made_for_it, resampled):
    if not metric.replicates:
        pytest.skip("not resampled")
    values = metric.values(made_for_it)
    expected = np.nanmean(values) if metric.scope == "image" else values
    replicates = metric.replicates(resampled(np.ones((60, 2))), values)
    assert replicates.shape == ((6, 2) if metric.scope == "label" else (2,))
    np.testing.assert_allclose(replicates[..., 0], expected, rtol=1e-12)


def test_a_share_of_entries_gives_the_value(metric, made_for_it):
    if not metric.share:
        pytest.skip("no share")
    hits_NC, entries_NC = metric.share(made_for_it)
    values = metric.values(made_for_it)
    share = hits_NC.sum(axis=0) / entries_NC.sum(axis=0)
    expected = np.nanmean(values) if metric.scope == "image" else values
    np.testing.assert_allclose(metric.of_share(share, made_for_it), np.atleast_1d(expected), rtol=1e-6)


def test_every_metric_has_what_its_interval_is_made_of(metric):
    assert (metric.share is None) != (metric.replicates is None)


def test_values_and_replicates_stay_within_the_bounds(metric, made_for_it, resampled):
    values = metric.values(made_for_it)
    each = [values]
    if metric.replicates:
        each.append(metric.replicates(resampled(patient_weights(60, 50, seed=0)), values))
    low, high = metric.bounds_among(6)
    for one in each:
        assert np.nanmin(one) >= low - 1e-6 and np.nanmax(one) <= high + 1e-6


def test_the_skill_of_the_prevalence_is_zero_in_every_resample(made):
    said = replace(made, probs_NC=np.full(made.targets_NC.shape, 0.2))
    weights_RB = patient_weights(60, 50, seed=0)
    under = Resampled(predictions=said, rows_N=np.arange(120) // 2, weights_RB=weights_RB)
    (skill,) = (metric for metric in METRICS if metric.name == "brier_skill")
    np.testing.assert_allclose(skill.replicates(under, skill.values(said)), 0, atol=1e-5)


def test_what_counts_labels_or_grades_is_bounded_by_their_number():
    assert {m.name: m.bounds_among(14) for m in METRICS if m.bounds_among(14) != (0, 1)} == {
        "mcc": (-1, 1),
        "cohen_kappa": (-1, 1),
        "quadratic_kappa": (-1, 1),
        "mean_absolute_error": (0, 14),
        "brier_skill": (-math.inf, 1),
        "coverage_error": (0, 14),
    }


def test_the_average_over_labels_bears_the_metrics_name_but_for_average_precision():
    names = {metric.name: metric.named("") for metric in METRICS}
    assert (names["f1"], names["average_precision"]) == ("macro_f1", "macro_ap")
    assert (names["micro_f1"], names["lrap"]) == ("micro_f1", "lrap")
    assert {metric.named("Edema") for metric in METRICS} == set(names)


def test_a_masked_entry_changes_nothing():
    targets_NC, scores_KNC = random_bank(heads=1)
    probs_NC = expit(scores_KNC[0])
    other_NC = np.where(np.isnan(targets_NC), 1 - probs_NC, probs_NC)
    first, second = (
        [
            (row.name, row.label, row.value, row.positives, row.images, row.labels_averaged)
            for row in every_score(of_probs(targets_NC, p, 0.2), list("abcdef"))
        ]
        for p in (probs_NC, other_NC)
    )
    assert first == second


def test_a_table_says_what_each_value_rests_on():
    targets_NC = np.array(
        [[1, 0, np.nan], [0, 0, np.nan], [0, 0, np.nan], [1, np.nan, np.nan], [np.nan, np.nan, np.nan]]
    )
    probs_NC = np.array([[0.9, 0.1, 0.5], [0.2, 0.6, 0.5], [0.6, 0.2, 0.5], [0.7, 0.1, 0.5], [0.1, 0.1, 0.5]])
    made = of_probs(targets_NC, probs_NC, 0.5)
    rows = every_score(made, ["a", "b", "c"])
    rows += by_label(made.of_domains({"ab": [0, 1], "c": [2]}), ["domain:ab", "domain:c"])
    table = {(row.name, row.label): row for row in rows}
    assert len(table) == len(rows)
    macro_f1 = table["macro_f1", ""]
    assert (macro_f1.value, macro_f1.positives, macro_f1.images, macro_f1.labels_averaged) == (0.8, 2, 4, 1)
    # Label b has no positive, so its F1 is undefined, but its false positive counts in the pooled one.
    micro_f1 = table["micro_f1", ""]
    assert (micro_f1.value, micro_f1.positives, micro_f1.images, micro_f1.labels_averaged) == (4 / 6, 2, 4, 2)
    exact = table["exact_match", ""]
    assert (exact.value, exact.images, exact.labels_averaged) == (0.5, 4, 2)
    assert (table["lrap", ""].images, table["lrap", ""].value) == (2, 1)
    assert table["macro_brier", ""].labels_averaged == 2
    assert (table["auroc", "a"].value, table["auroc", "a"].positives, table["auroc", "a"].images) == (1, 2, 4)
    assert math.isnan(table["auroc", "b"].value) and table["auroc", "b"].labels_averaged == 0
    assert math.isnan(table["f1", "c"].value) and table["f1", "c"].images == 0
    # Image 1 decides for b, so for the domain; its label is 0. Image 3's domain is known by its positive.
    assert table["precision", "domain:ab"].value == 0.5 and table["auroc", "domain:ab"].images == 4
    assert math.isnan(table["auroc", "domain:c"].value)


def test_a_table_without_probabilities_has_no_brier_and_averages_the_labels_it_is_told():
    targets_NC, scores_KNC = random_bank(heads=1)
    averaged_C = np.array([True, False, True, False, False, False])
    made = ModelOutput(targets_NC=targets_NC, scores_NC=scores_KNC[0], decisions_NC=scores_KNC[0] > 0)
    rows = averages(made, averaged_C) + by_label(made, list("abcdef"))
    assert not [row for row in rows if "brier" in row.name]
    macro_auroc = next(row for row in rows if row.name == "macro_auroc")
    assert macro_auroc.labels_averaged == 2
    assert macro_auroc.value == metrics.auroc(targets_NC, scores_KNC[0])[averaged_C].mean()


def test_as_many_labels_as_columns_are_wanted(made):
    with pytest.raises(ValueError, match="Expected 6 `labels`, one a column, but got 1"):
        by_label(made, ["a"])


def test_multiclass_labels_have_class_metrics_in_place_of_those_that_say_the_same(made, made_of_classes):
    names, of_classes = ({score.name for score in averages(one)} for one in (made, made_of_classes))
    assert of_classes - names == {"accuracy", "balanced_accuracy", "cohen_kappa"}
    same = {"micro_f1", "micro_precision", "micro_recall", "exact_match"}
    assert names - of_classes == same | {"lrap", "coverage_error", "ranking_loss"}
    accuracy = next(score.value for score in averages(made_of_classes) if score.name == "accuracy")
    independent = {score.name: score.value for score in averages(replace(made_of_classes, multiclass=False))}
    assert [independent[name] for name in same] == [pytest.approx(accuracy)] * 4
    assert {score.name for score in by_label(made, list("abcdef"))} == {
        score.name for score in by_label(made_of_classes, list("abcdef"))
    }


def test_grades_have_two_metrics_more(made_of_classes, made_of_grades):
    names, of_grades = ({score.name for score in averages(one)} for one in (made_of_classes, made_of_grades))
    assert of_grades - names == {"quadratic_kappa", "mean_absolute_error"} and names < of_grades


def test_balanced_accuracy_takes_every_label_that_occurs_whichever_are_averaged(made_of_classes):
    few_C = np.arange(6) < 2
    table = {score.name: score for score in averages(made_of_classes, few_C)}
    recall_C = metrics.recall(made_of_classes.counts)
    assert table["macro_recall"].value == pytest.approx(np.nanmean(recall_C[:2]))
    assert table["balanced_accuracy"].value == pytest.approx(np.nanmean(recall_C))
    assert table["balanced_accuracy"].labels_averaged == (~np.isnan(recall_C)).sum()
