"""What neighbours and regressions say of images of patients that they have not seen.

Shape legend: N images, D features, R coordinates, M fitted and H held-out images, K labellings, k neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from scoring.separability import unit

_ROWS = 2048
"""Images whose similarities to all others are held at a time."""
_TOGETHER = 256
"""Labellings taken at a time, so that their products stay in memory."""


def neighbours(
    features_ND: np.ndarray, patients_N: np.ndarray, count: int, among_N: np.ndarray | None = None
) -> np.ndarray:
    """int64 (N, k): the nearest images of other patients by cosine, the nearest first; k is `count`, or less
    where some patient's images leave fewer others.

    Args:
        among_N: bool, the images that may be neighbours; None: all.

    >>> features_ND = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
    >>> neighbours(features_ND, np.array([0, 0, 1, 1]), count=1).tolist()
    [[3], [3], [1], [1]]
    """
    u_ND = unit(np.asarray(features_ND, dtype=np.float32))
    among = np.flatnonzero(among_N) if among_N is not None else np.arange(len(u_ND))
    own_N = np.array([np.sum(patients_N[among] == patient) for patient in np.unique(patients_N)])
    count = min(count, len(among) - int(own_N.max()))
    if count < 1:
        return np.zeros((len(u_ND), 0), dtype=np.int64)
    found = []
    for start in range(0, len(u_ND), _ROWS):
        rows = slice(start, start + _ROWS)
        similarity_MA = u_ND[rows] @ u_ND[among].T
        similarity_MA[patients_N[rows, None] == patients_N[None, among]] = -np.inf
        nearest_Mk = np.argpartition(-similarity_MA, count - 1, axis=1)[:, :count]
        order_Mk = np.argsort(-np.take_along_axis(similarity_MA, nearest_Mk, axis=1), axis=1, kind="stable")
        found.append(among[np.take_along_axis(nearest_Mk, order_Mk, axis=1)])
    return np.concatenate(found)


def votes(neighbours_Nk: np.ndarray, targets_NK: np.ndarray) -> np.ndarray:
    """float32 (N, K): the share of an image's neighbours that bear the label; those of whom nobody knows are
    not asked, and without one who is it is the share of all images.

    >>> votes(np.array([[1, 2], [0, 2], [0, 1]]), np.array([[1.0], [0.0], [np.nan]])).tolist()
    [[0.0], [1.0], [0.5]]
    """
    yes_NK, no_NK = (targets_NK == 1).astype(np.float32), (targets_NK == 0).astype(np.float32)
    asked_NK = np.zeros(targets_NK.shape, dtype=np.float32)
    voted_NK = np.zeros(targets_NK.shape, dtype=np.float32)
    for place in range(neighbours_Nk.shape[1]):
        there_N = neighbours_Nk[:, place]
        voted_NK += yes_NK[there_N]
        asked_NK += yes_NK[there_N] + no_NK[there_N]
    share_K = yes_NK.sum(axis=0) / np.maximum(yes_NK.sum(axis=0) + no_NK.sum(axis=0), 1)
    return np.where(asked_NK > 0, voted_NK / np.maximum(asked_NK, 1), share_K).astype(np.float32)


def balanced_accuracy(
    decisions_NK: np.ndarray, positive_NK: np.ndarray, negative_NK: np.ndarray
) -> np.ndarray:
    """(K,): the mean of sensitivity and specificity under these weights of the images; NaN without either
    kind.

    >>> positive_NK = np.array([[1], [1], [0]])
    >>> balanced_accuracy(np.array([[True], [False], [False]]), positive_NK, 1 - positive_NK).tolist()
    [0.75]
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        sensitivity_K = (positive_NK * decisions_NK).sum(axis=0) / positive_NK.sum(axis=0)
        specificity_K = (negative_NK * ~decisions_NK).sum(axis=0) / negative_NK.sum(axis=0)
    return (sensitivity_K + specificity_K) / 2


