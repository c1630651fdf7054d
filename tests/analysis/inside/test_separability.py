"""Separability of a feature space: rows, rare labels, agreement with scikit-learn, and calibration on
noise."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score, silhouette_score
from sklearn.neighbors import KNeighborsClassifier

import analysis.inside.separability
from analysis.inside.separability import (
    COLUMNS,
    PUBLISHED_PREFIX,
    SEPARABILITY_METRICS,
    Points,
    published_classes,
    separability,
)
from scoring.separability import published_separability

LABELS = ("Told", "Noise", "One patient", "Nobody")


@pytest.fixture(scope="module")
def points():
    """Two images a patient; one label lies in the features, one does not, one has a single patient."""
    rng = np.random.default_rng(0)
    patients_N = np.arange(160) // 2
    targets_NC = np.zeros((160, 4))
    targets_NC[:, 0] = (patients_N % 3 == 0) * 1.0
    targets_NC[:, 1] = (rng.random(80) < 0.3)[patients_N] * 1.0
    targets_NC[10:12, 2] = 1
    targets_NC[rng.random(160) < 0.05, 1] = np.nan
    x_ND = rng.normal(size=(160, 12)) + 1.5 * targets_NC[:, [0]]
    return Points(
        features_ND=x_ND.astype(np.float32),
        targets_NC=targets_NC,
        patients_N=patients_N,
        labels=LABELS,
        seed=0,
    )


@pytest.fixture(scope="module")
def table(points):
    return separability(points, "frozen")


def test_every_metric_of_every_separable_label_has_its_chance(points, table):
    assert tuple(table.columns) == COLUMNS and set(table["setting"]) == {"frozen"}
    assert points.too_rare == ["One patient", "Nobody"]
    ours = table[~table["metric"].str.startswith(PUBLISHED_PREFIX)]
    assert set(ours["label"]) == {"Told", "Noise", ""}
    for _, own in ours.groupby("label"):
        assert set(own["metric"]) <= set(SEPARABILITY_METRICS) and len(own) >= len(SEPARABILITY_METRICS) - 1
    bounded = ours[ours["metric"] != "davies_bouldin"]
    assert (bounded["chance_low"] <= bounded["chance_high"]).all()
    assert ours["p"].between(1 / 201, 1).all()
    labelled = ours[ours["label"] != ""]
    assert (labelled["p_adjusted"] >= labelled["p"] - 1e-9).mean() > 0.8


def test_what_lies_in_the_features_is_told_and_the_rest_is_not(table):
    rows = table.set_index(["metric", "label"])
    for metric in ("ratio", "fisher", "silhouette", "knn_accuracy", "logistic_accuracy"):
        told, noise = rows.loc[(metric, "Told")], rows.loc[(metric, "Noise")]
        assert told["p_adjusted"] < 0.05 and told["value"] > told["chance_high"]
        assert noise["p"] > 0.01
        assert told["low"] < told["value"] < told["high"]


def test_fewer_than_ten_positive_patients_get_no_interval(points):
    few = points.targets_NC.copy()
    few[points.patients_N > 12, 0] = 0
    table = separability(replace(points, targets_NC=few), "x")
    own = table[table["label"] == "Told"]
    assert (own["positive_patients"] == 5).all() and own["low"].isna().all()
    assert own["chance_low"].notna().sum() >= len(SEPARABILITY_METRICS) - 1


def test_few_negative_patients_get_no_interval_either(points):
    many = points.targets_NC.copy()
    many[points.patients_N > 6, 0] = 1
    table = separability(replace(points, targets_NC=many), "x")
    own = table[table["label"] == "Told"]
    assert (own["positive_patients"] > 70).all() and own["low"].isna().all()
    assert own["chance_low"].notna().sum() >= len(SEPARABILITY_METRICS) - 1


@pytest.mark.parametrize("positives", [2, 3])
def test_noise_with_few_positive_patients_is_rarely_told_from_chance(monkeypatch, positives):
    """p < 0.05 in 5 of 100 cohorts at most, up to two errors of 80 draws."""
    monkeypatch.setattr(analysis.inside.separability, "RESAMPLES", 2)
    below = []
    for seed in range(80):
        rng = np.random.default_rng([seed, positives])
        patients_N = np.repeat(np.arange(40), rng.integers(1, 4, 40))
        x_ND = rng.normal(size=(40, 32))[patients_N] + 0.5 * rng.normal(size=(len(patients_N), 32))
        sick_P = np.isin(np.arange(40), rng.choice(40, positives, replace=False))
        table = separability(
            Points(
                features_ND=x_ND.astype(np.float32),
                targets_NC=sick_P[patients_N, None].astype(float),
                patients_N=patients_N,
                labels=("a",),
                seed=seed,
            ),
            "noise",
        )
        own = table[table["label"] == "a"].set_index("metric")["p"]
        below.append([own["logistic_accuracy"] < 0.05, own["knn_accuracy"] < 0.05])
    assert np.mean(below, axis=0).max() <= 0.10


def test_the_published_protocol_is_scikit_learns_on_the_same_points(points, table):
    class_N = published_classes(points.targets_NC)
    used = class_N >= 0
    x_ND, y_N = points.features_ND[used], class_N[used]
    rows = table.set_index(["metric", "label"])["value"]
    expected = {
        "silhouette": silhouette_score(x_ND, y_N, metric="cosine"),
        "davies_bouldin": davies_bouldin_score(x_ND, y_N),
        "calinski_harabasz": calinski_harabasz_score(x_ND, y_N),
        "knn_accuracy": KNeighborsClassifier(5, metric="cosine").fit(x_ND, y_N).score(x_ND, y_N),
        **published_separability(x_ND, y_N)._asdict(),
    }
    for metric, value in expected.items():
        assert rows[PUBLISHED_PREFIX + metric, ""] == pytest.approx(value, rel=1e-4)


def test_an_image_belongs_to_the_first_of_its_labels_as_published():
    targets_NC = np.array([[0, 1, 1], [1, 0, 1], [0, 0, 0], [np.nan, 0, 1]])
    assert published_classes(targets_NC).tolist() == [1, 0, -1, 2]


def test_one_class_gives_no_published_rows_and_no_label_none_at_all(points):
    def of(targets_NC):
        return separability(replace(points, targets_NC=targets_NC), "x")

    nothing = of(np.zeros((160, 4)))
    assert nothing.empty and tuple(nothing.columns) == COLUMNS
    one = of(np.where(np.arange(4) == 0, points.targets_NC, 0))
    assert not one["metric"].str.startswith(PUBLISHED_PREFIX).any() and len(one)


def test_the_same_seed_gives_the_same_table(points, table):
    again = separability(points, "frozen")
    np.testing.assert_array_equal(again["value"], table["value"])
    np.testing.assert_array_equal(again["p"], table["p"])


def test_the_chance_of_noise_contains_what_is_measured(monkeypatch):
    """95 of 100 simulated cohorts of noise, whose patients' images resemble each other and share their
    labels."""
    monkeypatch.setattr(analysis.inside.separability, "RESAMPLES", 2)
    metrics = ["inter", "ratio", "fisher", "silhouette", "knn_accuracy", "logistic_accuracy"]
    inside = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        patients_N = np.sort(rng.integers(0, 40, 70))
        patients_N = np.unique(patients_N, return_inverse=True)[1]
        patients = patients_N.max() + 1
        x_ND = rng.normal(size=(patients, 10))[patients_N] + 0.5 * rng.normal(size=(70, 10))
        targets_NC = (rng.random((patients, 2)) < [0.4, 0.2])[patients_N].astype(float)
        table = separability(
            Points(
                features_ND=x_ND.astype(np.float32),
                targets_NC=targets_NC,
                patients_N=patients_N,
                labels=("a", "b"),
                seed=seed,
            ),
            "noise",
        )
        ours = table[table["metric"].isin(metrics) & (table["label"] != "")]
        inside.append(ours["value"].between(ours["chance_low"], ours["chance_high"]).to_numpy())
        published = table[table["metric"] == f"{PUBLISHED_PREFIX}ratio"]
        inside.append(
            published["value"].between(published["chance_low"], published["chance_high"]).to_numpy()
        )
    share = np.concatenate(inside).mean()
    assert 0.91 < share < 0.985
