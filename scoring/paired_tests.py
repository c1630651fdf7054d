"""Whether two models differ: paired permutation tests over patients, and Holm's correction in a family.

Shape legend: N images, R weight rows (patients, twice over), B draws, C labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

from scoring.metrics import f1
from scoring.resampling import Ranking, weighted_confusion, weighted_rankings


def midranks(scores_NC: np.ndarray, targets_NC: np.ndarray) -> np.ndarray:
    """float64 (N, C) in (0, 1): each label's scores as mid-ranks among its known images, so that the
    scores of two models can stand in for each other."""
    ranks_NC = np.full(scores_NC.shape, 0.5)
    for column in range(scores_NC.shape[1]):
        known_N = ~np.isnan(targets_NC[:, column])
        ranks_NC[known_N, column] = (stats.rankdata(scores_NC[known_N, column]) - 0.5) / max(known_N.sum(), 1)
    return ranks_NC


def paired_permutation(
    targets_NC: np.ndarray,
    first_NC: np.ndarray,
    second_NC: np.ndarray,
    patients_N: np.ndarray,
    *,
    draws: int = 10_000,
    seed: int = 0,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Observed difference of two models (first minus second) and its distribution under the null.

    Null: which of the two models produced a patient's predictions makes no difference. Each draw swaps the
    two models' predictions of a random half of the patients, all images and labels of a patient together.
    Scores are compared by their mid-ranks within a label, since two models need not share a scale
    (Venkatraman and Begg, Biometrika 83, 1996).

    Args:
        targets_NC: 0, 1 or NaN where masked.
        first_NC, second_NC: scores.
        patients_N: integer codes from 0.
        draws: random swaps.
        seed: of the swaps.

    Returns:
        auroc and average_precision -> (observed_C, null_CB), the null in float32.
    """
    targets_2NC = np.concatenate([targets_NC, targets_NC])
    both_2NC = np.concatenate([midranks(first_NC, targets_NC), midranks(second_NC, targets_NC)])

    def rankings(rows_2N: np.ndarray, weights_RB: np.ndarray) -> Ranking:
        return weighted_rankings(targets_2NC, both_2NC, rows_2N, weights_RB)

    found = _observed_and_null(rankings, patients_N, draws, seed)
    return dict(zip(Ranking._fields, found, strict=True))


def paired_permutation_f1(
    targets_NC: np.ndarray,
    first_NC: np.ndarray,
    second_NC: np.ndarray,
    patients_N: np.ndarray,
    *,
    draws: int = 10_000,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """(observed_C, null_CB) of the difference in F1; arguments and null as of `paired_permutation`, but
    `first_NC` and `second_NC` are decisions (bool), which share a scale as they are."""
    targets_2NC = np.concatenate([targets_NC, targets_NC])
    both_2NC = np.concatenate([first_NC, second_NC])

    def scores(rows_2N: np.ndarray, weights_RB: np.ndarray) -> tuple[np.ndarray]:
        return (f1(weighted_confusion(targets_2NC, both_2NC, rows_2N, weights_RB)),)

    (found,) = _observed_and_null(scores, patients_N, draws, seed)
    return found


def _observed_and_null(
    metrics: Callable[[np.ndarray, np.ndarray], Sequence[np.ndarray]],
    patients_N: np.ndarray,
    draws: int,
    seed: int,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """(observed_C, null_CB) of each of the metrics, which are functions of rows_2N and weights_RB: both
    models' predictions laid end to end, weighted.

    A swapped model is such a weighting: its own images weigh 1 where the patient is not swapped, the other
    model's weigh 1 where it is.
    """
    patients = int(patients_N.max()) + 1
    swap_RB = np.random.default_rng(seed).integers(0, 2, (patients, draws), dtype=np.int8).astype(np.float32)
    keep_RB = 1 - swap_RB
    rows_2N = np.concatenate([patients_N, patients_N + patients])
    unswapped = np.repeat([1.0, 0.0], patients)[:, None]
    mine = metrics(rows_2N, np.concatenate([keep_RB, swap_RB]))
    theirs = metrics(rows_2N, np.concatenate([swap_RB, keep_RB]))
    observed, other = metrics(rows_2N, unswapped), metrics(rows_2N, 1 - unswapped)
    return [
        ((one_C1 - other_C1)[:, 0], mine_CB - theirs_CB)
        for one_C1, other_C1, mine_CB, theirs_CB in zip(observed, other, mine, theirs, strict=True)
    ]


def sign_flips(
    differences_N: np.ndarray, patients_N: np.ndarray, draws: int, seed: int
) -> tuple[float, np.ndarray]:
    """Observed sum of differences between two ways of doing something, and its distribution (B,) where it
    makes no difference which was which: each draw swaps the two for a random half of the patients, all that
    belongs to a patient together.

    Args:
        differences_N: as they are to be added up.
        patients_N: integer codes from 0.
    """
    sums_P = np.bincount(patients_N, weights=differences_N)
    signs_PB = np.random.default_rng(seed).integers(0, 2, (len(sums_P), draws), dtype=np.int8) * 2 - 1
    return float(sums_P.sum()), sums_P @ signs_PB


def permutation_p(observed: float, null_B: np.ndarray) -> float:
    """Two-sided p = (1 + draws at least as extreme) / (1 + draws), never 0; NaN where undefined.

    The 1e-6 lets rounding count as a tie, which can only make p larger.
    """
    if not np.isfinite(observed):
        return float("nan")
    return float((1 + np.sum(np.abs(null_B) >= abs(observed) - 1e-6)) / (1 + len(null_B)))


def holm(p_values: Sequence[float]) -> np.ndarray:
    """float64: Holm's step-down adjusted p-values of one family, in the order given; NaN stays NaN and
    does not count as a member (Holm, Scandinavian Journal of Statistics 6, 1979)."""
    p = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(p.shape, np.nan)
    members = np.flatnonzero(~np.isnan(p))
    order = members[np.argsort(p[members], kind="stable")]
    stepped = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(stepped))
    return adjusted
