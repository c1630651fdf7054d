"""Decision thresholds of a multi-label model, and an honest estimate of the F1 they reach.

Shapes: N images, C labels, K heads of a bank, F folds, P patients; "..." is K or nothing. n counts the images
of one side of a fold, sorted by the probability of a label.

A decision is `probs >= threshold`. Four strategies (`STRATEGIES`):

fixed      0.5 for every label.
global     one threshold for all labels, the one with the highest macro-F1: the plain mean of F1 over the
           labels with at least `min_positive_patients` positive patients.
per_label  each label's own threshold with the highest F1.
shrunk     per label, drawn towards the global one: in logits, (1 - s) own + s global with
           s = shrinkage / (shrinkage + positive patients of the label).

A label with fewer than `min_positive_patients` positive patients takes the global threshold. Where no label
has enough, the global threshold is 0.5.

Both optima are exact: F1 changes only where the threshold passes a probability that occurs, so sorting visits
every value it can take. Among equally good cuts the highest wins (fewest positive decisions). The threshold
lies midway, in logits, between the last probability on the positive side and the next one below, and on the
last one where nothing lies below. NaN targets are masked: those entries take no part.

A threshold is judged on patients it was not fitted on: `cross_fitted`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cohort.errors import InputError

STRATEGIES = ("fixed", "global", "per_label", "shrunk")

# Cuts of the macro-F1, a sum of C quotients, that differ by less are the same cut up to rounding.
_EQUAL_MACRO_F1 = 1e-12


@dataclass(frozen=True)
class Thresholds:
    """Thresholds fitted on one set of images, to be judged on another."""

    by_strategy: dict[str, np.ndarray]
    """Strategy -> float64 (..., C)."""
    fell_back_C: np.ndarray
    """bool (C,): too few positive patients, so `per_label` and `shrunk` hold the global threshold."""
    positive_patients_C: np.ndarray
    """int64 (C,): patients with at least one positive image."""


@dataclass(frozen=True)
class CrossFit:
    """Decisions of one strategy, each made with thresholds fitted on the other folds' patients."""

    tp: np.ndarray
    """int64 (..., C): true positives, pooled over the folds; `fp` and `fn` likewise."""
    fp: np.ndarray
    fn: np.ndarray
    f1: np.ndarray
    """float64 (..., C): F1 of the pooled counts; NaN for a label without positives."""
    macro_f1: np.ndarray
    """float64 (...): mean of `f1` over the labels with positives; NaN where no label has any."""
    labels_averaged: int
    """How many labels `macro_f1` averages."""


def fit_thresholds(
    probs: np.ndarray,
    targets_NC: np.ndarray,
    patients_N: np.ndarray,
    *,
    shrinkage: float | np.ndarray = 0.0,
    min_positive_patients: int = 2,
) -> Thresholds:
    """Thresholds of every strategy, fitted on all the images given; see the module for their definition.

    Args:
        probs: float (N, C) or (K, N, C) in [0, 1].
        targets_NC: 0 or 1; NaN is masked.
        patients_N: integer codes, equal for images of one patient.
        shrinkage: >= 0, or one value a head (K,); n goes half the way for a label with n positive patients.
        min_positive_patients: >= 1, what a label needs for a threshold of its own.

    Raises:
        ValueError: shapes that do not fit, a probability outside [0, 1] (NaN included), a negative shrinkage.
    """
    bank = _Bank(probs, targets_NC, shrinkage, min_positive_patients)
    positive_patients_C = _positive_patients(targets_NC, patients_N)
    thresholds = bank.fit(np.ones(bank.images, dtype=bool), positive_patients_C)
    return Thresholds(
        by_strategy={name: bank.unstack(values_KC) for name, values_KC in thresholds.items()},
        fell_back_C=positive_patients_C < min_positive_patients,
        positive_patients_C=positive_patients_C,
    )


