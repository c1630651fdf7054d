"""What chance gives: labels permuted over patients, and p-values against such permutations.

Shape legend: N images, P patients, C labels, B draws.
"""

from __future__ import annotations

import numpy as np

ALIKE = 20
"""Patients with about as many images, among whom labels are permuted."""


def shuffled_rows(patients_N: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """int64 (N, draws): for each image the image whose labels it gets where patients' labels are permuted.

    All images of a patient get labels of one other patient, in their order, some twice or not at all where
    the two have different numbers of images: what resembles each other within a patient goes on doing so.
    Patients change places with those of about as many images, `ALIKE` or more at a time, so that hardly more
    or fewer images bear a label; where all have equally many this is any permutation of patients.

    >>> shuffled_rows(np.array([0, 0, 1, 1]), draws=3, seed=0).T.tolist()
    [[2, 3, 0, 1], [0, 1, 2, 3], [2, 3, 0, 1]]
    """
    order_N = np.argsort(patients_N, kind="stable")
    patient_N, sizes_P = np.unique(patients_N[order_N], return_inverse=True, return_counts=True)[1:]
    first_P = np.concatenate([[0], np.cumsum(sizes_P)[:-1]])
    within_N = np.arange(len(order_N)) - first_P[patient_N]
    group_P = np.arange(len(sizes_P)) * max(1, len(sizes_P) // ALIKE) // len(sizes_P)
    rng = np.random.default_rng(seed)
    rows_ND = np.empty((len(patients_N), draws), dtype=np.int64)
    source_P = np.empty(len(sizes_P), dtype=np.int64)
    for draw in range(draws):
        # Of equally many images in random order, so that groups differ from draw to draw.
        by_size_P = np.lexsort((rng.random(len(sizes_P)), sizes_P))
        source_P[by_size_P] = by_size_P[np.lexsort((rng.random(len(sizes_P)), group_P))]
        source_N = source_P[patient_N]
        stretched_N = within_N * sizes_P[source_N] // sizes_P[patient_N]
        rows_ND[order_N, draw] = order_N[first_P[source_N] + stretched_N]
    return rows_ND


def chance_p(value: float, null_B: np.ndarray) -> float:
    """One-sided p = (1 + draws that reach the value) / (1 + draws); NaN where undefined.

    >>> chance_p(0.8, np.array([0.5, 0.6, 0.9]))
    0.5
    """
    null_B = null_B[~np.isnan(null_B)]
    if np.isnan(value) or not len(null_B):
        return float("nan")
    return float((1 + np.sum(null_B >= value - 1e-9)) / (1 + len(null_B)))


def adjusted_p(value_C: np.ndarray, null_CB: np.ndarray) -> np.ndarray:
    """float64 (C,): one-sided p of each label against the largest of all labels in each draw, in units of the
    label's own chance, so that one false claim among all of them is as rare as it says (Westfall and Young,
    Resampling-Based Multiple Testing, 1993, maxT). A draw permutes all labels alike. NaN where undefined.

    >>> adjusted_p(np.array([0.9, 0.5]), np.array([[0.5, 0.6, 0.4], [0.5, 0.6, 0.4]])).tolist()
    [0.25, 0.75]
    """
    p_C = np.full(len(value_C), np.nan)
    finite_CB = np.where(np.isfinite(null_CB), null_CB, np.nan)
    known = np.flatnonzero(np.isfinite(value_C) & np.isfinite(finite_CB).any(axis=1))
    if not len(known):
        return p_C
    mean_C1 = np.nanmean(finite_CB[known], axis=1, keepdims=True)
    spread_C1 = np.maximum(np.nanstd(finite_CB[known], axis=1, keepdims=True), 1e-12)
    units_CB = np.nan_to_num((finite_CB[known] - mean_C1) / spread_C1, nan=-np.inf)
    largest_B = units_CB.max(axis=0)
    units_C = (value_C[known] - mean_C1[:, 0]) / spread_C1[:, 0]
    p_C[known] = (1 + (largest_B >= units_C[:, None] - 1e-9).sum(axis=1)) / (1 + len(largest_B))
    return p_C
