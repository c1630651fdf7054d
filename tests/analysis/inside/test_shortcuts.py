"""What else features tell, and whether a ranking holds within strata."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import stats

from analysis.inside.sections import shortcuts as section
from analysis.inside.shortcuts import (
    LEVEL,
    Attribute,
    attribute_score,
    attributes,
    level_of_each,
    stratified_auroc,
    within,
)
from scoring.auroc_interval import auroc_limits
from scoring.metrics import auroc
from scoring.resampling import patient_weights


def with_columns(cohort, **columns):
    table = cohort.table
    for name, values in columns.items():
        table = table.append_column(name.replace("_", ".", 1), pa.array(values))
    return replace(cohort, table=table)


def test_columns_with_few_values_and_numbers_become_attributes(analysed):
    cohort = analysed.study.cohort
    images = len(cohort.present)
    rng = np.random.default_rng(0)
    cohort = with_columns(
        cohort,
        keep_sex=["M" if odd else "F" for odd in np.arange(images) % 2],
        keep_report=[f"free text {n}" for n in range(images)],
        keep_site=["A"] * images,
        keep_device=[None if n % 10 == 0 else f"d{n % 2}" for n in range(images)],
        keep_rare=["usual"] * (images - 3) + ["rare"] * 3,
        keep_dose=rng.normal(size=images).tolist(),
    )
    development_N, test_N = analysed.study.data.rows_N, analysed.judgement.split.rows_N
    found = {one.name: one for one in attributes(cohort, development_N, test_N)}
    assert list(found) == ["age", "sex", "device", "dose"]
    assert found["sex"].values == ("F", "M")
    first, middle, last = found["age"].values
    assert first.startswith("up to ") and " to " in middle and last.startswith("over ")
    age_N = np.array(cohort.column("keep.age"))
    assert (age_N[found["age"].value_N == 0]).max() <= (age_N[found["age"].value_N == 1]).min()
    targets_NC = found["device"].targets_NC(np.arange(20))
    assert np.isnan(targets_NC[[0, 10]]).all() and (targets_NC[1:10].sum(axis=1) == 1).all()


def test_auroc_within_strata_by_hand():
    """Strata a and b of four images each; over all images the strata's means decide."""
    targets_N = np.array([1.0, 1, 1, 0, 1, 0, 0, 0])
    scores_N = np.array([9.0, 8, 6, 7, 3, 1, 4, 2])
    stratum_N = np.repeat([0, 1], 4)
    patients_N = np.arange(8)
    found = stratified_auroc(targets_N, scores_N, stratum_N, patients_N, patient_weights(8, 50, seed=0))
    # Stratum a: 7 is beaten by 9 and 8 of three positives; b: 3 beats 1 and 2 of three negatives.
    assert [strata[1] for strata in found.strata] == pytest.approx([2 / 3, 2 / 3])
    assert found.value == pytest.approx((2 + 2) / 6)
    assert auroc(targets_N[:, None], scores_N[:, None])[0] == pytest.approx(13 / 16)
    nothing = stratified_auroc(targets_N, scores_N, np.full(8, -1), patients_N, patient_weights(8, 5, seed=0))
    assert np.isnan(nothing.value) and nothing.strata == ()


def test_a_ranking_that_only_knows_the_stratum_falls_to_chance_within():
    rng = np.random.default_rng(0)
    stratum_N = np.arange(400) % 2
    targets_NC = (rng.random(400) < 0.1 + 0.7 * stratum_N)[:, None].astype(float)
    scores_NC = stratum_N[:, None] + 0.01 * rng.normal(size=(400, 1))
    attribute = Attribute(name="view", values=("AP", "PA"), value_N=stratum_N)
    weights_PB = patient_weights(400, 200, seed=0)
    found = within(attribute, targets_NC, scores_NC, np.arange(400), np.arange(400), weights_PB)
    assert found.overall_C[0] > 0.8 and found.values_C[0] == pytest.approx(0.5, abs=0.08)
    assert all(low < 0.5 < high for _, _, low, high, _ in found.each[0].strata)
    value, low, high = found.change(found.known_C(np.array([True])), LEVEL)
    assert value == pytest.approx(found.values_C[0] - found.overall_C[0]) and low < value < high < 0


def test_a_stratum_with_few_negative_patients_gets_no_interval():
    rng = np.random.default_rng(0)
    targets_N, scores_N = (np.arange(60) >= 5).astype(float), rng.normal(size=60)
    weights_PB = patient_weights(60, 50, seed=0)
    found = stratified_auroc(targets_N, scores_N, np.zeros(60, dtype=int), np.arange(60), weights_PB)
    ((_, value, low, high, positive_patients),) = found.strata
    assert np.isfinite(value) and np.isnan([low, high]).all() and positive_patients == 55


