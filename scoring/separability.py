"""How far apart classes lie in feature space: by the published formulas on the points they describe, and of
one label on images of patients that the centroids have not seen, where noise lies at 0.

Shape legend: N images, D features, C classes, K labellings or weightings of the images.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_CHUNK = 256
"""Weightings taken at a time, so that their distances to all images stay in memory."""


class Published(NamedTuple):
    """The formulas of arXiv 2506.14136, on the very points that the centroids are means of.

    >>> Published(inter=10.0, intra=2.0, ratio=5.0, fisher=25.0).ratio
    5.0
    """

    inter: float
    """Mean Euclidean distance over pairs of class centroids."""
    intra: float
    """Mean over classes of the mean Euclidean distance of their points to their centroid."""
    ratio: float
    """inter / intra."""
    fisher: float
    """sum_c n_c |m_c - m|^2 / sum_c sum_i |x_i - m_c|^2."""


def published_separability(features_ND: np.ndarray, classes_N: np.ndarray) -> Published:
    """`Published` of one class a point.

    Args:
        features_ND: float, of any scale.
        classes_N: any codes; a class is what occurs among them.

    Raises:
        ValueError: fewer than two classes.

    >>> points_ND = np.array([[0.0, 0.0], [0.0, 2.0], [10.0, 0.0], [10.0, 2.0]])
    >>> published_separability(points_ND, np.array([0, 0, 1, 1]))
    Published(inter=10.0, intra=1.0, ratio=10.0, fisher=25.0)
    """
    names, class_N = np.unique(classes_N, return_inverse=True)
    if len(names) < 2:
        raise ValueError("separability needs two classes that have points")
    # Sums of squares of large numbers lose digits; the centre does not matter to any distance.
    x_ND = np.asarray(features_ND, dtype=np.float32) - np.mean(features_ND, axis=0, dtype=np.float64)
    x_ND = x_ND.astype(np.float32)
    members_NC = np.eye(len(names), dtype=np.float32)[class_N]
    counts_C = members_NC.sum(axis=0, dtype=np.float64)
    centroid_CD = (members_NC.T @ x_ND) / counts_C[:, None].astype(np.float32)
    offset_ND = x_ND - centroid_CD[class_N]
    squared_N = np.einsum("nd,nd->n", offset_ND, offset_ND).astype(np.float64)
    distance_C = np.bincount(class_N, weights=np.sqrt(squared_N)) / counts_C
    first, second = np.triu_indices(len(names), k=1)
    between = np.linalg.norm((centroid_CD[first] - centroid_CD[second]).astype(np.float64), axis=1)
    spread_C = np.einsum("cd,cd->c", centroid_CD, centroid_CD).astype(np.float64)
    inter, intra, within = float(between.mean()), float(distance_C.mean()), float(squared_N.sum())
    return Published(
        inter=inter,
        intra=intra,
        ratio=inter / intra if intra else float("inf"),
        fisher=float(counts_C @ spread_C) / within if within else float("inf"),
    )


class HeldOut(NamedTuple):
    """How far a label's positive and negative images lie apart, measured on patients whom the centroids have
    not seen; (K,) each, NaN where no fold has images of both kinds within and outside it.

    >>> points_ND, positive_NK = np.array([[1.0], [-1.0], [3.0], [-3.0]]), np.array([[1], [0], [1], [0]])
    >>> found = held_out_separability(points_ND, positive_NK, 1 - positive_NK, np.array([0, 0, 1, 1]))
    >>> found.ratio.round(3).tolist(), found.davies_bouldin.round(3).tolist()
    ([1.732], [1.155])
    """

    inter: np.ndarray
    """Distance of the two centroids: the square root, with its sign, of the cross-validated squared distance
    (m+ - m-) . (m+' - m-') of centroids of different patients, whose expectation without a difference is 0
    (Walther et al., NeuroImage 137, 2016). That of the points themselves never is."""
    intra: np.ndarray
    """Mean over the two kinds of the mean distance of images to the centroid of other patients' images."""
    ratio: np.ndarray
    """inter / intra."""
    fisher: np.ndarray
    """n+ n- / n times the cross-validated squared distance, over the squared distances to the centroids."""
    silhouette: np.ndarray
    """Mean over the two kinds of (b - a) / max(a, b), a and b the mean cosine distance to other patients'
    images of the own and of the other kind (Rousseeuw 1987)."""

    @property
    def davies_bouldin(self) -> np.ndarray:
        """Of two classes nothing but 2 / ratio; infinite where the centroids coincide."""
        with np.errstate(divide="ignore"):
            return 2 / np.where(self.ratio > 0, self.ratio, 0.0)