def cross_fitted(
    probs: np.ndarray,
    targets_NC: np.ndarray,
    folds_N: np.ndarray,
    patients_N: np.ndarray,
    *,
    shrinkage: float | np.ndarray = 0.0,
    min_positive_patients: int = 2,
) -> dict[str, CrossFit]:
    """F1 of every strategy when the decisions on each fold use thresholds fitted on the other folds.

    True positives, false positives and false negatives are pooled over the folds before F1 is taken: the mean
    of the folds' F1 is biased, and undefined in a fold without positives (Forman & Scholz, SIGKDD
    Explorations 2010). A label may have an own threshold in some folds and the global one in others.

    Args:
        probs: float (N, C) or (K, N, C) in [0, 1].
        targets_NC: 0 or 1; NaN is masked.
        folds_N: integer codes of at least two folds, see `patient_folds`.
        patients_N: integer codes, equal for images of one patient.
        shrinkage: >= 0, or one value a head (K,).
        min_positive_patients: >= 1, on the side the threshold is fitted on.

    Returns:
        Strategy -> `CrossFit`.

    Raises:
        ValueError: as `fit_thresholds`; a patient in two folds; fewer than two folds.
    """
    bank = _Bank(probs, targets_NC, shrinkage, min_positive_patients)
    folds_N, patients_N = np.asarray(folds_N), np.asarray(patients_N)
    folds = np.unique(folds_N)
    if folds_N.shape != (bank.images,) or len(folds) < 2:
        raise ValueError(
            f"Expected `folds_N` of shape ({bank.images},) with two folds or more, but got shape "
            f"{folds_N.shape} with {len(folds)}."
        )
    if len(np.unique(np.stack([folds_N, patients_N]), axis=1).T) != len(np.unique(patients_N)):
        raise ValueError("Expected `folds_N` to keep a patient's images together, but one is in two folds.")

    counts = {name: np.zeros((3, bank.heads, bank.labels), dtype=np.int64) for name in STRATEGIES}
    for fold in folds:
        held_N = folds_N == fold
        positive_patients_C = _positive_patients(targets_NC[~held_N], patients_N[~held_N])
        for name, thresholds_KC in bank.fit(~held_N, positive_patients_C).items():
            counts[name] += bank.count(held_N, thresholds_KC)

    has_positives_C = bank.positive_CN.any(1)
    labels_averaged = int(has_positives_C.sum())
    results = {}
    for name, (tp_KC, fp_KC, fn_KC) in counts.items():
        f1_KC = np.full(tp_KC.shape, np.nan)
        np.divide(2 * tp_KC, 2 * tp_KC + fp_KC + fn_KC, out=f1_KC, where=has_positives_C)
        macro_f1_K = np.full(bank.heads, np.nan)
        if labels_averaged:
            macro_f1_K = f1_KC[:, has_positives_C].mean(1)
        tp, fp, fn, f1, macro_f1 = map(bank.unstack, (tp_KC, fp_KC, fn_KC, f1_KC, macro_f1_K))
        results[name] = CrossFit(tp, fp, fn, f1, macro_f1, labels_averaged)
    return results


def patient_folds(
    targets_NC: np.ndarray, patients_N: np.ndarray, folds: int = 5, seed: int = 0
) -> np.ndarray:
    """Folds that keep a patient together and share out each label's positive patients, rarest label first.

    Iterative stratification (Sechidis et al., ECML PKDD 2011) over patients, a patient being positive for a
    label when any image is. The order of the images does not matter; seed breaks ties.

    Args:
        targets_NC: 0 or 1; NaN is masked.
        patients_N: integer codes, equal for images of one patient.
        folds: >= 2.
        seed: >= 0.

    Returns:
        folds_N, int64 in 0..folds-1.

    Raises:
        InputError: fewer patients than folds.
    """
    # scikit-learn comes with it and takes a second to import, which no trial needs.
    from iterstrat.ml_stratifiers import IterativeStratification

    patients_P, patient_of_N = np.unique(np.asarray(patients_N), return_inverse=True)
    if not 2 <= folds <= len(patients_P):
        raise InputError(
            f"{len(patients_P)} patients cannot be dealt into {folds} folds: two folds are the least and "
            "each needs a patient; choose fewer folds or a larger validation split"
        )
    positive_PC = _positive_of_patients(targets_NC, patient_of_N, len(patients_P))
    shares_F = np.full(folds, 1 / folds)
    folds_P = IterativeStratification(positive_PC, shares_F, np.random.RandomState(seed))
    return folds_P[patient_of_N].astype(np.int64)


