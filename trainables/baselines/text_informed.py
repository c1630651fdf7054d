"""A head in closed form from text and labels together: no training, and so a baseline for what is trained.

SS-Text (Silva-Rodriguez et al., "Few-shot, now for real: medical VLMs adaptation without balanced sets
or validation", MICCAI 2025) takes one step of the softmax cross-entropy away from the text prototypes:
w_k = t_k + sum_i y_ik f_i / (N lambda tau). Here labels are independent, each a question of its own: the sum
is taken one against the rest and balanced between them. Positives weigh 1 / (2 N_k+) and negatives
-1 / (2 N_k-), which makes it half the difference of the two means and takes out of it what all images share.

    w_k = t_k + (mean of f over positives of k - mean over its negatives) / (2 lambda tau)

f and t are directions: projected features and text features of length 1. Scores are products, which rank.

Shape legend: N images, D features, C labels.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from trainables.baselines import TEXT_INFORMED
from trainables.baselines.base import Baseline, BaselineInputs, chosen
from trainables.baselines.zero_shot import ranking_record
from trainables.pooling import pooled
from trainables.records import TrialRecord
from trainables.trial_data import ProbeData
from vlm.feature_kinds import PROJECTED
from vlm.linear_head import LinearHead, combined, unit_rows

STRENGTHS = (0.0, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Of the images against the text, 1 / (2 lambda tau); 0 is the text alone."""


def fit(inputs: BaselineInputs) -> list[Baseline]:
    """Its strength the best on validation; nothing without a text tower."""
    if inputs.data.text_CD is None:
        return []
    records = tuple(text_informed(inputs.data, inputs.objective))
    strength = chosen(records).params["strength"]
    note = f"text and class means in closed form, strength {strength:g}, chosen on validation"
    return [Baseline(id=TEXT_INFORMED, note=note, records=records, encoder=inputs.encoder)]


def text_informed(data: ProbeData, objective_name: str) -> list[TrialRecord]:
    """The closed form of each strength, fitted on each fold.

    Args:
        data: with projected features and `text_CD`.
        objective_name: one of `scoring.judging.OBJECTIVES`.

    Returns:
        one record a strength, no trials of a study: its parameter `strength`, the average of its folds' heads
        on directions, and the scores of `data.judged_N()`, each by the head that did not see the image
        (`trainables.pooling`).
    """
    text_CD = data.text_CD
    kind = data.kinds[PROJECTED]
    raw_ND = data.features_ND[:, kind.columns]
    x_ND = unit_rows(raw_ND).astype(np.float64)
    text_DC = unit_rows(text_CD).T
    judged_N = data.judged_N()
    found = []
    for strength in STRENGTHS:
        held_out_NC, heads = np.zeros(data.targets_NC.shape, np.float32), []
        for fold in range(data.folds):
            train_N, own_N = data.training_N(fold), data.judged_N(fold)
            shift_DC = _between_means(x_ND[train_N], data.targets_NC[train_N])
            heads.append(LinearHead.plain(text_DC + strength * shift_DC, l2=True, first=kind.first))
            held_out_NC[own_N] = heads[-1].logits(data.features_ND[own_N])
        (head,) = combined(heads, [1 / data.folds] * data.folds)
        held_out_MC = pooled(held_out_NC[judged_N], data)
        record = ranking_record(data, head, held_out_MC[None], {"strength": strength}, objective_name)
        found.append(replace(record, arrays=record.arrays | {"held_out_MC": held_out_MC}))
    return found


def _between_means(x_ND: np.ndarray, targets_NC: np.ndarray) -> np.ndarray:
    """float64 (D, C): mean of the positives less mean of the negatives; 0 for a label that lacks either."""
    positive_NC, negative_NC = (targets_NC == 1).astype(np.float64), (targets_NC == 0).astype(np.float64)
    counts = positive_NC.sum(axis=0), negative_NC.sum(axis=0)
    means = [
        x_ND.T @ (which_NC / np.maximum(count_C, 1))
        for which_NC, count_C in zip((positive_NC, negative_NC), counts, strict=True)
    ]
    return np.where((counts[0] > 0) & (counts[1] > 0), means[0] - means[1], 0.0)
