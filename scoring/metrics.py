"""Scores of predictions: per label, over labels, per image and per domain, and of labels that are multiclass.

Shapes: N images, C labels; "..." is any leading shape or none, such as the heads of a bank.

Targets are 0 and 1, and NaN where masked: a masked entry takes no part, and a measure of one image (exact
match, ranking) is taken over that image's unmasked labels. Two kinds of undefined, kept apart:

- through the data: NaN, left out of every mean, and counted. AUROC, average precision and MCC need a positive
  and a negative, F1, precision and recall a positive.
- through the model: 0. A predictor that never decides for a label has precision 0 there, not NaN; otherwise
  it would win by keeping silent.

Where a value is defined it is scikit-learn's; `scoring.paper_rules` follows scikit-learn where it is not.

Everything splits into what a resampling of the images can add up again: `confusion` and `squared_errors` are
sums for each label, and `exact_match`, `lrap`, `coverage_error` and `ranking_loss` are one value per image.
So a metric of sums is defined once, for the images as they are and for weighted ones (`scoring.resampling`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# ---- ranking images within a label ----


class _Ranking(NamedTuple):
    """Images of each label by falling score, equal scores at once; each array has shape (..., C, N)."""

    positive: np.ndarray
    """bool: this image is a positive."""
    tp: np.ndarray
    """Positives scored at least as high as this image; `fp` negatives likewise."""
    fp: np.ndarray
    fp_above: np.ndarray
    """Negatives scored strictly higher."""


def _rank_images(targets_NC: np.ndarray, scores_NC: np.ndarray) -> _Ranking:
    targets_NC, scores_NC = _check(targets_NC, scores_NC)
    images, labels = targets_NC.shape
    positive_CN = np.ascontiguousarray(targets_NC.T == 1)
    counted_CN = positive_CN | (targets_NC.T == 0)
    # A masked image sorts to the end, where it is counted neither as positive nor as negative.
    scores_CN = np.where(counted_CN, scores_NC.swapaxes(-1, -2), -np.inf)
    order_CN = np.argsort(-scores_CN, axis=-1)
    falling_CN = np.take_along_axis(scores_CN, order_CN, -1)
    positive_CN = positive_CN[np.arange(labels)[:, None], order_CN]
    tp_CN = np.cumsum(positive_CN, axis=-1, dtype=np.int32)
    fp_CN = (
        np.minimum(np.arange(1, images + 1, dtype=np.int32), counted_CN.sum(-1, dtype=np.int32)[:, None])
        - tp_CN
    )
    ends_CN = np.ones(falling_CN.shape, dtype=bool)
    ends_CN[..., :-1] = falling_CN[..., 1:] < falling_CN[..., :-1]
    if (ends_CN | np.isneginf(falling_CN)).all():  # -inf is masked: scores are finite
        # Without ties nothing moves, and no negative shares a positive's place: there fp is fp_above.
        return _Ranking(positive_CN, tp_CN, fp_CN, fp_CN)
    place_N = np.arange(images)
    last_CN = np.where(ends_CN, place_N, images)[..., ::-1]
    last_CN = np.minimum.accumulate(last_CN, axis=-1)[..., ::-1]
    before_CN = np.maximum.accumulate(np.where(ends_CN, place_N, -1), axis=-1)
    before_CN = np.concatenate([np.full_like(before_CN[..., :1], -1), before_CN[..., :-1]], axis=-1)
    fp_above_CN = np.where(before_CN < 0, 0, np.take_along_axis(fp_CN, np.maximum(before_CN, 0), -1))
    tp_CN, fp_CN = (np.take_along_axis(count_CN, last_CN, -1) for count_CN in (tp_CN, fp_CN))
    return _Ranking(positive_CN, tp_CN, fp_CN, fp_above_CN)


def auroc(targets_NC: np.ndarray, scores_NC: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each label: P(score of a positive > of a negative) + P(equal) / 2.

    Args:
        targets_NC: 0 or 1; NaN is masked.
        scores_NC: float (..., N, C), finite; only the order within a label counts.

    Returns:
        float64 (..., C); NaN for a label without positives or without negatives.

    >>> auroc(np.array([[1], [0], [1], [0]]), np.array([[0.9], [0.8], [0.7], [0.1]])).tolist()
    [0.75]
    """
    ranking = _rank_images(targets_NC, scores_NC)
    positives_C, negatives_C = _class_sizes(targets_NC)
    wrong = np.sum((ranking.fp + ranking.fp_above) * ranking.positive, axis=-1, dtype=np.int64) / 2
    return _divide(positives_C * negatives_C - wrong, positives_C * negatives_C, undefined=np.nan)


