"""The baseline that sees no image: how columns become numbers, and what their regression may say."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from scoring.metrics import auroc
from tests.analysis.synthetic import finished_study, made_up_cohort
from trainables.baselines import METADATA
from trainables.baselines.base import BaselineInputs
from trainables.baselines.kept_columns import fit, kept_columns

IMAGES = 400


@pytest.fixture(scope="module")
def bare():
    cohort = made_up_cohort(IMAGES, seed=0, masked=0.0)
    return replace(cohort, table=cohort.table.drop_columns(["keep.age"]))


def keeping(cohort, **columns):
    table = cohort.table
    for name, values in columns.items():
        table = table.append_column(f"keep.{name}", pa.array(values))
    return replace(cohort, table=table)


def inputs(cohort, data):
    return BaselineInputs(cohort=cohort, data=data, encoder=None, features=None, objective="macro_auroc")


def development(cohort):
    return np.concatenate([cohort.indices("train"), cohort.indices("val")])


def test_words_become_a_column_each_with_missing_as_one_and_rare_ones_pooled(bare):
    site = ["A" if n % 2 else "B" for n in range(IMAGES)]
    rows_N, test_N = development(bare), bare.indices("test")
    for place, n in enumerate(rows_N[:80]):
        site[n] = None if place % 2 else f"rare {place % 4}" if place < 6 else site[n]
    site[test_N[0]] = "never seen before"
    kept = kept_columns(keeping(bare, site=site), rows_N)
    assert kept.read == ("site",) and kept.left_out == ()
    x_ND = kept.features_ND
    assert x_ND.dtype == np.float32 and (x_ND.sum(axis=1) == 1).all() and x_ND.shape == (IMAGES, 4)
    missing_N, rare_N = (np.array([test(word) for word in site]) for test in (lambda w: w is None, is_rare))
    np.testing.assert_array_equal(x_ND[:, 0] == 1, missing_N)
    np.testing.assert_array_equal(x_ND[:, 3] == 1, rare_N)


def is_rare(word):
    return word is not None and word not in "AB"


def test_numbers_stay_numbers_with_a_column_for_where_they_are_missing(bare):
    age = [None if n % 7 == 0 else 20.0 + n % 60 for n in range(IMAGES)]
    x_ND = kept_columns(keeping(bare, age=age), development(bare)).features_ND
    assert x_ND.shape == (IMAGES, 2)
    known_N = np.array([one is not None for one in age])
    ages_N = np.array([one for one in age if one is not None])
    assert np.corrcoef(ages_N, x_ND[known_N, 0])[0, 1] == pytest.approx(1, abs=1e-6)
    assert (x_ND[~known_N, 0] == 0).all() and ((x_ND[:, 1] == 1) == ~known_N).all()


def test_columns_that_cannot_be_read_are_named_with_the_reason(bare):
    kept = kept_columns(
        keeping(
            bare,
            report=[f"free text {n % 111}" for n in range(IMAGES)],
            country=["X"] * IMAGES,
            sex=["M" if n % 2 else "F" for n in range(IMAGES)],
        ),
        np.arange(IMAGES),
    )
    assert kept.read == ("sex",)
    assert kept.left_out == ("report (111 values)", "country (hardly varies)")
    assert "report (111 values)" in kept.note and kept.note.startswith("sex")


def test_a_column_that_is_the_labels_by_another_name_is_left_out(bare):
    found = ["Edema|Fracture" if n % 3 == 0 else "none" for n in range(IMAGES)]
    kept = kept_columns(keeping(bare, found=found, edema=[n % 2 for n in range(IMAGES)]), np.arange(IMAGES))
    assert kept.read == () and kept.left_out == ("found (holds labels)", "edema (holds labels)")


def test_the_encoding_sees_no_test_image_and_no_label(bare):
    rng = np.random.default_rng(0)
    rows_N, test_N = development(bare), bare.indices("test")
    site, dose = rng.choice(["A", "B", "C"], IMAGES).astype(object), rng.normal(size=IMAGES)
    before = kept_columns(keeping(bare, site=site, dose=dose), rows_N).features_ND
    site[test_N], dose[test_N] = "D", 1e6
    other = replace(bare, table=bare.table.drop_columns([f"label.{label}" for label in bare.labels[1:]]))
    after = kept_columns(keeping(other, site=site, dose=dose), rows_N).features_ND
    np.testing.assert_array_equal(after[rows_N], before[rows_N])
    assert np.isfinite(after).all()


def test_their_regression_finds_what_a_column_tells_and_nothing_in_one_that_tells_nothing():
    study = finished_study(images=900, masked=0.0)
    rng = np.random.default_rng(0)
    targets_NC = study.cohort.targets_NC()
    common = int(targets_NC.sum(axis=0).argmax())
    told = ["AP" if one else "PA" for one in targets_NC[:, common] == 1]
    thrown = rng.choice(list("abcdefgh"), len(targets_NC)).tolist()
    test_N = study.cohort.indices("test")
    bare = replace(study.cohort, table=study.cohort.table.drop_columns(["keep.age"]))
    for columns, low, high in (({"device": told}, 0.99, 1.01), ({"device": thrown}, 0.3, 0.65)):
        cohort = keeping(bare, **columns)
        (baseline,) = fit(inputs(cohort, study.data))
        row = baseline.row
        assert row.id == METADATA and "device" in row.note
        judged_N = study.data.judged_N()
        on_val_C = auroc(study.data.targets_NC[judged_N], row.scores_NC[study.data.rows_N[judged_N]])
        assert row.origin.objective == pytest.approx(on_val_C[study.data.scored_C].mean())
        on_val = on_val_C[common]
        on_test = auroc(targets_NC[test_N], row.scores_NC[test_N])[common]
        assert low < on_test < high and low < on_val < high


def test_without_a_column_to_read_there_is_no_row(bare):
    kept = kept_columns(bare, development(bare))
    assert kept.read == kept.left_out == ()
    assert fit(inputs(bare, SimpleNamespace(rows_N=development(bare)))) == []