def first_newton_step(
    features_ND: np.ndarray, targets_NK: np.ndarray, folds_N: np.ndarray, strength: float
) -> np.ndarray:
    """float32 (N, K): what the first Newton step of a logistic regression says of images outside the fold
    that it was fitted on, as a logit above that of the prevalence there.

    From the prevalence p, w = (p (1 - p) k X'X + I / C)^-1 X'(y - p) with X standardised on the fitted fold
    and k the share of its images whose label is known, masked ones adding nothing to X'(y - p) nor, on
    average, to the curvature: the regression itself where labels have nothing to do with the features, at the
    price of one product for all labellings (McCullagh and Nelder, Generalized Linear Models, 1989, 2.5).
    0 where a labelling does not vary in the fitted fold.

    Args:
        targets_NK: 0, 1 or NaN, K labellings.
        strength: C, the inverse of the L2 penalty.

    >>> features_ND, folds_N = np.array([[-1.0], [1.0], [-1.0], [1.0]]), np.array([0, 0, 1, 1])
    >>> targets_NK = np.array([[0.0], [1.0], [0.0], [1.0]])
    >>> first_newton_step(features_ND, targets_NK, folds_N, strength=2.0).tolist()  # w = 1 / (1/4 x 2 + 1/2)
    [[-1.0], [1.0], [-1.0], [1.0]]
    """
    logits_NK = np.zeros(targets_NK.shape, dtype=np.float32)
    for fitted, held, x_MR, held_HR in standardised_folds(features_ND, folds_N):
        eigen_R, basis_RR = np.linalg.eigh((x_MR.T @ x_MR).astype(np.float64))
        eigen_R, basis_RR = np.maximum(eigen_R, 0).astype(np.float32), basis_RR.astype(np.float32)
        x_MR, held_HR = x_MR @ basis_RR, held_HR @ basis_RR
        for at in range(0, targets_NK.shape[1], _TOGETHER):
            columns = slice(at, at + _TOGETHER)
            targets_MK = targets_NK[fitted, columns]
            known_MK = ~np.isnan(targets_MK)
            share_K = np.nansum(targets_MK, axis=0) / np.maximum(known_MK.sum(axis=0), 1)
            share_K = share_K.astype(np.float32)
            slope_RK = x_MR.T @ np.where(known_MK, targets_MK - share_K, 0).astype(np.float32)
            of_known_K = share_K * (1 - share_K) * known_MK.mean(axis=0, dtype=np.float32)
            curvature_RK = of_known_K * eigen_R[:, None] + np.float32(1 / strength)
            logits_NK[held, columns] = held_HR @ (slope_RK / curvature_RK)
    return logits_NK


def standardised_folds(
    features_ND: np.ndarray, folds_N: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Of each fold the places of the images outside and inside it, and their features, float32 (M, R) and
    (H, R), standardised by those outside and, where these are fewer than the features, turned into their
    span.

    >>> folds = standardised_folds(np.array([[0.0], [2.0], [4.0], [6.0]]), np.array([0, 0, 1, 1]))
    >>> fitted, held, x_MR, held_HR = next(folds)
    >>> fitted.tolist(), x_MR.tolist(), held.tolist(), held_HR.tolist()
    ([2, 3], [[-1.0], [1.0]], [0, 1], [[-5.0], [-3.0]])
    """
    for fold in np.unique(folds_N):
        fitted, held = np.flatnonzero(folds_N != fold), np.flatnonzero(folds_N == fold)
        mean_D = features_ND[fitted].mean(axis=0, dtype=np.float64)
        scale_D = features_ND[fitted].std(axis=0, dtype=np.float64)
        scale_D = np.where(scale_D > 1e-7 * np.maximum(np.abs(mean_D), 1), scale_D, np.inf)
        x_MD, held_HD = (
            ((features_ND[rows] - mean_D) / scale_D).astype(np.float32) for rows in (fitted, held)
        )
        if len(fitted) < x_MD.shape[1]:
            square_R, turn_MR = np.linalg.eigh((x_MD @ x_MD.T).astype(np.float64))
            spanned_R = square_R > 1e-6 * square_R[-1]
            turn_MR, length_R = turn_MR[:, spanned_R], np.sqrt(square_R[spanned_R])
            basis_RD = (turn_MR / length_R).T.astype(np.float32) @ x_MD
            x_MD, held_HD = (turn_MR * length_R).astype(np.float32), held_HD @ basis_RD.T
        yield fitted, held, x_MD, held_HD