def average_precision(targets_NC: np.ndarray, scores_NC: np.ndarray) -> np.ndarray:
    """Average precision of each label: precision at the score of each positive, averaged over the positives.

    The area under the precision-recall curve by steps, not by trapezoids, which would be optimistic.

    Args:
        targets_NC: 0 or 1; NaN is masked.
        scores_NC: float (..., N, C), finite; only the order within a label counts.

    Returns:
        float64 (..., C); NaN for a label without positives, and without negatives, where any order gives 1.

    >>> average_precision(np.array([[1], [0], [1]]), np.array([[0.9], [0.8], [0.7]])).round(3).tolist()
    [0.833]
    """
    ranking = _rank_images(targets_NC, scores_NC)
    positives_C, negatives_C = _class_sizes(targets_NC)
    # A masked image at the head of a label without any other has neither.
    precision = ranking.tp / np.maximum(ranking.tp + ranking.fp, 1)
    total = np.sum(precision * ranking.positive, axis=-1)
    return _divide(total, np.where(negatives_C > 0, positives_C, 0), undefined=np.nan)


# ---- decisions ----


class Confusion(NamedTuple):
    """Counts of decisions, of any one shape: int64 of images, or float32 sums of their weights.

    >>> counts = Confusion(*np.array([[3, 1], [1, 0], [2, 0], [4, 9]]))
    >>> counts.tp.tolist(), counts.pooled().tp.item()
    ([3, 1], 4)
    """

    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray
    tn: np.ndarray

    def pooled(self, axis: int = -1) -> Confusion:
        """All labels' counts together, what micro averages are taken of; `axis`: where the labels lie."""
        return Confusion(*(count.sum(axis) for count in self))


def confusion(targets_NC: np.ndarray, decisions_NC: np.ndarray) -> Confusion:
    """Confusion counts of each label; `decisions_NC` is bool (..., N, C); each count has shape (..., C).

    >>> counts = confusion(np.array([[1], [1], [0], [np.nan]]), np.array([[True], [False], [True], [True]]))
    >>> [count.tolist() for count in counts]
    [[1], [1], [1], [0]]
    """
    targets_NC, decisions_NC = _check(targets_NC, decisions_NC)
    if decisions_NC.dtype != bool:
        raise ValueError(f"Expected bool `decisions_NC`, but got {decisions_NC.dtype}.")
    positives_C, negatives_C = _class_sizes(targets_NC)
    tp = (decisions_NC & (targets_NC == 1)).sum(-2)
    fp = (decisions_NC & (targets_NC == 0)).sum(-2)
    return Confusion(tp, fp, positives_C - tp, negatives_C - fp)


def precision(counts: Confusion) -> np.ndarray:
    """tp / (tp + fp); 0 where nothing is predicted, NaN where nothing is positive.

    >>> precision(Confusion(tp=3, fp=1, fn=2, tn=4)).item()
    0.75
    """
    value = _divide(counts.tp, counts.tp + counts.fp, undefined=0.0)
    return np.where(counts.tp + counts.fn > 0, value, np.nan)


def recall(counts: Confusion) -> np.ndarray:
    """tp / (tp + fn); NaN where nothing is positive.

    >>> recall(Confusion(tp=3, fp=1, fn=2, tn=4)).item()
    0.6
    """
    return _divide(counts.tp, counts.tp + counts.fn, undefined=np.nan)


def specificity(counts: Confusion) -> np.ndarray:
    """tn / (tn + fp); NaN where nothing is negative.

    >>> specificity(Confusion(tp=3, fp=1, fn=2, tn=4)).item()
    0.8
    """
    return _divide(counts.tn, counts.tn + counts.fp, undefined=np.nan)


def negative_predictive_value(counts: Confusion) -> np.ndarray:
    """tn / (tn + fn); 0 where nothing is predicted negative, NaN where nothing is negative.

    >>> negative_predictive_value(Confusion(tp=3, fp=1, fn=1, tn=4)).item()
    0.8
    """
    value = _divide(counts.tn, counts.tn + counts.fn, undefined=0.0)
    return np.where(counts.tn + counts.fp > 0, value, np.nan)


def f1(counts: Confusion) -> np.ndarray:
    """2 tp / (2 tp + fp + fn), the harmonic mean of precision and recall; NaN where nothing is positive.

    >>> f1(Confusion(tp=3, fp=1, fn=1, tn=4)).item()
    0.75
    """
    value = _divide(2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn, undefined=0.0)
    return np.where(counts.tp + counts.fn > 0, value, np.nan)


