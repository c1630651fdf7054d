"""Separability by hand, against loops, and on noise."""

import numpy as np
import pytest

from scoring.separability import held_out_separability, published_separability

PAPER_COUNTS = (2400, 516, 415, 216, 165, 163, 129, 127, 70, 68, 56, 49, 31, 20)
"""Images of each label in arXiv 2506.14136, most of whose images have one."""


def test_the_published_formulas_on_six_points_by_hand():
    points = np.array([[0, 0], [2, 0], [10, 0], [10, 2], [0, 10], [0, 12]], dtype=np.float32)
    found = published_separability(points, np.array([7, 7, 3, 3, 5, 5]))
    # Centroids (1, 0), (10, 1), (0, 11); every point lies 1 from its own; the mean is (11/3, 4).
    assert found.intra == pytest.approx(1.0)
    assert found.inter == pytest.approx((82**0.5 + 122**0.5 + 200**0.5) / 3)
    assert found.ratio == pytest.approx(found.inter)
    # 2 (|(-8/3, -4)|^2 + |(19/3, -3)|^2 + |(-11/3, 7)|^2) / 6
    assert found.fisher == pytest.approx(2 * (208 / 9 + 442 / 9 + 562 / 9) / 6)


def test_the_published_formulas_equal_loops_in_double_precision():
    rng = np.random.default_rng(0)
    x_ND = rng.normal(size=(60, 7)) + 100
    y_N = rng.integers(0, 4, 60)
    means = {c: x_ND[y_N == c].mean(axis=0) for c in range(4)}
    intra = np.mean([np.mean([np.linalg.norm(x - means[c]) for x in x_ND[y_N == c]]) for c in range(4)])
    inter = np.mean([np.linalg.norm(means[a] - means[b]) for a in range(4) for b in range(a)])
    between = sum((y_N == c).sum() * np.sum((means[c] - x_ND.mean(axis=0)) ** 2) for c in range(4))
    within = sum(np.sum((x - means[c]) ** 2) for x, c in zip(x_ND, y_N, strict=True))
    found = published_separability(x_ND.astype(np.float32), y_N)
    np.testing.assert_allclose(found, (inter, intra, inter / intra, between / within), rtol=1e-4)


def test_a_single_class_is_refused_and_a_class_of_one_survives():
    with pytest.raises(ValueError, match="two classes"):
        published_separability(np.zeros((3, 2)), np.zeros(3))
    alone = published_separability(np.array([[0.0, 0], [0, 2], [5, 1]]), np.array([0, 0, 1]))
    assert alone.intra == pytest.approx(0.5) and alone.inter == pytest.approx(5.0)
    assert published_separability(np.array([[0.0, 0], [5, 1]]), np.array([0, 1])).ratio == np.inf


def test_noise_reaches_a_published_ratio_far_above_nothing_at_the_papers_class_sizes():
    rng = np.random.default_rng(0)
    shares = np.array(PAPER_COUNTS) / sum(PAPER_COUNTS)
    sizes = np.maximum(np.round(573 * shares), 1).astype(int)
    y_N = np.repeat(np.arange(14), sizes)
    ratio = published_separability(rng.normal(size=(len(y_N), 512)).astype(np.float32), y_N).ratio
    assert 0.3 < ratio < 0.9
    held = held_out_separability(
        rng.normal(size=(len(y_N), 512)),
        (y_N == 5)[:, None].astype(float),
        (y_N != 5)[:, None].astype(float),
        np.arange(len(y_N)) % 5,
    )
    assert abs(held.ratio[0]) < 0.15


