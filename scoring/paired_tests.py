"""Whether two models differ: paired permutation tests over patients, and Holm's correction in a family.

Shape legend: N images, R weight rows (patients, twice over), B draws, C labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from scoring import metrics
from scoring.resampling import Ranking, weighted_confusion, weighted_rankings

MOST_DRAWS = 100_000
"""To which `draws_for` raises at most: as many serve a family of 5,000 tests at 5 %."""
_DRAWN_AT_A_TIME = 4096
"""Swaps of all patients that lie in memory together."""


def draws_for(family: int, asked: int, level: float = 0.05) -> int:
    """Draws of a permutation test, at least as many as asked for, with which Holm's correction in a family of
    so many tests can bring a p-value below `level`; MOST_DRAWS at most where fewer were asked for.

    >>> draws_for(family=500, asked=1000)
    10000
    """
    return max(asked, min(int(np.ceil(family / level)), MOST_DRAWS))


def smallest_adjusted_p(family: int, draws: int) -> float:
    """The smallest p-value that Holm's correction leaves possible in a family of so many such tests.

    >>> smallest_adjusted_p(family=20, draws=999)
    0.02
    """
    return min(1.0, family / (1 + draws))


def midranks(scores_NC: np.ndarray, targets_NC: np.ndarray) -> np.ndarray:
    """float64 (N, C) in (0, 1): each label's scores as mid-ranks among its known images, so that the
    scores of two models can stand in for each other.

    >>> midranks(np.array([[10.0], [30.0], [30.0], [99.0]]), np.array([[0], [1], [0], [0]])).tolist()
    [[0.125], [0.5], [0.5], [0.875]]
    """
    ranks_NC = np.full(scores_NC.shape, 0.5)
    for column in range(scores_NC.shape[1]):
        known_N = ~np.isnan(targets_NC[:, column])
        _, place_n, ties = np.unique(scores_NC[known_N, column], return_inverse=True, return_counts=True)
        ranks_NC[known_N, column] = (np.cumsum(ties) - ties / 2)[place_n] / max(known_N.sum(), 1)
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

    >>> targets_NC, scores_NC = np.array([[1], [0]]), np.array([[0.9], [0.1]])
    >>> found = paired_permutation(targets_NC, scores_NC, -scores_NC, np.arange(2), draws=8)
    >>> observed_C, null_CB = found["auroc"]
    >>> observed_C.tolist(), sorted(set(null_CB[0].tolist()))
    ([1.0], [-1.0, 0.0, 1.0])
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
    `first_NC` and `second_NC` are decisions (bool), which share a scale as they are.

    >>> targets_NC, right_NC = np.array([[1], [0]]), np.array([[True], [False]])
    >>> observed_C, null_CB = paired_permutation_f1(targets_NC, right_NC, ~right_NC, np.arange(2), draws=8)
    >>> observed_C.tolist(), null_CB.shape
    ([1.0], (1, 8))
    """
    targets_2NC = np.concatenate([targets_NC, targets_NC])
    both_2NC = np.concatenate([first_NC, second_NC])

    def scores(rows_2N: np.ndarray, weights_RB: np.ndarray) -> tuple[np.ndarray]:
        return (metrics.f1(weighted_confusion(targets_2NC, both_2NC, rows_2N, weights_RB)),)

    (found,) = _observed_and_null(scores, patients_N, draws, seed)
    return found


