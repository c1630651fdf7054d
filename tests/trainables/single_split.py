"""A training and a validation side as a trial's development rows, and back.

Shape legend: N images of a side, D features, C labels.
"""

from typing import Any

import numpy as np

from trainables.trial_data import ProbeData


def single_split(
    train_targets_NC: np.ndarray,
    val_targets_NC: np.ndarray,
    *,
    val_patients_N: np.ndarray,
    val_folds_N: np.ndarray,
    labels: tuple[str, ...],
    objective_labels_C: np.ndarray | None = None,
) -> dict[str, Any]:
    """The fields of a `TrialData` of one fold: training rows first, each of a patient of its own; every label
    counts where `objective_labels_C` says nothing else."""
    train, val = len(train_targets_NC), len(val_targets_NC)
    return {
        "rows_N": np.arange(train + val),
        "targets_NC": np.concatenate([train_targets_NC, val_targets_NC]).astype(np.float32),
        "patients_N": np.concatenate([np.arange(train) + val_patients_N.max() + 1, val_patients_N]),
        "fold_N": np.repeat([-1, 0], [train, val]),
        "threshold_fold_N": np.concatenate([np.full(train, -1), val_folds_N]),
        "labels": labels,
        "objective_labels_C": np.ones(len(labels), bool)
        if objective_labels_C is None
        else objective_labels_C,
    }


def probe_data(
    train_ND: np.ndarray, train_targets_NC: np.ndarray, val_ND: np.ndarray, val_targets_NC: np.ndarray, **rest
) -> ProbeData:
    """Features of both sides beside what `single_split` takes."""
    features_ND = np.concatenate([train_ND, val_ND]).astype(np.float32)
    return ProbeData(features_ND=features_ND, **single_split(train_targets_NC, val_targets_NC, **rest))


def training(data: ProbeData) -> tuple[np.ndarray, np.ndarray]:
    """features_ND and targets_NC that are trained on."""
    rows_N = data.training_N()
    return data.features_ND[rows_N], data.targets_NC[rows_N]


def validation(data: ProbeData) -> tuple[np.ndarray, np.ndarray]:
    """features_ND and targets_NC that are judged."""
    rows_N = data.judged_N()
    return data.features_ND[rows_N], data.targets_NC[rows_N]
