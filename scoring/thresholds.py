"""Decision thresholds of a multi-label model, and an honest estimate of the F1 they reach.

Shapes: N images, C labels, K heads of a bank, F folds, P patients; "..." is K or nothing. n counts the images
of one side of a fold, sorted by the probability of a label.

A decision is `probs >= threshold`. Four strategies (`STRATEGIES`):

fixed      0.5 for every label.
global     one threshold for all labels, the one with the highest macro-F1: the plain mean of F1 over the
           labels with at least `OWN_FROM` positive patients.
per_label  each label's own threshold with the highest F1.
shrunk     per label, drawn towards the global one: in logits, (1 - s) own + s global with
           s = shrinkage / (shrinkage + positive patients of the label).

A label with fewer than `OWN_FROM` positive patients has no threshold of its own: under
`per_label` and `shrunk` it takes the global one (`shares_global`). Where no label has enough, that is 0.5.

Both optima are exact: F1 changes only where the threshold passes a probability that occurs, so sorting visits
every value it can take. Among equally good cuts the highest wins (fewest positive decisions). The threshold
lies midway, in logits, between the last probability on the positive side and the next one below, and on the
last one where nothing lies below. NaN targets are masked: those entries take no part.

A threshold is judged on patients it was not fitted on: `cross_fitted`. Labels of which an image has exactly
one are decided together: `scoring.multiclass_thresholds`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from cohort.patients import positive_patients
from scoring.metrics import Confusion

STRATEGIES = ("fixed", "global", "per_label", "shrunk")
OWN = ("per_label", "shrunk")
"""The strategies under which a label has a threshold of its own, given enough positive patients."""

OWN_FROM = 2
"""Positive patients that a label needs, on the side that is fitted on, for a threshold of its own."""

# Cuts of the macro-F1, a sum of C quotients, that differ by less are the same cut up to rounding.
_EQUAL_MACRO_F1 = 1e-12

# More heads at once and their arrays leave the processor's cache: 1.0 ms a head against 1.7 with 32 at once
# (575 images, 14 labels, 5 folds, every strategy; 2.5 for a head alone).
_HEADS_AT_ONCE = 8


@dataclass(frozen=True)
class Thresholds:
    """Thresholds fitted on one set of images, to be judged on another.

    >>> fitted = Thresholds(by_strategy={"fixed": np.array([0.5, 0.5])}, few_C=np.array([False, True]))
    >>> shares_global("per_label", fitted.few_C).tolist()
    [False, True]
    """

    by_strategy: dict[str, np.ndarray]
    """Strategy -> float64 (..., C)."""
    few_C: np.ndarray
    """bool (C,): labels with too few positive patients for a threshold of their own, under any strategy."""


def shares_global(strategy: str, few_C: np.ndarray) -> np.ndarray:
    """bool (C,): the labels that hold the global threshold because their positive patients are too few.

    None under `fixed` and `global`, where no label has one of its own.

    >>> shares_global("per_label", [True, False]).tolist(), shares_global("fixed", [True, False]).tolist()
    ([True, False], [False, False])
    """
    return np.asarray(few_C, dtype=bool) & (strategy in OWN)


def fit_thresholds(
    probs: np.ndarray,
    targets_NC: np.ndarray,
    patients_N: np.ndarray,
    *,
    shrinkage: float | np.ndarray = 0.0,
) -> Thresholds:
    """Thresholds of every strategy, fitted on all the images given; see the module for their definition.

    Args:
        probs: float (N, C) or (K, N, C) in [0, 1].
        targets_NC: 0 or 1; NaN is masked.
        patients_N: integer codes, equal for images of one patient.
        shrinkage: >= 0, or one value a head (K,); n goes half the way for a label with n positive patients.

    Raises:
        ValueError: shapes that do not fit, a probability outside [0, 1] (NaN included), a negative shrinkage.

    >>> probs_NC = np.array([[0.9], [0.5], [0.1], [0.05]])  # odds 9, 1, 1/9, 1/19; midway 1/3
    >>> fitted = fit_thresholds(probs_NC, np.array([[1], [1], [0], [0]]), np.arange(4))
    >>> fitted.by_strategy["per_label"].round(3).tolist()
    [0.25]
    """
    probs_KNC, targets_NC, shrinkage_K = check_probs(probs, targets_NC, shrinkage)
    positive_patients_C = positive_patients(targets_NC, patients_N)
    enough_C = positive_patients_C >= OWN_FROM
    everyone_N = np.ones(len(targets_NC), dtype=bool)
    parts = []
    for start in range(0, len(probs_KNC), _HEADS_AT_ONCE):
        part = slice(start, start + _HEADS_AT_ONCE)
        bank = _Bank(probs_KNC[part], targets_NC, shrinkage_K[part])
        parts.append(bank.fit(everyone_N, positive_patients_C, enough_C))
    stacked = {name: np.concatenate([thresholds[name] for thresholds in parts]) for name in STRATEGIES}
    return Thresholds(
        by_strategy={name: values_KC.reshape(*_lead(probs), -1) for name, values_KC in stacked.items()},
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
    """Counts of every strategy when the decisions on each fold use thresholds fitted on the other folds.

    The counts are pooled over the folds, for F1 to be taken of them afterwards: the mean of the folds' F1 is
    biased, and undefined in a fold without positives (Forman & Scholz, SIGKDD Explorations 2010). A label may
    have an own threshold in some folds and the global one in others.

    Args:
        probs: float (N, C) or (K, N, C) in [0, 1].
        targets_NC: 0 or 1; NaN is masked.
        folds_N: integer codes of at least two folds, see `cohort.patients.patient_folds`.
        patients_N: integer codes, equal for images of one patient.
        shrinkage: >= 0, or one value a head (K,).

    Returns:
        Strategy -> counts of each label, (..., C).

    Raises:
        ValueError: as `fit_thresholds`; a patient in two folds; fewer than two folds.

    >>> probs_NC, targets_NC = np.array([[0.9], [0.4], [0.8], [0.2]]), np.array([[1], [0], [1], [0]])
    >>> counts = cross_fitted(probs_NC, targets_NC, folds_N=np.array([0, 0, 1, 1]), patients_N=np.arange(4))
    >>> [count.tolist() for count in counts["fixed"]]
    [[2], [0], [0], [2]]
    """
    probs_KNC, targets_NC, shrinkage_K = check_probs(probs, targets_NC, shrinkage)
    folds_N, patients_N = check_folds(folds_N, patients_N, targets_NC)
    held_FN = folds_N == np.unique(folds_N)[:, None]
    positive_patients_FC = [positive_patients(targets_NC[~held_N], patients_N[~held_N]) for held_N in held_FN]
    counts = {name: np.zeros((4, len(probs_KNC), targets_NC.shape[1]), dtype=np.int64) for name in STRATEGIES}
    for start in range(0, len(probs_KNC), _HEADS_AT_ONCE):
        part = slice(start, start + _HEADS_AT_ONCE)
        bank = _Bank(probs_KNC[part], targets_NC, shrinkage_K[part])
        for held_N, positive_patients_C in zip(held_FN, positive_patients_FC, strict=True):
            enough_C = positive_patients_C >= OWN_FROM
            for name, thresholds_KC in bank.fit(~held_N, positive_patients_C, enough_C).items():
                counts[name][:, part] += bank.count(held_N, thresholds_KC)

    return {
        name: Confusion(*(count_KC.reshape(*_lead(probs), -1) for count_KC in count_4KC))
        for name, count_4KC in counts.items()
    }


def check_probs(
    probs: np.ndarray, targets_NC: np.ndarray, shrinkage: float | np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """probs_KNC, targets_NC and shrinkage_K, or the first rule that the arguments break.

    >>> probs_KNC, _, shrinkage_K = check_probs(np.full((4, 2), 0.5), np.zeros((4, 2)), shrinkage=10.0)
    >>> probs_KNC.shape, shrinkage_K.tolist()
    ((1, 4, 2), [10.0])
    """
    probs, targets_NC = np.asarray(probs), np.asarray(targets_NC)
    if probs.ndim not in (2, 3) or probs.shape[-2:] != targets_NC.shape:
        raise ValueError(
            f"Expected `probs` of shape (N, C) or (K, N, C) for targets of shape {targets_NC.shape}, "
            f"but got {probs.shape}."
        )
    if not ((probs >= 0) & (probs <= 1)).all():
        raise ValueError("Expected `probs` in [0, 1], but got a value outside, or NaN.")
    probs_KNC = probs if probs.ndim == 3 else probs[None]
    shrinkage_K = np.broadcast_to(np.asarray(shrinkage, dtype=np.float64), len(probs_KNC))
    if not ((shrinkage_K >= 0) & np.isfinite(shrinkage_K)).all():
        raise ValueError(f"Expected `shrinkage` to be finite and at least 0, but got {shrinkage}.")
    return probs_KNC, targets_NC, shrinkage_K


def check_folds(
    folds_N: np.ndarray, patients_N: np.ndarray, targets_NC: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """folds_N and patients_N, or the first rule that they break.

    >>> check_folds(np.array([0, 1]), np.array([7, 7]), np.zeros((2, 1)))
    Traceback (most recent call last):
    ValueError: Expected `folds_N` to keep a patient's images together, but one is in two folds.
    """
    folds_N, patients_N = np.asarray(folds_N), np.asarray(patients_N)
    folds = len(np.unique(folds_N))
    if folds_N.shape != (len(targets_NC),) or folds < 2:
        raise ValueError(
            f"Expected `folds_N` of shape ({len(targets_NC)},) with two folds or more, but got shape "
            f"{folds_N.shape} with {folds}."
        )
    if len(np.unique(np.stack([folds_N, patients_N]), axis=1).T) != len(np.unique(patients_N)):
        raise ValueError("Expected `folds_N` to keep a patient's images together, but one is in two folds.")
    return folds_N, patients_N


def _lead(probs: np.ndarray) -> tuple[int, ...]:
    """(K,) for a bank, () for one head."""
    return np.shape(probs)[:-2]


class _Bank:
    """Probabilities of K heads, sorted once: within each label, and over all labels together.

    Thresholds of any subset of the images follow from these two orders without sorting again, since a subset
    of a sorted sequence is sorted.
    """

    def __init__(self, probs_KNC: np.ndarray, targets_NC: np.ndarray, shrinkage_K: np.ndarray) -> None:
        self.heads, self.images, self.labels = probs_KNC.shape
        self.shrinkage_K = shrinkage_K
        self.positive_CN, self.negative_CN = (np.ascontiguousarray(targets_NC.T == v) for v in (1, 0))
        # A masked entry lies below every probability: no cut reaches it and no decision on it is positive.
        self.probs_KCN = np.where(np.isnan(targets_NC.T), -1, probs_KNC.swapaxes(1, 2))
        # Within each label, falling.
        self.image_KCN = np.argsort(-self.probs_KCN, axis=-1)
        self.falling_KCN = np.take_along_axis(self.probs_KCN, self.image_KCN, -1)
        self.falling_positive_KCN = self.positive_CN[np.arange(self.labels)[:, None], self.image_KCN]
        # All labels together, falling: M = C * N places in the order within the labels, label by label.
        falling_KM = self.falling_KCN.reshape(self.heads, -1)
        self.place_KM = np.argsort(-falling_KM, axis=-1)
        self.falling_KM = np.take_along_axis(falling_KM, self.place_KM, -1)
        self.image_KM = np.take_along_axis(self.image_KCN.reshape(self.heads, -1), self.place_KM, -1)
        self.label_KM = self.place_KM // self.images
        self.place_KM += falling_KM.shape[1] * np.arange(self.heads)[:, None]  # of the whole bank, as one row

    def fit(
        self, used_N: np.ndarray, positive_patients_C: np.ndarray, enough_C: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Strategy -> thresholds_KC fitted on `used_N`; a label without `enough_C` takes the global one."""
        # Indices, since numpy gathers by them several times faster than by a mask.
        places = np.flatnonzero(used_N[self.image_KCN])
        falling_KCn, positive_KCn = (
            values_KCN.reshape(-1)[places].reshape(self.heads, self.labels, -1)
            for values_KCN in (self.falling_KCN, self.falling_positive_KCN)
        )
        # F1 = 2 TP / (positives + positive decisions), with the cut after the 1st, 2nd, ... image.
        tp_KCn = np.cumsum(positive_KCn, axis=-1, dtype=np.int32)
        decided_n = np.arange(1, tp_KCn.shape[-1] + 1, dtype=np.int32)
        f1_KCn = 2 * tp_KCn / (tp_KCn[..., -1:] + decided_n)
        # Where there is no cut F1 counts as 0, which is never the best of a label that has a positive.
        own_KC = _cut_after(falling_KCn, np.argmax(f1_KCn * _cuts(falling_KCn), axis=-1))

        global_K1 = np.full((self.heads, 1), 0.5)
        if enough_C.any():
            global_K1 = self._global(used_N, enough_C, places, f1_KCn)

        own_KC = np.where(enough_C, own_KC, global_K1)
        shrinkage_K1 = self.shrinkage_K[:, None]
        share_KC = np.where(enough_C, shrinkage_K1 / (shrinkage_K1 + np.maximum(positive_patients_C, 1)), 1.0)
        shrunk_KC = expit((1 - share_KC) * _logit(own_KC) + share_KC * _logit(global_K1))
        return {
            "fixed": np.full((self.heads, self.labels), 0.5),
            "global": np.repeat(global_K1, self.labels, axis=1),
            "per_label": own_KC,
            # Not through logits and back where nothing moves: the last bit can decide about an image.
            "shrunk": np.where(own_KC == global_K1, global_K1, np.where(share_KC == 0, own_KC, shrunk_KC)),
        }

    def _global(
        self, used_N: np.ndarray, enough_C: np.ndarray, places: np.ndarray, f1_KCn: np.ndarray
    ) -> np.ndarray:
        """The threshold of highest macro-F1 over the labels `enough_C`, shape (K, 1).

        As the threshold falls past an image of one label, only that label's F1 changes; the macro-F1 after
        each image is the running sum of these changes, in the order of all labels' probabilities together.
        """
        change = np.zeros(self.falling_KCN.size)
        change[places] = np.diff(f1_KCn, axis=-1, prepend=0.0).reshape(-1)
        used = np.flatnonzero(used_N[self.image_KM] & enough_C[self.label_KM])
        falling_Km = self.falling_KM.reshape(-1)[used].reshape(self.heads, -1)
        change_Km = change[self.place_KM.reshape(-1)[used]].reshape(self.heads, -1)
        macro_f1_Km = np.cumsum(change_Km, axis=-1) / enough_C.sum() * _cuts(falling_Km)
        best_K1 = macro_f1_Km.max(-1, keepdims=True) - _EQUAL_MACRO_F1
        return _cut_after(falling_Km, np.argmax(macro_f1_Km >= best_K1, axis=-1))[:, None]

    def count(self, held_N: np.ndarray, thresholds_KC: np.ndarray) -> np.ndarray:
        """True and false positives, false and true negatives on the images `held_N`: int64 (4, K, C)."""
        decided_KCn = self.probs_KCN[..., held_N] >= thresholds_KC[..., None]
        positive_Cn, negative_Cn = self.positive_CN[:, held_N], self.negative_CN[:, held_N]
        tp_KC = (decided_KCn & positive_Cn).sum(-1)
        # Nothing masked is decided for, so what is not a true positive is a false one.
        fp_KC = decided_KCn.sum(-1) - tp_KC
        return np.stack([tp_KC, fp_KC, positive_Cn.sum(-1) - tp_KC, negative_Cn.sum(-1) - fp_KC])


def _cuts(falling: np.ndarray) -> np.ndarray:
    """Where a threshold fits: after the last of equal probabilities, and not after masked entries (-1)."""
    cuts = np.empty(falling.shape, dtype=bool)
    np.greater(falling[..., :-1], falling[..., 1:], out=cuts[..., :-1])
    np.greater_equal(falling[..., -1], 0, out=cuts[..., -1])
    return cuts


def _cut_after(falling: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Midway in logits between place `last` and the next; on it where no probability lies below."""
    following = np.minimum(last + 1, falling.shape[-1] - 1)
    above, below = (np.take_along_axis(falling, place[..., None], -1)[..., 0] for place in (last, following))
    middle = expit((_logit(above) + _logit(below)) / 2)
    # Rounding, or a probability of 0 or 1, can push the middle out of the gap.
    return np.where((below >= 0) & (middle > below) & (middle <= above), middle, above)


def _logit(probs: np.ndarray) -> np.ndarray:
    probs = np.clip(np.asarray(probs, dtype=np.float64), np.finfo(np.float64).tiny, 1 - 2**-53)
    return np.log(probs) - np.log1p(-probs)