def chance_permutation(
    targets_NC: np.ndarray,
    scores_NC: np.ndarray,
    patients_N: np.ndarray,
    *,
    draws: int = 10_000,
    seed: int = 0,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Observed difference of a model from what says the same of every image, and its distribution where the
    scores carry no information.

    Null: a patient's ranking says no more than its reverse. Each draw reverses the scores of a random half
    of the patients. What is tested is the difference itself, so that its sign is that of the finding: the
    distance of average precision from that of the reversed scores is another, and may have another sign.

    Returns:
        As `paired_permutation`, whose arguments it takes.

    >>> targets_NC, scores_NC = np.array([[1], [0]]), np.array([[0.9], [0.1]])
    >>> observed_C, null_CB = chance_permutation(targets_NC, scores_NC, np.arange(2), draws=8)["auroc"]
    >>> observed_C.tolist(), null_CB.shape
    ([0.5], (1, 8))
    """
    nothing_NC = np.zeros(targets_NC.shape)
    constant = Ranking(
        metrics.auroc(targets_NC, nothing_NC), metrics.average_precision(targets_NC, nothing_NC)
    )
    targets_2NC = np.concatenate([targets_NC, targets_NC])
    both_2NC = np.concatenate([midranks(scores_NC, targets_NC), midranks(-scores_NC, targets_NC)])

    def rankings(rows_2N: np.ndarray, weights_RB: np.ndarray) -> Ranking:
        return weighted_rankings(targets_2NC, both_2NC, rows_2N, weights_RB)

    patients = int(patients_N.max()) + 1
    rows_2N = np.concatenate([patients_N, patients_N + patients])
    observed = rankings(rows_2N, _unswapped(patients))
    parts = [rankings(rows_2N, weights_RB) for weights_RB, _ in _swaps(patients, draws, seed)]
    return {
        name: (observed_C1[:, 0] - constant_C, np.concatenate(null_CB, axis=1) - constant_C[:, None])
        for name, observed_C1, constant_C, *null_CB in zip(
            Ranking._fields, observed, constant, *parts, strict=True
        )
    }


def _observed_and_null(
    measured: Callable[[np.ndarray, np.ndarray], Sequence[np.ndarray]],
    patients_N: np.ndarray,
    draws: int,
    seed: int,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """(observed_C, null_CB) of each of the metrics that are measured, which are functions of rows_2N and
    weights_RB: both models' predictions laid end to end, weighted.

    A swapped model is such a weighting: its own images weigh 1 where the patient is not swapped, the other
    model's weigh 1 where it is.
    """
    patients = int(patients_N.max()) + 1
    rows_2N = np.concatenate([patients_N, patients_N + patients])
    unswapped = _unswapped(patients)
    observed, other = measured(rows_2N, unswapped), measured(rows_2N, 1 - unswapped)
    parts = [
        [mine - theirs for mine, theirs in zip(*(measured(rows_2N, w_RB) for w_RB in both), strict=True)]
        for both in _swaps(patients, draws, seed)
    ]
    return [
        ((one_C1 - other_C1)[:, 0], np.concatenate(null_CB, axis=1))
        for one_C1, other_C1, *null_CB in zip(observed, other, *parts, strict=True)
    ]


def _unswapped(patients: int) -> np.ndarray:
    return np.repeat([1.0, 0.0], patients)[:, None]


def _swaps(patients: int, draws: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Weights, float32 (twice the patients, draws), of the first model and of the second after the swaps; a
    bounded number of draws at a time."""
    rng = np.random.default_rng(seed)
    for start in range(0, draws, _DRAWN_AT_A_TIME):
        few = min(_DRAWN_AT_A_TIME, draws - start)
        swap_RB = rng.integers(0, 2, (patients, few), dtype=np.int8).astype(np.float32)
        keep_RB = 1 - swap_RB
        yield np.concatenate([keep_RB, swap_RB]), np.concatenate([swap_RB, keep_RB])


def sign_flips(
    differences_N: np.ndarray, patients_N: np.ndarray, draws: int, seed: int
) -> tuple[float, np.ndarray]:
    """Observed sum of differences between two ways of doing something, and its distribution (B,) where it
    makes no difference which was which: each draw swaps the two for a random half of the patients, all that
    belongs to a patient together.

    Args:
        differences_N: as they are to be added up.
        patients_N: integer codes from 0.

    >>> observed, null_B = sign_flips(np.array([1.0, 2.0, 3.0]), np.array([0, 0, 1]), draws=20, seed=0)
    >>> observed, sorted(set(null_B.tolist()))
    (6.0, [-6.0, 0.0, 6.0])
    """
    sums_P = np.bincount(patients_N, weights=differences_N)
    signs_PB = np.random.default_rng(seed).integers(0, 2, (len(sums_P), draws), dtype=np.int8) * 2 - 1
    return float(sums_P.sum()), sums_P @ signs_PB


def permutation_p(observed: float, null_B: np.ndarray) -> float:
    """Two-sided p = (1 + draws at least as extreme) / (1 + draws), never 0; NaN where undefined.

    The 1e-6 lets rounding count as a tie, which can only make p larger.

    >>> permutation_p(0.2, np.array([0.1, -0.3, 0.0, 0.15]))
    0.4
    """
    if not np.isfinite(observed):
        return float("nan")
    return float((1 + np.sum(np.abs(null_B) >= abs(observed) - 1e-6)) / (1 + len(null_B)))


def holm(p_values: Sequence[float]) -> np.ndarray:
    """float64: Holm's step-down adjusted p-values of one family, in the order given; NaN stays NaN and
    does not count as a member (Holm, Scandinavian Journal of Statistics 6, 1979).

    >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(p.shape, np.nan)
    members = np.flatnonzero(~np.isnan(p))
    order = members[np.argsort(p[members], kind="stable")]
    stepped = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(stepped))
    return adjusted