def mcc(counts: Confusion) -> np.ndarray:
    """Matthews' correlation of decisions and targets, in [-1, 1].

    0 where every decision is the same, NaN without positives or without negatives.

    >>> mcc(Confusion(*np.array([4, 1, 1, 4]))).item()
    0.6
    """
    tp, fp, fn, tn = (count.astype(np.float64) for count in counts)
    spread = np.sqrt((tp + fp) * (tn + fn)) * np.sqrt((tp + fn) * (tn + fp))
    value = _divide(tp * tn - fp * fn, spread, undefined=0.0)
    return np.where((tp + fn > 0) & (tn + fp > 0), value, np.nan)


# ---- decisions for one of multiclass labels: counts of all labels, which lie along `axis` ----


def accuracy(counts: Confusion, axis: int = -1) -> np.ndarray:
    """Share of images decided right, where an image has one label and one is decided; NaN without images.

    >>> accuracy(Confusion(*np.array([[2, 1], [1, 0], [0, 1], [1, 2]]))).item()
    0.75
    """
    return recall(counts.pooled(axis))


def cohen_kappa(counts: Confusion, axis: int = -1) -> np.ndarray:
    """Agreement of decided and true label beyond that of chance, in [-1, 1] (Cohen, Educational and
    Psychological Measurement 20, 1960): (accuracy - e) / (1 - e), e the agreement of independent labels that
    are as frequent.

    0 where every decision is the same; NaN where one label alone is both true and decided.

    >>> cohen_kappa(Confusion(*np.array([[2, 1], [1, 0], [0, 1], [1, 2]]))).item()
    0.5
    """
    actual, decided = counts.tp + counts.fn, counts.tp + counts.fp
    images = actual.sum(axis)
    expected = _divide((actual * decided).sum(axis), images**2, undefined=np.nan)
    return _divide(accuracy(counts, axis) - expected, 1 - expected, undefined=np.nan)


# ---- probabilities ----


def prevalences(targets_NC: np.ndarray) -> np.ndarray:
    """float64 (C,): (positives + 1/2) / (known + 1), Jeffreys' estimate, so that its logit is finite.

    >>> prevalences(np.array([[0], [0], [0], [np.nan]])).tolist()
    [0.125]
    """
    known_C = (~np.isnan(targets_NC)).sum(axis=0)
    return ((targets_NC == 1).sum(axis=0) + 0.5) / (known_C + 1)


class SquaredErrors(NamedTuple):
    """Sums of (probability - target)^2 over the positive and the negative images, and how many these are.

    Of any shapes that broadcast: (..., C) and (C,) of images, (C, B) and (C, 1) with weights.

    >>> brier(SquaredErrors(of_positives=0.25, of_negatives=0.75, positives=1, negatives=3)).item()
    0.25
    """

    of_positives: np.ndarray
    of_negatives: np.ndarray
    positives: np.ndarray
    negatives: np.ndarray


def squared_errors(targets_NC: np.ndarray, probs_NC: np.ndarray) -> SquaredErrors:
    """Sums of each label, float64 (..., C), and its images, (C,); `probs_NC` float (..., N, C) in [0, 1].

    >>> errors = squared_errors(np.array([[1], [0]]), np.array([[0.5], [0.25]]))
    >>> errors.of_positives.tolist(), errors.of_negatives.tolist()
    ([0.25], [0.0625])
    """
    targets_NC, probs_NC = _check(targets_NC, probs_NC)
    if not ((probs_NC >= 0) & (probs_NC <= 1)).all():
        raise ValueError("Expected `probs_NC` in [0, 1], but got a value outside.")
    of_positives, of_negatives = (
        np.sum(np.square(probs_NC - value, dtype=np.float64) * (targets_NC == value), axis=-2)
        for value in (1, 0)
    )
    return SquaredErrors(of_positives, of_negatives, *_class_sizes(targets_NC))


def brier(errors: SquaredErrors) -> np.ndarray:
    """Mean squared error of the probabilities of each label; NaN for a label without images.

    >>> brier(squared_errors(np.array([[1], [0]]), np.array([[0.5], [0.5]]))).tolist()
    [0.25]
    """
    total = errors.of_positives + errors.of_negatives
    return _divide(total, errors.positives + errors.negatives, undefined=np.nan)


def brier_skill(errors: SquaredErrors, reference: SquaredErrors) -> np.ndarray:
    """1 - Brier score / Brier score of always saying the prevalence: 1 is perfect, 0 knows only prevalences.

    Args:
        errors: of the probabilities.
        reference: `squared_errors` of the training prevalences, the same for every image.

    Returns:
        float64; NaN where the prevalence alone is already perfect, and for a label without images.

    >>> errors, reference = SquaredErrors(0.05, 0.05, 1, 1), SquaredErrors(0.25, 0.25, 1, 1)
    >>> brier_skill(errors, reference).item()
    0.8
    """
    return 1 - _divide(brier(errors), brier(reference), undefined=np.nan)


# ---- ranking labels within an image ----


