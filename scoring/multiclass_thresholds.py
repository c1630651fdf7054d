"""Decision thresholds of multiclass labels, of which an image has exactly one, and an honest estimate of the
F1 they reach.

Shapes: N images, C labels, K heads of a bank, M heads still moving; "..." is K or nothing. n counts the
images that are not masked.

The decision is the label with the highest log(probability) - logit(threshold): one label per image, the first
of equals. Where all thresholds are 0.5 that is the most probable one. A label's offset is -logit(threshold);
only the differences of offsets count. Three strategies (`STRATEGIES`):

fixed      0.5 for every label: the most probable label.
per_label  each label's own offset, found by coordinate ascent on the macro-F1: the plain mean of F1 over the
           labels with at least `OWN_FROM` positive patients.
shrunk     per label, drawn towards 0: offset x positive patients / (positive patients + shrinkage).

One threshold for all labels, as independent ones have (`scoring.thresholds`), would change no decision.

The ascent starts at the most probable label and takes the labels in their order, `ROUNDS` times. A label's
turn is exact: as its offset rises with the others held, the images turn to it one after another, and the
macro-F1 between any two of them follows from running sums. It moves only where that is more than before, to
the middle of the gap, and of equally good gaps to the one nearest 0. A label with fewer than `OWN_FROM`
positive patients stays at 0. Masked images take no part.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import expit, logit

from cohort.patients import positive_patients
from scoring.metrics import Confusion, confusion
from scoring.thresholds import OWN_FROM, Thresholds, check_folds, check_probs

STRATEGIES = ("fixed", "per_label", "shrunk")

ROUNDS = 2
"""Of coordinate ascent: a third gains on the images that are fitted on and, in simulations, on no others."""

# Macro-F1, a sum of C quotients, that differs by less is the same up to rounding.
_EQUAL_MACRO_F1 = 1e-12
# Beyond it a threshold, which lies in (0, 1), no longer says the offset to eight digits.
_LARGEST_OFFSET = 18.0
# As in `scoring.thresholds`, for the processor's cache: 18 ms a head for the same images and labels, 2 with 3
# labels and 150 images.
_HEADS_AT_ONCE = 8


def decide_one(probs_NC: np.ndarray, thresholds_C: np.ndarray) -> np.ndarray:
    """bool (..., N, C): the one label of each image; see the module.

    Args:
        probs_NC: float (..., N, C), rows that sum to 1.
        thresholds_C: float (..., C) in [0, 1].

    >>> decide_one(np.array([[0.6, 0.4]]), np.array([0.5, 0.5])).tolist()
    [[True, False]]
    >>> decide_one(np.array([[0.6, 0.4]]), np.array([0.9, 0.5])).tolist()
    [[False, True]]
    """
    logs_NC = _log(probs_NC) - _logit(thresholds_C)[..., None, :]
    return np.arange(logs_NC.shape[-1]) == logs_NC.argmax(-1)[..., None]


def fit_thresholds(
    probs: np.ndarray,
    targets_NC: np.ndarray,
    patients_N: np.ndarray,
    *,
    shrinkage: float | np.ndarray = 0.0,
) -> Thresholds:
    """Thresholds of every strategy, fitted on all the images given; see the module for their definition.

    Args:
        probs: float (N, C) or (K, N, C), rows that sum to 1.
        targets_NC: 0 or 1, exactly one label per image, or NaN throughout where masked.
        patients_N: integer codes, equal for images of one patient.
        shrinkage: >= 0, or one value a head (K,); n goes half the way for a label with n positive patients.

    Raises:
        ValueError: shapes that do not fit, a probability outside [0, 1] (NaN included), a negative shrinkage.

    >>> probs_NC = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
    >>> targets_NC = np.array([[1, 0], [1, 0], [0, 1], [0, 1]])
    >>> fit_thresholds(probs_NC, targets_NC, np.arange(4)).by_strategy["per_label"].round(2).tolist()
    [0.75, 0.5]
    """
    probs_KNC, targets_NC, shrinkage_K = check_probs(probs, targets_NC, shrinkage)
    patients_C = positive_patients(targets_NC, patients_N)
    known_N = ~np.isnan(targets_NC).any(axis=1)
    enough_C = patients_C >= OWN_FROM
    logs_CKn = _log(np.moveaxis(probs_KNC[:, known_N], -1, 0).copy())
    truth_n = targets_NC[known_N].argmax(axis=1)
    offset_KC = np.concatenate(
        [
            _ascend(logs_CKn[:, start : start + _HEADS_AT_ONCE], truth_n, enough_C)
            for start in range(0, len(probs_KNC), _HEADS_AT_ONCE)
        ]
    )
    shrunk_KC = offset_KC * (patients_C / np.maximum(patients_C + shrinkage_K[:, None], 1))
    by_strategy = {"fixed": np.zeros_like(offset_KC), "per_label": offset_KC, "shrunk": shrunk_KC}
    shape = *np.shape(probs)[:-2], targets_NC.shape[1]
    return Thresholds(
        by_strategy={name: expit(-values_KC).reshape(shape) for name, values_KC in by_strategy.items()},
        few_C=~enough_C,
    )


def cross_fitted(
    probs: np.ndarray,
    targets_NC: np.ndarray,
    folds_N: np.ndarray,
    patients_N: np.ndarray,
    *,
    shrinkage: float | np.ndarray = 0.0,
) -> dict[str, Confusion]:
    """Counts of every strategy when the decisions on each fold use thresholds fitted on the other folds,
    pooled over the folds; arguments, result and errors as `scoring.thresholds.cross_fitted`, with `probs` as
    in `fit_thresholds`.

    >>> probs_NC = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.6, 0.4]])
    >>> targets_NC = np.array([[1, 0], [0, 1], [1, 0], [0, 1]])
    >>> counts = cross_fitted(probs_NC, targets_NC, folds_N=np.array([0, 0, 1, 1]), patients_N=np.arange(4))
    >>> counts["fixed"].tp.tolist(), counts["fixed"].fn.tolist()
    ([2, 1], [0, 1])
    """
    probs_KNC, targets_NC, shrinkage_K = check_probs(probs, targets_NC, shrinkage)
    folds_N, patients_N = check_folds(folds_N, patients_N, targets_NC)
    decided = {name: np.zeros(probs_KNC.shape, dtype=bool) for name in STRATEGIES}
    for fold in np.unique(folds_N):
        held_N = folds_N == fold
        fitted = fit_thresholds(
            probs_KNC[:, ~held_N], targets_NC[~held_N], patients_N[~held_N], shrinkage=shrinkage_K
        )
        for name, thresholds_KC in fitted.by_strategy.items():
            decided[name][:, held_N] = decide_one(probs_KNC[:, held_N], thresholds_KC)
    return {
        name: confusion(targets_NC, decided_KNC.reshape(np.shape(probs)))
        for name, decided_KNC in decided.items()
    }


def _ascend(logs_CKn: np.ndarray, truth_n: np.ndarray, enough_C: np.ndarray) -> np.ndarray:
    """offset_KC, of logs that are those of probabilities; see the module."""
    labels, heads, images = logs_CKn.shape
    offset_KC = np.zeros((heads, labels))
    if images == 0 or not enough_C.any():
        return offset_KC
    turn = _Turn(truth_n, enough_C)
    moving = np.arange(heads)  # a head that no turn has moved has arrived
    best_K = turn.most_probable(logs_CKn)
    for _ in range(ROUNDS):
        start_K = best_K.copy()
        shifted_CMn = logs_CKn[:, moving] + offset_KC.T[:, moving, None]
        for c in np.flatnonzero(enough_C):
            turns_Mn, rival_Mn = _rivals(shifted_CMn, c)
            found_M, f1_M = turn.best(c, turns_Mn + offset_KC[moving, c, None], rival_Mn)
            better_M = f1_M > best_K[moving] + _EQUAL_MACRO_F1
            heads_m = moving[better_M]
            best_K[heads_m], offset_KC[heads_m, c] = f1_M[better_M], found_M[better_M]
            shifted_CMn[c, better_M] = logs_CKn[c, heads_m] + offset_KC[heads_m, c, None]
        moving = moving[best_K[moving] > start_K[moving]]
        if len(moving) == 0:
            break
    return offset_KC


def _rivals(shifted_CKn: np.ndarray, c: int) -> tuple[np.ndarray, np.ndarray]:
    """By how much the best of the other labels leads c, and which that is, the first of equals: (K, n)."""
    first, *others = (j for j in range(len(shifted_CKn)) if j != c)
    highest_Kn, rival_Kn = shifted_CKn[first].copy(), np.full(shifted_CKn.shape[1:], first, dtype=np.int16)
    for j in others:
        leads_Kn = shifted_CKn[j] > highest_Kn
        np.copyto(highest_Kn, shifted_CKn[j], where=leads_Kn)
        rival_Kn[leads_Kn] = j
    return highest_Kn - shifted_CKn[c], rival_Kn


@dataclass(frozen=True)
class _Turn:
    """The macro-F1 over the labels `enough_C` as one label's offset rises."""

    truth_n: np.ndarray
    """int64, the true label of each image."""
    enough_C: np.ndarray
    """bool."""

    @cached_property
    def positives_C(self) -> np.ndarray:
        return np.bincount(self.truth_n, minlength=len(self.enough_C))

    def most_probable(self, logs_CKn: np.ndarray) -> np.ndarray:
        """(K,): where every image has its most probable label."""
        decided_Kn = logs_CKn.argmax(0)
        f1_CK = [
            self._f1(c, (decided_Kn == c).sum(-1), (decided_Kn == c)[:, self.truth_n == c].sum(-1))
            for c in np.flatnonzero(self.enough_C)
        ]
        return np.mean(f1_CK, axis=0)

    def best(self, c: int, turns_Kn: np.ndarray, rival_Kn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The best offset of label c with the others held, and its macro-F1: (K,) both.

        Args:
            turns_Kn: the offset of c beyond which an image is c's.
            rival_Kn: int16, whose it is before.
        """
        order_Kn = turns_Kn.argsort(axis=-1, kind="stable")
        turns_Kn, rival_Kn = (np.take_along_axis(values, order_Kn, -1) for values in (turns_Kn, rival_Kn))
        truth_Kn = self.truth_n[order_Kn]
        heads, images = turns_Kn.shape
        gained_Kn = self._f1(c, np.arange(1, images + 1), (truth_Kn == c).cumsum(-1))
        start_K, lost_Kn = self._lost(rival_Kn, rival_Kn == truth_Kn)
        f1_Kn = np.zeros((heads, images + 1))  # before the first turn, after the first, ..., after the last
        f1_Kn[:, 0], f1_Kn[:, 1:] = start_K, start_K[:, None] + lost_Kn.cumsum(-1) + gained_Kn
        f1_Kn /= self.enough_C.sum()

        # In the middle between two turns, or a whole logit before the first and after the last.
        below_Kn = np.concatenate([turns_Kn[:, :1] - 2, turns_Kn], axis=1)
        above_Kn = np.concatenate([turns_Kn, turns_Kn[:, -1:] + 2], axis=1)
        offset_Kn = (below_Kn + above_Kn) / 2
        far_Kn = np.abs(offset_Kn)
        f1_Kn[(below_Kn >= offset_Kn) | (offset_Kn >= above_Kn) | (far_Kn > _LARGEST_OFFSET)] = -1.0
        far_Kn[f1_Kn < f1_Kn.max(-1, keepdims=True) - _EQUAL_MACRO_F1] = np.inf
        place_K1 = far_Kn.argmin(-1)[:, None]
        return np.take_along_axis(offset_Kn, place_K1, -1)[:, 0], np.take_along_axis(f1_Kn, place_K1, -1)[
            :, 0
        ]

    def _lost(self, rival_Kn: np.ndarray, right_Kn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The summed F1 of the rivals before any turn, (K,), and what each turn changes in it, (K, n).

        Args:
            right_Kn: bool, whether the rival is the true label.
        """
        heads, images = rival_Kn.shape
        # Turn by turn within each rival: a turn changes the F1 of its rival alone.
        order_Kn = rival_Kn.argsort(axis=-1, kind="stable")
        rival_Kn, right_Kn = (np.take_along_axis(values, order_Kn, -1) for values in (rival_Kn, right_Kn))
        labels = len(self.enough_C)
        cell_Kn = rival_Kn + labels * np.arange(heads)[:, None]
        decided_KC = np.bincount(cell_Kn.reshape(-1), minlength=heads * labels).reshape(heads, labels)
        right_KC = np.bincount(cell_Kn[right_Kn], minlength=heads * labels).reshape(heads, labels)
        # Of each rival's images those that have not turned yet, the turning one too; of these the right.
        column_Kn = rival_Kn.astype(np.int64)
        left_Kn = np.take_along_axis(decided_KC.cumsum(-1), column_Kn, -1) - np.arange(images)
        hits_Kn = np.take_along_axis(right_KC.cumsum(-1), column_Kn, -1) - right_Kn.cumsum(-1)
        positives_Kn, counted_Kn = self.positives_C[rival_Kn], self.enough_C[rival_Kn]
        after_Kn = 2 * hits_Kn / np.maximum(positives_Kn + left_Kn - 1, 1)
        before_Kn = 2 * (hits_Kn + right_Kn) / (positives_Kn + left_Kn)
        change_Kn = np.empty((heads, images))
        np.put_along_axis(change_Kn, order_Kn, (after_Kn - before_Kn) * counted_Kn, -1)
        f1_KC = 2 * right_KC / np.maximum(self.positives_C + decided_KC, 1)
        return f1_KC[:, self.enough_C].sum(-1), change_Kn

    def _f1(self, c: int, decided: np.ndarray, tp: np.ndarray) -> np.ndarray:
        return 2 * tp / (self.positives_C[c] + decided)


def _log(probs: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(np.asarray(probs, dtype=np.float64), np.finfo(np.float64).tiny))


def _logit(thresholds: np.ndarray) -> np.ndarray:
    return logit(np.clip(thresholds, np.finfo(np.float64).tiny, 1 - 2**-53))
