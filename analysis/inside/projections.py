"""Feature spaces in the plane, for the eye: PCA, UMAP and TriMap, as published.

Shape legend: N images, D features.
"""

from __future__ import annotations

import importlib.util
import warnings

import numpy as np
from sklearn.decomposition import PCA

METHODS = ("PCA", "UMAP", "TriMap")
EXTRA = {"TriMap": "trimap"}
"""Method -> its package, of the extra `projections`: trimap brings annoy, which may need a compiler."""
FITTED = 5000
"""Training images at most that a projection is fitted on; of more a seeded sample."""
NEIGHBOURS = 15
INLIERS = 12
FEWEST = 3 * NEIGHBOURS
"""Images that UMAP and TriMap need to have neighbourhoods at all."""


def not_installed() -> list[str]:
    """The METHODS whose package is not there."""
    return [method for method, package in EXTRA.items() if importlib.util.find_spec(package) is None]


def project(method: str, training_ND: np.ndarray, held_ND: np.ndarray, seed: int) -> np.ndarray | None:
    """float32 (N, 2): where held-out images lie; None where there are too few of them for the method.

    PCA (by Euclidean distance) and UMAP (McInnes et al. 2018, by cosine) are fitted on training images and
    only applied to the held-out ones. TriMap (Amid and Warmuth 2019) cannot be applied to others than it was
    fitted on: it sees the held-out images themselves, but no labels.
    """
    rng = np.random.default_rng(seed)
    if len(training_ND) > FITTED:
        training_ND = training_ND[np.sort(rng.choice(len(training_ND), FITTED, replace=False))]
    if method == "PCA":
        if min(len(training_ND), training_ND.shape[1]) < 2:
            return None
        found = PCA(2, random_state=seed).fit(training_ND).transform(held_ND)
    elif min(len(training_ND), len(held_ND)) < FEWEST:
        return None
    else:
        with warnings.catch_warnings(action="ignore"):  # both speak of threads and of optional packages
            found = _umap(training_ND, held_ND, seed) if method == "UMAP" else _trimap(held_ND, seed)
    return np.asarray(found, dtype=np.float32)


def _umap(training_ND: np.ndarray, held_ND: np.ndarray, seed: int) -> np.ndarray:
    import umap  # compiles for some seconds

    fitted = umap.UMAP(n_neighbors=NEIGHBOURS, metric="cosine", random_state=seed).fit(training_ND)
    return fitted.transform(held_ND)


def _trimap(held_ND: np.ndarray, seed: int) -> np.ndarray:
    import numba
    import trimap

    @numba.njit
    def seed_compiled_code(value: int) -> None:
        np.random.seed(value)  # noqa: NPY002

    # TriMap has no seed: it draws triplets from the state of compiled code, which each thread has of its own.
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        seed_compiled_code(seed)
        return trimap.TRIMAP(n_inliers=INLIERS, distance="angular", verbose=False).fit_transform(held_ND)
    finally:
        numba.set_num_threads(threads)