def _rank_labels(targets_NC: np.ndarray, scores_NC: np.ndarray) -> tuple[np.ndarray, ...]:
    """For each label, how many labels, and how many positives, of its image score at least as high.

    Both have shape (..., N, C); then the positives and the negatives of each image, (N,).
    """
    targets_NC, scores_NC = _check(targets_NC, scores_NC)
    positive_NC, negative_NC = targets_NC == 1, targets_NC == 0
    as_high_NCC = scores_NC[..., None, :] >= scores_NC[..., :, None]
    rank_NC = (as_high_NCC & (positive_NC | negative_NC)[:, None, :]).sum(-1)
    hits_NC = (as_high_NCC & positive_NC[:, None, :]).sum(-1)
    return positive_NC, rank_NC, hits_NC, positive_NC.sum(-1), negative_NC.sum(-1)


def lrap(targets_NC: np.ndarray, scores_NC: np.ndarray) -> np.ndarray:
    """Label ranking average precision of each image, (..., N); its mean over the images is the LRAP.

    For each positive label, the share of positives among the labels scored at least as high, averaged over
    the image's positive labels. NaN for an image without positives; 1 where all labels are positive.

    >>> lrap(np.array([[1, 0, 1]]), np.array([[0.9, 0.8, 0.7]])).round(3).tolist()
    [0.833]
    """
    positive_NC, rank_NC, hits_NC, positives_N, _ = _rank_labels(targets_NC, scores_NC)
    share_NC = np.where(positive_NC, hits_NC, 0) / np.maximum(rank_NC, 1)
    return _divide(share_NC.sum(-1), positives_N, undefined=np.nan)


def coverage_error(targets_NC: np.ndarray, scores_NC: np.ndarray) -> np.ndarray:
    """How many of an image's labels, from the top, hold all its positives, (..., N), in 1..C.

    Equal scores count against the model. NaN for an image without positives.

    >>> coverage_error(np.array([[1, 0, 1]]), np.array([[0.9, 0.8, 0.7]])).tolist()
    [3.0]
    """
    positive_NC, rank_NC, _, positives_N, _ = _rank_labels(targets_NC, scores_NC)
    return np.where(positives_N > 0, np.where(positive_NC, rank_NC, 0).max(-1), np.nan)


def ranking_loss(targets_NC: np.ndarray, scores_NC: np.ndarray) -> np.ndarray:
    """Share of (positive, negative) pairs of an image's labels in the wrong order, (..., N), in [0, 1].

    Equal scores are the wrong order. NaN for an image without positives or without negatives.

    >>> ranking_loss(np.array([[1, 0, 1]]), np.array([[0.9, 0.8, 0.7]])).tolist()
    [0.5]
    """
    positive_NC, rank_NC, hits_NC, positives_N, negatives_N = _rank_labels(targets_NC, scores_NC)
    wrong_N = np.where(positive_NC, rank_NC - hits_NC, 0).sum(-1)
    return _divide(wrong_N, positives_N * negatives_N, undefined=np.nan)


def exact_match(targets_NC: np.ndarray, decisions_NC: np.ndarray) -> np.ndarray:
    """1.0 for an image with every unmasked label decided right, else 0.0, (..., N); NaN with all masked.

    >>> exact_match(np.array([[1, 0], [1, np.nan]]), np.array([[True, False], [False, True]])).tolist()
    [1.0, 0.0]
    """
    targets_NC, decisions_NC = _check(targets_NC, decisions_NC)
    counted_NC = ~np.isnan(targets_NC)
    right_NC = (decisions_NC == (targets_NC == 1)) | ~counted_NC
    return np.where(counted_NC.any(-1), right_NC.all(-1), np.nan)


def _class_sizes(targets_NC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    targets_NC = np.asarray(targets_NC)
    return (targets_NC == 1).sum(0), (targets_NC == 0).sum(0)


def _check(targets_NC: np.ndarray, predictions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    targets_NC, predictions = np.asarray(targets_NC), np.asarray(predictions)
    if targets_NC.ndim != 2 or predictions.shape[-2:] != targets_NC.shape:
        raise ValueError(
            "Expected predictions of shape (..., N, C) for targets of shape (N, C), but got "
            f"{predictions.shape} and {targets_NC.shape}."
        )
    if not np.isfinite(predictions).all():
        raise ValueError("Expected finite predictions, but got NaN or an infinity.")
    return targets_NC, predictions


def _divide(numerator: np.ndarray, denominator: np.ndarray, undefined: float) -> np.ndarray:
    numerator, denominator = np.broadcast_arrays(np.asarray(numerator, dtype=np.float64), denominator)
    out = np.full(numerator.shape, undefined)
    return np.divide(numerator, denominator, out=out, where=denominator != 0)