def _positive_of_patients(targets_NC: np.ndarray, patient_of_N: np.ndarray, patients: int) -> np.ndarray:
    positive_PC = np.zeros((patients, targets_NC.shape[1]), dtype=bool)
    np.logical_or.at(positive_PC, patient_of_N, targets_NC == 1)
    return positive_PC


def _positive_patients(targets_NC: np.ndarray, patients_N: np.ndarray) -> np.ndarray:
    patients_P, patient_of_N = np.unique(np.asarray(patients_N), return_inverse=True)
    return _positive_of_patients(targets_NC, patient_of_N, len(patients_P)).sum(0)


class _Bank:
    """Probabilities of K heads, sorted once: within each label, and over all labels together.

    Thresholds of any subset of the images follow from these two orders without sorting again, since a subset
    of a sorted sequence is sorted.
    """

    def __init__(
        self,
        probs: np.ndarray,
        targets_NC: np.ndarray,
        shrinkage: float | np.ndarray,
        min_positive_patients: int,
    ) -> None:
        probs, targets_NC = np.asarray(probs), np.asarray(targets_NC)
        if probs.ndim not in (2, 3) or probs.shape[-2:] != targets_NC.shape:
            raise ValueError(
                f"Expected `probs` of shape (N, C) or (K, N, C) for targets of shape {targets_NC.shape}, "
                f"but got {probs.shape}."
            )
        probs_KNC = probs if probs.ndim == 3 else probs[None]
        if not ((probs_KNC >= 0) & (probs_KNC <= 1)).all():
            raise ValueError("Expected `probs` in [0, 1], but got a value outside, or NaN.")
        self.stacked = probs.ndim == 3
        self.heads, self.images, self.labels = probs_KNC.shape
        self.shrinkage_K = np.broadcast_to(np.asarray(shrinkage, dtype=np.float64), (self.heads,))
        if not ((self.shrinkage_K >= 0) & np.isfinite(self.shrinkage_K)).all():
            raise ValueError(f"Expected `shrinkage` to be finite and at least 0, but got {shrinkage}.")
        if min_positive_patients < 1:
            raise ValueError(f"Expected `min_positive_patients` >= 1, but got {min_positive_patients}.")
        self.min_positive_patients = min_positive_patients

        self.positive_CN = np.ascontiguousarray(targets_NC.T == 1)
        self.negative_CN = np.ascontiguousarray(targets_NC.T == 0)
        counted_CN = self.positive_CN | self.negative_CN
        # A masked entry lies below every probability: no cut reaches it and no decision on it is positive.
        self.probs_KCN = np.where(counted_CN, probs_KNC.swapaxes(1, 2), -1)
        self.order_KCN = np.argsort(-self.probs_KCN, axis=-1)
        self.flat_probs_KM = self.probs_KCN.reshape(self.heads, -1)  # M = C * N, label by label
        self.flat_order_KM = np.argsort(-self.flat_probs_KM, axis=-1)
        self.counted_CN = counted_CN

    def unstack(self, values_K: np.ndarray) -> np.ndarray:
        return values_K if self.stacked else values_K[0]

    def fit(self, used_N: np.ndarray, positive_patients_C: np.ndarray) -> dict[str, np.ndarray]:
        """Strategy -> thresholds_KC fitted on the images `used_N`."""
        enough_C = positive_patients_C >= self.min_positive_patients
        order_KCn = self.order_KCN[used_N[self.order_KCN]].reshape(self.heads, self.labels, -1)
        probs_KCn = np.take_along_axis(self.probs_KCN, order_KCn, -1)
        positive_KCn = self.positive_CN[np.arange(self.labels)[:, None], order_KCn]

        # F1 = 2 TP / (positives + positive decisions), with the cut after the 1st, 2nd, ... image.
        tp_KCn = np.cumsum(positive_KCn, axis=-1, dtype=np.int32)
        positives_KC1 = tp_KCn[..., -1:]
        f1_KCn = 2 * tp_KCn / (positives_KC1 + np.arange(1, order_KCn.shape[-1] + 1))
        own_KC = _cut_after(probs_KCn, _first_best(f1_KCn, _cuts(probs_KCn), tolerance=0.0))

        global_K1 = np.full((self.heads, 1), 0.5)
        if enough_C.any():
            global_K1 = self._global(used_N, enough_C, order_KCn, f1_KCn)

        own_KC = np.where(enough_C, own_KC, global_K1)
        shrinkage_K1 = self.shrinkage_K[:, None]
        share_KC = np.where(enough_C, shrinkage_K1 / (shrinkage_K1 + np.maximum(positive_patients_C, 1)), 1.0)
        shrunk_KC = _sigmoid((1 - share_KC) * _logit(own_KC) + share_KC * _logit(global_K1))
        return {
            "fixed": np.full((self.heads, self.labels), 0.5),
            "global": np.repeat(global_K1, self.labels, axis=1),
            "per_label": own_KC,
            # Not through logits and back where nothing moves: the last bit can decide about an image.
            "shrunk": np.where(own_KC == global_K1, global_K1, np.where(share_KC == 0, own_KC, shrunk_KC)),
        }

    def _global(
        self, used_N: np.ndarray, enough_C: np.ndarray, order_KCn: np.ndarray, f1_KCn: np.ndarray
    ) -> np.ndarray:
        """The threshold of highest macro-F1 over the labels `enough_C`, shape (K, 1).

        As the threshold falls past an image of one label, only that label's F1 changes; the macro-F1 after
        each image is the running sum of these changes, in the order of all labels' probabilities together.
        """
        change_KCn = np.diff(f1_KCn, axis=-1, prepend=0.0)
        change_KM = np.empty(self.flat_probs_KM.shape)
        starts_C1 = self.images * np.arange(self.labels)[:, None]
        np.put_along_axis(
            change_KM,
            (order_KCn + starts_C1).reshape(self.heads, -1),
            change_KCn.reshape(self.heads, -1),
            axis=-1,
        )
        used_M = (self.counted_CN & used_N & enough_C[:, None]).reshape(-1)
        order_Km = self.flat_order_KM[used_M[self.flat_order_KM]].reshape(self.heads, -1)
        probs_Km = np.take_along_axis(self.flat_probs_KM, order_Km, -1)
        macro_f1_Km = np.cumsum(np.take_along_axis(change_KM, order_Km, -1), axis=-1) / enough_C.sum()
        best_K = _first_best(macro_f1_Km, _cuts(probs_Km), tolerance=_EQUAL_MACRO_F1)
        return _cut_after(probs_Km, best_K)[:, None]

    def count(self, held_N: np.ndarray, thresholds_KC: np.ndarray) -> np.ndarray:
        """True positives, false positives and false negatives on the images `held_N`: int64 (3, K, C)."""
        decided_KCn = self.probs_KCN[..., held_N] >= thresholds_KC[..., None]
        positive_Cn = self.positive_CN[:, held_N]
        tp_KC = (decided_KCn & positive_Cn).sum(-1)
        fp_KC = (decided_KCn & self.negative_CN[:, held_N]).sum(-1)
        return np.stack([tp_KC, fp_KC, positive_Cn.sum(-1) - tp_KC])