def held_out_separability(
    features_ND: np.ndarray, positive_NK: np.ndarray, negative_NK: np.ndarray, folds_N: np.ndarray
) -> HeldOut:
    """`HeldOut` of K labellings of the same images, or weightings of one.

    Args:
        features_ND: float.
        positive_NK, negative_NK: weights of the images in either kind, 0 where an image is not of it.
        folds_N: int from 0; the images of a patient lie in one fold.

    >>> points_ND, positive_NK = np.array([[1.0], [-1.0], [3.0], [-3.0]]), np.array([[1], [0], [1], [0]])
    >>> found = held_out_separability(points_ND, positive_NK, 1 - positive_NK, np.array([0, 0, 1, 1]))
    >>> found.inter.round(3).tolist(), found.intra.tolist()  # the square root of 2 x 6, and |3 - 1|
    ([3.464], [2.0])
    """
    x_ND = np.asarray(features_ND, dtype=np.float32)
    x_ND = x_ND - x_ND.mean(axis=0, dtype=np.float64).astype(np.float32)
    u_ND = unit(np.asarray(features_ND, dtype=np.float32))
    columns = range(0, positive_NK.shape[1], _CHUNK)
    parts = [
        _held_out(x_ND, u_ND, positive_NK[:, at : at + _CHUNK], negative_NK[:, at : at + _CHUNK], folds_N)
        for at in columns
    ]
    return HeldOut(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def _held_out(
    x_ND: np.ndarray, u_ND: np.ndarray, positive_NK: np.ndarray, negative_NK: np.ndarray, folds_N: np.ndarray
) -> HeldOut:
    kinds = [np.asarray(kind_NK, dtype=np.float32) for kind_NK in (positive_NK, negative_NK)]
    folds = [np.flatnonzero(folds_N == fold) for fold in np.unique(folds_N)]
    # (fold, kind) -> weight_K, sum of points (K, D), sum of unit vectors (K, D)
    inside = [[_sums(kind_NK[rows], x_ND[rows], u_ND[rows]) for kind_NK in kinds] for rows in folds]
    total = [[sum(part) for part in zip(*(one[kind] for one in inside), strict=True)] for kind in (0, 1)]
    count = positive_NK.shape[1]
    apart_K, apart_weight_K = np.zeros(count), np.zeros(count)
    weight_2K, distance_2K, squared_2K, silhouette_2K = (np.zeros((2, count)) for _ in range(4))
    for rows, own in zip(folds, inside, strict=True):
        outside = [
            [whole - part for whole, part in zip(total[kind], own[kind], strict=True)] for kind in (0, 1)
        ]
        # What single precision leaves of nothing is no weight.
        known_K = np.all([outside[kind][0] > 1e-4 * np.maximum(total[kind][0], 1) for kind in (0, 1)], axis=0)
        centroids = [_ratio(sums[1], sums[0]) for sums in outside]
        units = [_ratio(sums[2], sums[0]) for sums in outside]
        here = [_ratio(sums[1], sums[0]) for sums in own]
        both_K = known_K * _ratio(own[0][0] * own[1][0], own[0][0] + own[1][0])
        cross_K = np.einsum("kd,kd->k", centroids[0] - centroids[1], here[0] - here[1])
        apart_K += both_K * cross_K
        apart_weight_K += both_K
        cosine = [1 - u_ND[rows] @ unit_KD.T for unit_KD in units]
        norm_M = np.einsum("nd,nd->n", x_ND[rows], x_ND[rows])
        for kind, kind_NK in enumerate(kinds):
            weight_MK = kind_NK[rows] * known_K
            squared_MK = -2 * (x_ND[rows] @ centroids[kind].T)
            squared_MK += norm_M[:, None] + np.einsum("kd,kd->k", centroids[kind], centroids[kind])
            np.maximum(squared_MK, 0, out=squared_MK)
            mine_MK, other_MK = cosine[kind], cosine[1 - kind]
            larger_MK = np.maximum(np.maximum(mine_MK, other_MK), 1e-12)
            weight_2K[kind] += weight_MK.sum(axis=0, dtype=np.float64)
            squared_2K[kind] += np.einsum("nk,nk->k", weight_MK, squared_MK)
            distance_2K[kind] += np.einsum("nk,nk->k", weight_MK, np.sqrt(squared_MK))
            silhouette_2K[kind] += np.einsum("nk,nk->k", weight_MK, (other_MK - mine_MK) / larger_MK)
    nothing_K = (apart_weight_K <= 0) | (weight_2K <= 0).any(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        apart_K = apart_K / apart_weight_K
        inter_K = np.sign(apart_K) * np.sqrt(np.abs(apart_K))
        intra_K = (distance_2K / weight_2K).mean(axis=0)
        fisher_K = weight_2K.prod(axis=0) / weight_2K.sum(axis=0) * apart_K / squared_2K.sum(axis=0)
        silhouette_K = (silhouette_2K / weight_2K).mean(axis=0)
        values = inter_K, intra_K, inter_K / intra_K, fisher_K, silhouette_K
    return HeldOut(*(np.where(nothing_K, np.nan, value_K) for value_K in values))


def _sums(weight_MK: np.ndarray, x_MD: np.ndarray, u_MD: np.ndarray) -> tuple[np.ndarray, ...]:
    """Weight of the images, and the weighted sums of their points and of their unit vectors."""
    return weight_MK.sum(axis=0), weight_MK.T @ x_MD, weight_MK.T @ u_MD


def unit(x_ND: np.ndarray) -> np.ndarray:
    """float32, each row divided by its length.

    >>> unit(np.array([[0.0, 4.0], [0.0, -2.0]])).tolist()
    [[0.0, 1.0], [0.0, -1.0]]
    """
    length_N1 = np.linalg.norm(x_ND, axis=1, keepdims=True)
    return (x_ND / np.maximum(length_N1, 1e-12)).astype(np.float32)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divided where there is something to divide by, otherwise 0; the denominator is (K,), rows are K."""
    shaped = denominator.reshape(-1, *[1] * (np.ndim(numerator) - 1))
    return np.divide(numerator, shaped, out=np.zeros_like(numerator), where=np.abs(shaped) > 1e-6)
