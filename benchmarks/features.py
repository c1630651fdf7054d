"""A seeded probe problem of the size and difficulty of a real one: wide embeddings, 14 skewed labels.

What frozen embeddings of radiographs have and white noise has not is imitated on purpose: a mean far from the
origin, a power-law spectrum (a few directions hold most of the variance), findings that occur together,
evidence that lies mostly where the variance is small, and the prevalences of IU-Xray, from 0.5 % to 63 %.

Legend: N images, D features, C labels.
"""

import numpy as np

from cohort.labels import CHEXPERT_14
from cohort.patients import patient_folds
from study.inputs import OBJECTIVE_PATIENTS
from trainables.trial_data import ProbeData
from vlm.feature_kinds import side_by_side

TRAIN, VAL = 2670, 575
"""The paper's procedure on the real IU-Xray tables gives these sizes."""
POSITIVES = (70, 415, 516, 165, 49, 31, 68, 216, 20, 129, 56, 127, 163, 2400)
PREVALENCE = {label: count / 3818 for label, count in zip(CHEXPERT_14, POSITIVES, strict=True)}
"""Share of IU-Xray's 3,818 frontal images with each label, as the paper counts them (arXiv 2506.14136)."""


def draw_features(
    images: int = TRAIN + VAL, width: int = 512, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Draws `features_ND` float32 and `targets_NC` float32 in {0, 1}.

    A label is positive where a linear function of the whitened features plus noise exceeds its quantile, so
    the best linear probe is far from perfect (macro-AUROC 0.87, macro average precision 0.31 for seed 0).
    """
    rng = np.random.default_rng(seed)
    labels = len(PREVALENCE)
    rank_D = np.arange(1, width + 1)
    white_ND = rng.standard_normal((images, width))
    rotation_DD, _ = np.linalg.qr(rng.standard_normal((width, width)))
    offset_D = 1.5 * rng.standard_normal(width) / np.sqrt(width)
    features_ND = (white_ND * rank_D**-0.6) @ rotation_DD.T + offset_D

    direction_DC = rng.standard_normal((width, labels)) * rank_D[:, None] ** -0.35
    ill_D = rng.standard_normal(width) * rank_D**-0.35  # shared by all findings; No Finding is its opposite
    direction_DC += 0.8 * ill_D[:, None]
    direction_DC[:, -1] = -ill_D
    direction_DC /= np.linalg.norm(direction_DC, axis=0)
    evidence_NC = white_ND @ direction_DC + 0.6 * rng.standard_normal((images, labels))
    cut_C = [np.quantile(evidence_NC[:, c], 1 - share) for c, share in enumerate(PREVALENCE.values())]
    return features_ND.astype(np.float32), (evidence_NC > cut_C).astype(np.float32)


DEEP_BLOCKS = (768,) * 8
"""Class and mean patch token of the last four blocks of a ViT-B."""


def probe_data(seed: int = 0, deep: bool = False) -> ProbeData:
    """The problem as a trial sees it: 2,670 images to train on, 575 to judge by, each of its own patient.

    With `deep` 6,144 further columns lie beside the projected ones, each a saturating function of a random
    combination of them.
    """
    features_ND, targets_NC = draw_features(seed=seed)
    kinds = {"projected": features_ND.shape[1:]}
    if deep:
        rng = np.random.default_rng([seed, 1])
        width = sum(DEEP_BLOCKS)
        mixed_ND = features_ND @ rng.standard_normal((features_ND.shape[1], width)).astype(np.float32)
        noise_ND = 0.3 * rng.standard_normal(mixed_ND.shape, dtype=np.float32)
        features_ND = np.concatenate([features_ND, np.tanh(mixed_ND) + noise_ND], axis=1)
        kinds["deep"] = DEEP_BLOCKS
    val_targets_NC, val_patients_N = targets_NC[TRAIN:], np.arange(VAL)
    val_folds_N = patient_folds(val_targets_NC, val_patients_N, seed=seed)
    return ProbeData(
        rows_N=np.arange(TRAIN + VAL),
        targets_NC=targets_NC,
        patients_N=np.concatenate([VAL + np.arange(TRAIN), val_patients_N]),
        fold_N=np.repeat([-1, 0], [TRAIN, VAL]),
        threshold_fold_N=np.concatenate([np.full(TRAIN, -1), val_folds_N]),
        labels=tuple(PREVALENCE),
        objective_labels_C=val_targets_NC.sum(0) >= OBJECTIVE_PATIENTS,
        features_ND=features_ND,
        kinds=side_by_side(kinds),
    )
