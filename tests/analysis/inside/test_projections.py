"""Feature spaces in the plane."""

import sys

import numpy as np
import pytest

from analysis.inside.projections import FITTED, METHODS, not_installed, project


@pytest.fixture(scope="module")
def clouds():
    rng = np.random.default_rng(0)
    group_N = np.arange(240) % 2
    x_ND = rng.normal(size=(240, 16)) + 6 * group_N[:, None] * np.eye(16)[0] + 1
    return x_ND[:160].astype(np.float32), x_ND[160:].astype(np.float32), group_N[160:]


@pytest.mark.slow  # half a minute each, nearly all of it Numba compiling
@pytest.mark.parametrize("method", METHODS)
def test_far_groups_stay_apart_and_the_same_seed_gives_the_same_plane(clouds, method):
    training_ND, held_ND, group_N = clouds
    first, again = (project(method, training_ND, held_ND, seed=0) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.shape == (80, 2) and np.isfinite(first).all()
    means = [first[group_N == group].mean(axis=0) for group in (0, 1)]
    spread = np.mean([first[group_N == group].std(axis=0).mean() for group in (0, 1)])
    assert np.linalg.norm(means[0] - means[1]) > 2 * spread


def test_pca_is_fitted_on_training_alone(clouds):
    training_ND, held_ND, _ = clouds
    centred = training_ND - training_ND.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:2]
    expected = (held_ND - training_ND.mean(axis=0)) @ axes.T
    found = project("PCA", training_ND, held_ND, seed=0)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-3)
    np.testing.assert_allclose(project("PCA", training_ND, held_ND[:3], seed=0), found[:3], atol=1e-5)


def test_too_few_images_are_left_out(clouds):
    training_ND, held_ND, _ = clouds
    assert project("UMAP", training_ND, held_ND[:20], seed=0) is None
    assert project("TriMap", training_ND, held_ND[:20], seed=0) is None
    assert project("PCA", training_ND[:1], held_ND, seed=0) is None


def test_many_training_images_are_sampled(clouds):
    _, held_ND, _ = clouds
    training_ND = np.random.default_rng(0).normal(size=(FITTED + 100, 16)).astype(np.float32)
    assert project("PCA", training_ND, held_ND, seed=0).shape == (80, 2)


def test_a_method_whose_package_is_not_there_is_named(monkeypatch):
    pytest.importorskip("trimap")
    assert not_installed() == []
    monkeypatch.setitem(sys.modules, "trimap", None)
    assert not_installed() == ["TriMap"]
