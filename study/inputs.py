"""What a study stands on: cohort, encoder, features, and the identity that none of them may lose."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from cohort.manifest import Cohort
from cohort.patients import patient_folds, positive_patients
from search_spaces.parameters import Space
from study.config import StudyConfig
from study.run_folder import RunFolder
from trainables.trial_data import ProbeData
from vlm.embeddings import Embeddings, embed
from vlm.encoder_names import name_for
from vlm.encoders import Encoder, load_encoder
from vlm.feature_kinds import FeatureKind

OBJECTIVE_PATIENTS = 5
"""Positive patients that a label needs on validation to count in the objective."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Inputs:
    """A study's cohort, its encoder, and the features of the one under the other."""

    cohort: Cohort
    encoder: Encoder
    embeddings: Embeddings
    seed: int
    """Fixes the study's cross-fitting folds."""

    @cached_property
    def data(self) -> ProbeData:
        """Training and validation features and labels; those of the test split stay behind.

        Raises:
            InputError: a split is absent, or no label has enough positive patients on validation.
        """
        return development_data(self.cohort, self.embeddings, self.seed, self.encoder.kinds)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What must not change under a resumed or an analysed study, as JSON."""
        data = self.data
        return {
            "cohort_hash": self.cohort.content_hash,
            "encoder_fingerprint": self.encoder.fingerprint,
            "embeddings_key": self.embeddings.key,
            "precision": self.embeddings.precision,
            "labels": list(data.labels),
            "objective_labels": [str(label) for label in np.array(data.labels)[data.scored_C]],
        }

    def features(self, cache: str) -> Callable[[Encoder, str], np.ndarray]:
        """From an encoder and a precision to its features of the cohort, float32, all present rows; computed
        where `cache` does not hold them. fp16, in which only training computes, is rounded like fp32 best."""

        def found(encoder: Encoder, precision: str) -> np.ndarray:
            mine = encoder.fingerprint == self.encoder.fingerprint and precision == self.embeddings.precision
            if mine:
                return self.embeddings.features_ND
            asked = "fp32" if precision == "fp16" else precision
            return embed(self.cohort, encoder, cache=cache, precision=asked).features_ND

        return found


def open_inputs(config: StudyConfig, run: RunFolder) -> Inputs:
    """Open the cohort, load the encoder, fill the embedding cache.

    Features are computed in the precision that the study began with, whatever this machine is good at: a head
    trained on bf16 features must not be scored on others.

    Raises:
        InputError: no cohort there, choices that its labels do not have, an unknown encoder, a damaged image
            or cache, or another cohort, encoder or features than the study began with.
    """
    on_gpu = config.resources.gpus != 0 and torch.cuda.is_available()
    cohort = Cohort.open(config.cohort)
    study_space(config, cohort)
    name = name_for(config.encoder, cohort.channels)
    encoder = load_encoder(name, features=config.features, device="cuda" if on_gpu else "cpu")
    precision = run.identity()["precision"] if run.inputs_file.exists() else "auto"
    embeddings = embed(cohort, encoder, cache=config.cache, precision=precision)
    inputs = Inputs(cohort=cohort, encoder=encoder, embeddings=embeddings, seed=config.search.seed)
    if run.inputs_file.exists():
        run.keep_identity(inputs.identity)
    return inputs


def study_space(config: StudyConfig, cohort: Cohort) -> Space:
    """What the study searches on such labels; InputError for choices that these do not have."""
    space = importlib.import_module(f"search_spaces.{config.trainable}").SPACE
    return space.for_labels(cohort.exclusive, config.search.fixed, config.search.ranges)


def development_data(
    cohort: Cohort, embeddings: Embeddings, seed: int, kinds: Mapping[str, FeatureKind] | None = None
) -> ProbeData:
    """The given split as one fold: training rows first, then validation, each in manifest order.

    Args:
        seed: of the folds in which thresholds are cross-fitted.
        kinds: of the features; None: all columns are of one.

    Raises:
        InputError: a split is absent, or no label has enough positive patients on validation.
    """
    train_N, val_N = cohort.indices("train"), cohort.indices("val")
    rows_N = np.concatenate([train_N, val_N])
    targets_NC, patients_N = cohort.targets_NC(rows_N), cohort.patients_N(rows_N)
    fold_N = np.repeat(np.array([-1, 0]), [len(train_N), len(val_N)])
    held_N = fold_N == 0
    held_NC, held_patients_N = targets_NC[held_N], patients_N[held_N]
    threshold_fold_N = np.full(len(rows_N), -1, dtype=np.int64)
    threshold_fold_N[held_N] = patient_folds(held_NC, held_patients_N, seed=seed)
    enough_C = positive_patients(held_NC, held_patients_N) >= OBJECTIVE_PATIENTS
    return ProbeData(
        rows_N=rows_N,
        targets_NC=targets_NC,
        patients_N=patients_N,
        fold_N=fold_N,
        threshold_fold_N=threshold_fold_N,
        labels=cohort.labels,
        objective_labels_C=enough_C & (held_NC == 0).any(axis=0),
        exclusive=cohort.exclusive,
        features_ND=np.ascontiguousarray(embeddings.features_ND[rows_N]),
        precision=embeddings.precision,
        kinds=kinds,
    )