def _cuts(falling: np.ndarray) -> np.ndarray:
    """Where a threshold fits: after the last of equal probabilities, and not after masked entries (-1)."""
    return np.diff(falling, axis=-1, append=np.float32(-1)) < 0


def _first_best(score: np.ndarray, allowed: np.ndarray, tolerance: float) -> np.ndarray:
    score = np.where(allowed, score, -1.0)
    return np.argmax(score >= score.max(-1, keepdims=True) - tolerance, axis=-1)


def _cut_after(falling: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Midway in logits between position `last` and the next; on it where no probability lies below."""
    falling = np.concatenate([falling, np.full((*falling.shape[:-1], 1), -1.0)], axis=-1)
    above = np.take_along_axis(falling, last[..., None], -1)[..., 0]
    below = np.take_along_axis(falling, last[..., None] + 1, -1)[..., 0]
    middle = _sigmoid((_logit(above) + _logit(below)) / 2)
    # Rounding, or a probability of 0 or 1, can push the middle out of the gap.
    return np.where((below >= 0) & (middle > below) & (middle <= above), middle, above)


def _logit(probs: np.ndarray) -> np.ndarray:
    probs = np.clip(np.asarray(probs, dtype=np.float64), np.finfo(np.float64).tiny, 1 - 2**-53)
    return np.log(probs) - np.log1p(-probs)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))