def held_out_by_loops(x_ND, y_N, weights_N, folds_N):
    """What the docstrings say, in double precision."""
    unit_ND = x_ND / np.linalg.norm(x_ND, axis=1, keepdims=True)
    distances, squares, silhouettes = ({1: [], 0: []} for _ in range(3))
    weights = {1: [], 0: []}
    apart = []
    for fold in np.unique(folds_N):
        out = folds_N != fold

        def mean(values, mask):
            return np.average(values[mask], axis=0, weights=weights_N[mask])

        m = {kind: mean(x_ND, out & (y_N == kind)) for kind in (1, 0)}
        u = {kind: mean(unit_ND, out & (y_N == kind)) for kind in (1, 0)}
        n = {kind: weights_N[~out & (y_N == kind)].sum() for kind in (1, 0)}
        if n[1] and n[0]:
            here = mean(x_ND, ~out & (y_N == 1)) - mean(x_ND, ~out & (y_N == 0))
            apart.append((n[1] * n[0] / (n[1] + n[0]), (m[1] - m[0]) @ here))
        for i in np.flatnonzero(~out):
            kind = y_N[i]
            a, b = 1 - unit_ND[i] @ u[kind], 1 - unit_ND[i] @ u[1 - kind]
            distances[kind].append(np.linalg.norm(x_ND[i] - m[kind]))
            squares[kind].append(np.sum((x_ND[i] - m[kind]) ** 2))
            silhouettes[kind].append((b - a) / max(a, b))
            weights[kind].append(weights_N[i])
    d2 = np.average([d for _, d in apart], weights=[w for w, _ in apart])
    inter = np.sign(d2) * abs(d2) ** 0.5
    intra = np.mean([np.average(distances[kind], weights=weights[kind]) for kind in (1, 0)])
    n = {kind: sum(weights[kind]) for kind in (1, 0)}
    within = sum(np.dot(squares[kind], weights[kind]) for kind in (1, 0))
    silhouette = np.mean([np.average(silhouettes[kind], weights=weights[kind]) for kind in (1, 0)])
    return inter, intra, inter / intra, n[1] * n[0] / (n[1] + n[0]) * d2 / within, silhouette


def test_held_out_on_six_points_by_hand():
    x_N1 = np.array([4.0, 0, 6, 2, 5, 1])[:, None]
    positive_N1 = np.array([1.0, 0, 1, 0, 1, 0])[:, None]
    found = held_out_separability(x_N1, positive_N1, 1 - positive_N1, np.array([0, 0, 1, 1, 2, 2]))
    # Everywhere centroids of other folds lie 4 apart, and so do the two points of the fold: 4 x 4 = 16.
    assert found.inter[0] == pytest.approx(4, rel=1e-5)
    # 4 against 5.5, 6 against 4.5, 5 against 5; the negatives likewise.
    assert found.intra[0] == pytest.approx(1, rel=1e-5) and found.ratio[0] == pytest.approx(4, rel=1e-5)
    assert found.fisher[0] == pytest.approx(9 / 6 * 16 / 9, rel=1e-5)
    assert found.davies_bouldin[0] == pytest.approx(0.5, rel=1e-5)


def test_held_out_equals_loops_with_weights():
    rng = np.random.default_rng(3)
    x_ND = rng.normal(size=(50, 6)) + 3
    y_N, folds_N = np.arange(50) % 2, rng.permutation(np.arange(50) // 2 % 5)
    weights_N = rng.exponential(size=50)
    positive_N, negative_N = weights_N * y_N, weights_N * (1 - y_N)
    found = held_out_separability(
        x_ND.astype(np.float32), np.stack([positive_N, y_N], 1), np.stack([negative_N, 1 - y_N], 1), folds_N
    )
    for column, weights in enumerate((weights_N, np.ones(50))):
        expected = held_out_by_loops(x_ND, y_N, weights, folds_N)
        np.testing.assert_allclose([value[column] for value in found], expected, rtol=2e-3, atol=2e-4)


def test_held_out_is_undefined_where_all_positives_lie_in_one_fold():
    positive_N1 = np.array([1.0, 1, 0, 0, 0, 0])[:, None]
    x_ND = np.random.default_rng(0).normal(size=(6, 2))
    found = held_out_separability(x_ND, positive_N1, 1 - positive_N1, np.array([0, 0, 0, 1, 1, 1]))
    assert np.isnan(np.concatenate(found)).all()


def test_what_separates_is_told_and_noise_lies_at_nothing():
    rng = np.random.default_rng(1)
    y_N, folds_N = np.arange(400) % 2, np.arange(400) // 2 % 5
    noise_ND = rng.normal(size=(400, 20))
    told_ND = noise_ND + 3 * y_N[:, None]
    positive_N1 = y_N[:, None].astype(float)
    told, noise = (
        held_out_separability(x_ND, positive_N1, 1 - positive_N1, folds_N) for x_ND in (told_ND, noise_ND)
    )
    assert told.ratio[0] > 2 and told.silhouette[0] > 0.4
    assert abs(noise.ratio[0]) < 0.15 and abs(noise.silhouette[0]) < 0.02
    assert noise.davies_bouldin[0] > 10
