"""Held-out scores of several folds on one footing, before anything is computed of them together.

Each fold's head has an intercept of its own, and it mirrors the fold that is held out: the more positives lie
there, the fewer were trained on, and the lower are all its scores. Ranked together, positives of one fold
then stand behind negatives of another, and a model that knows nothing has an AUROC below 0.5 (Parker, Günter
and Bedo, BMC Bioinformatics 2007; Airola et al., Computational Statistics & Data Analysis 2011).

Shape legend: M judged images, C labels.
"""

from __future__ import annotations

import numpy as np

from trainables.trial_data import TrialData


def pooled(held_out_MC: np.ndarray, data: TrialData) -> np.ndarray:
    """The scores with the same mean of a label on every fold, that over all folds.

    A label's order within a fold is kept, and no target is looked at but for whether it is known. A label's
    overall mean stays: it is, up to chance, that of the average of the folds' heads, so that thresholds found
    on these scores fit that head. A single fold is returned as it is.

    Args:
        held_out_MC: float (..., M, C), logits or scores that rank, of `data.judged_N()`, each by a head that
            did not train on the image.
        data: whose folds these are.

    Returns:
        float32 (..., M, C).
    """
    held_out_MC = np.asarray(held_out_MC, np.float32)
    if data.folds == 1:
        return held_out_MC
    judged_N = data.judged_N()
    fold_M, counted_MC = data.fold_N[judged_N], ~np.isnan(data.targets_NC[judged_N])
    for fold in range(data.folds):
        own_M = fold_M == fold
        counted_MC[np.ix_(own_M, ~counted_MC[own_M].any(axis=0))] = True  # a label of which nothing is known
    overall_C = _means(held_out_MC, counted_MC)
    together_MC = np.empty_like(held_out_MC)
    for fold in range(data.folds):
        own_M = fold_M == fold
        own_MC = held_out_MC[..., own_M, :]
        shift_C = overall_C - _means(own_MC, counted_MC[own_M])
        together_MC[..., own_M, :] = own_MC + shift_C[..., None, :]
    return together_MC


def _means(scores_MC: np.ndarray, counted_MC: np.ndarray) -> np.ndarray:
    """float64 (..., C)."""
    return np.einsum("...mc,mc->...c", scores_MC, counted_MC, dtype=np.float64) / counted_MC.sum(axis=0)