def test_a_resample_is_the_score_of_patients_counted_as_often_as_they_weigh():
    rng = np.random.default_rng(0)
    targets_N, scores_N, stratum_N = (
        rng.integers(0, 2, 40).astype(float),
        rng.normal(size=40),
        np.arange(40) % 3,
    )
    patients_N, times_P = np.arange(40) // 2, rng.integers(1, 4, 20)
    weights_PB = times_P[:, None].astype(np.float32)
    (resampled,) = stratified_auroc(targets_N, scores_N, stratum_N, patients_N, weights_PB).replicates_B
    again_N = np.repeat(np.arange(40), times_P[patients_N])
    whole = stratified_auroc(
        targets_N[again_N], scores_N[again_N], stratum_N[again_N], patients_N[again_N], weights_PB
    )
    assert resampled == pytest.approx(whole.value, abs=1e-6)


def test_a_stratum_ranked_without_a_mistake_has_the_interval_of_a_score_table():
    """No pair of 12 and 30 patients in wrong order: the bootstrap sees no error at all."""
    targets_N = np.repeat([1.0, 0.0], [12, 30])
    nothing_N = np.zeros(42, dtype=int)
    found = stratified_auroc(targets_N, targets_N, nothing_N, np.arange(42), patient_weights(42, 200, seed=0))
    _, value, low, high, patients = found.strata[0]
    assert (value, high, patients) == (1, 1, 12) and 0.75 < low < 0.95
    limits = auroc_limits(1.0, 0.0, 12, 30, stats.t.ppf(0.975, 11))
    assert low == pytest.approx(limits[0], abs=1e-6)


def test_the_intervals_of_several_attributes_hold_together():
    for count in (1, 12):
        assert level_of_each(count) ** count == pytest.approx(LEVEL, abs=0.002)
    rng = np.random.default_rng(0)
    truth_N, stratum_N = (rng.random(200) < 0.3).astype(float), rng.integers(0, 2, 200)
    found = within(
        Attribute(name="x", values=("a", "b"), value_N=stratum_N),
        truth_N[:, None],
        (truth_N + rng.normal(size=200))[:, None],
        np.arange(200),
        np.arange(200),
        patient_weights(200, 400, seed=0),
    )
    one, of_twelve = (found.change(np.array([0]), level_of_each(count)) for count in (1, 12))
    fewer = int(found.fewer_C[0])
    wider = stats.t.ppf(1 - 0.025 / 12, fewer - 1) / stats.t.ppf(0.975, fewer - 1)
    assert of_twelve[0] == one[0]
    assert of_twelve[2] - of_twelve[0] == pytest.approx(wider * (one[2] - one[0]))


def test_an_attribute_in_the_features_is_told_and_one_that_is_not_is_not(analysed):
    judgement, models = analysed.judgement, analysed.models
    features_ND = models.features(models.encoder, "fp32")
    rng = np.random.default_rng(0)
    told_N = (features_ND[:, 0] > np.median(features_ND[:, 0])).astype(np.int64)
    thrown_N = rng.integers(0, 2, len(features_ND))
    values = []
    for value_N in (told_N, thrown_N):
        attribute = Attribute(name="x", values=("a", "b"), value_N=value_N)
        values.append(
            attribute_score(
                attribute,
                models.data,
                features_ND,
                judgement.split.rows_N,
                judgement.split.patients_N,
                judgement.weights_PB,
                LEVEL,
            )
        )
    (told, low, high), (thrown, *ends) = values
    assert told > 0.9 and low < told < high
    assert ends[0] < thrown < ends[1] and ends[0] < 0.5 < ends[1]


def test_the_section_says_it_in_a_table_and_a_sentence(analysed):
    found = section.run(analysed.models)
    table = found.tables["shortcuts"]
    assert isinstance(table, pd.DataFrame) and set(table["attribute"]) == {"age"}
    assert {"auroc_of_attribute", "auroc_within", "auroc", "auroc_change_within"} == set(table["metric"])
    sentence = found.parts[0].text
    assert "age (up to 43, 43 to 67, over 67)" in sentence


def test_without_kept_columns_it_says_how_to_keep_some(analysed):
    cohort = analysed.judgement.cohort
    bare = replace(cohort, table=cohort.table.drop_columns(["keep.age"]))
    judgement = replace(analysed.judgement, cohort=bare)
    found = section.run(replace(analysed.models, judgement=judgement))
    assert "--keep" in found.parts[0].text and not found.tables
