"""Features as a fold's heads see them: what is measured on training rows, and what the way back gives.

Shape legend: N images, D features, R coordinates, C labels.
"""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from tests.trainables.single_split import probe_data
from trainables import fold_features as module
from trainables.fold_features import fold_features
from trainables.trial_data import ProbeData
from vlm.feature_kinds import FeatureKind


def drawn(images=120, width=30, rank=None, blocks=()) -> ProbeData:
    rng = np.random.default_rng(0)
    rank = rank or width
    x_ND = rng.normal(size=(images, rank)) @ rng.normal(size=(rank, width)) + rng.normal(size=width)
    targets_NC = (rng.random((images, 2)) < 0.4).astype(np.float32)
    half = images // 2
    data = probe_data(
        x_ND[:half],
        targets_NC[:half],
        x_ND[half:],
        targets_NC[half:],
        val_patients_N=np.arange(half),
        val_folds_N=np.arange(half) % 5,
        labels=("a", "b"),
    )
    kinds = {"deep": FeatureKind("deep", 2, blocks)} if blocks else None
    return replace(data, kinds=kinds).cross_validated(4, seed=0, enough=5)


def raw_logits(features, weight_RC, bias_C):
    return features.x_NR @ weight_RC + bias_C


@pytest.mark.parametrize("normalisation", ["none", "l2", "center", "standardize"])
@pytest.mark.parametrize("wide", [False, True])
def test_a_head_on_coordinates_is_the_same_head_on_the_encoders_features(normalisation, wide, monkeypatch):
    """To 1e-5 of the logits' spread."""
    if wide:
        monkeypatch.setattr(module, "WIDE", 20)
        monkeypatch.setattr(module, "COMPONENTS", 15)
    data = drawn()
    features = fold_features(data, 1, "projected", normalisation)
    assert features.x_NR.shape == (120, 15 if wide else 30)
    rng = np.random.default_rng(1)
    weight_RC, bias_C = rng.normal(size=(features.x_NR.shape[1], 2)).astype(np.float32), np.float32([0.5, -1])
    expected_NC = raw_logits(features, weight_RC, bias_C)
    logits_NC = features.head(weight_RC, bias_C).logits(data.features_ND)
    np.testing.assert_allclose(logits_NC, expected_NC, rtol=0, atol=1e-5 * expected_NC.std())


def test_everything_is_measured_on_the_folds_training_rows():
    data = drawn()
    train_N = data.training_N(2)
    x_ND = fold_features(data, 2, "projected", "standardize").x_NR
    np.testing.assert_allclose(x_ND[train_N].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(x_ND[train_N].std(0), 1, atol=1e-4)
    moved = data.features_ND.copy()
    moved[data.judged_N(2)] += 100
    other = fold_features(replace(data, features_ND=moved), 2, "projected", "standardize")
    np.testing.assert_array_equal(other.x_NR[train_N], x_ND[train_N])


def test_each_block_weighs_the_same_and_a_turned_row_is_as_long_as_one_of_standardised_columns():
    data = drawn(images=120, width=42, blocks=(10, 30))
    features = fold_features(data, 0, "deep", "standardize")
    train_N = data.training_N(0)
    assert features.first == 2 and features.x_NR.shape == (120, 40)
    assert np.square(features.x_NR[train_N]).mean() == pytest.approx(1, abs=1e-4)
    scaled_ND = (data.features_ND[:, 2:] - features.mean_D) / features.scale_D
    blocks = np.square(scaled_ND[train_N]).sum(1).mean(), np.square(scaled_ND[train_N, :10]).sum(1).mean()
    assert blocks[0] == pytest.approx(2 * blocks[1], rel=1e-3)
    # No coordinate is a principal axis: their variances are alike.
    variance_R = features.x_NR[train_N].var(0)
    assert variance_R.max() < 6 * variance_R.min()


def test_leading_components_of_features_of_low_rank_keep_all_distances(monkeypatch):
    monkeypatch.setattr(module, "WIDE", 20)
    monkeypatch.setattr(module, "COMPONENTS", 12)
    data = drawn(width=30, rank=8)
    narrow_NR = fold_features(data, 0, "projected", "center").x_NR
    mean_D = data.features_ND[data.training_N(0)].mean(0)
    wide_ND = data.features_ND - mean_D
    ratio = np.linalg.norm(narrow_NR, axis=1) / np.linalg.norm(wide_ND, axis=1)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-3)


def test_what_took_a_decomposition_is_kept_with_the_data_and_goes_along_to_a_worker():
    data = drawn(width=42, blocks=(10, 30))
    made = fold_features(data, 0, "deep", "standardize")
    assert fold_features(data, 0, "deep", "standardize") is made
    there = pickle.loads(pickle.dumps(data))
    np.testing.assert_array_equal(there.prepared[0, "deep", "standardize"].x_NR, made.x_NR)
    assert not replace(data).prepared


# ---- views ----


def in_views(data: ProbeData, views=3) -> ProbeData:
    """The same images in further views, each with noise of its own."""
    rng = np.random.default_rng(7)
    noisy = [data.features_ND + rng.normal(0, 0.3, data.features_ND.shape) for _ in range(views - 1)]
    features_ND = np.concatenate([data.features_ND, *noisy], axis=1).astype(np.float32)
    return replace(data, features_ND=features_ND, image_views=views)


@pytest.mark.parametrize("blocks", [(), (10, 18)])
def test_a_head_says_of_an_image_the_mean_of_its_views(blocks):
    """To 1e-5 of the spread: one head on the whole row, and each view's coordinates by hand."""
    data = in_views(drawn(blocks=blocks))
    features = fold_features(data, 1, "deep" if blocks else "projected", "standardize")
    rng = np.random.default_rng(1)
    weight_RC = rng.normal(size=(features.x_VNR.shape[2], 2)).astype(np.float32)
    bias_C = np.float32([0.5, -1])
    expected_NC = np.mean([x_NR @ weight_RC + bias_C for x_NR in features.x_VNR], axis=0)
    head = features.head(weight_RC, bias_C)
    np.testing.assert_allclose(
        head.logits(data.features_ND), expected_NC, rtol=0, atol=1e-5 * expected_NC.std()
    )
    np.testing.assert_allclose(raw_logits(features, weight_RC, bias_C), expected_NC, rtol=1e-3, atol=1e-5)


def test_training_rows_are_those_of_every_view_and_measured_together():
    data = in_views(drawn())
    features, train_N = fold_features(data, 2, "projected", "standardize"), data.training_N(2)
    rows_NR = features.training(train_N)
    assert rows_NR.shape == (3 * len(train_N), 30)
    np.testing.assert_allclose(rows_NR.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(rows_NR.std(0), 1, atol=1e-4)
    assert data.of_first_view().features_ND.shape == (120, 30)


def test_directions_know_one_view():
    with pytest.raises(ValueError, match="normalisation l2 knows one view"):
        fold_features(in_views(drawn()), 0, "projected", "l2")
