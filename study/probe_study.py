"""What a linear-probe study is made of: its inputs, its cut into banks, its trainable, its last look."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cohort.files import write_atomically
from cohort.manifest import Cohort
from cohort.patients import patient_folds, positive_patients
from search_spaces import linear_probe as space
from study.cluster import Capacity
from study.config import StudyConfig
from study.finalists import repeat_finalists
from study.search import SearchPlan
from study.standing import ranking
from trainables.linear_probe import ProbeData
from trainables.records import RunFolder, TrialRecord
from vlm.embeddings import Embeddings, embed
from vlm.encoders import Encoder, load_encoder

OBJECTIVE_PATIENTS = 5
"""Positive patients that a label needs on validation to count in the objective."""
LARGEST_BANK = 32
"""Beyond this many heads the stacked product gains nothing and the search learns less often."""
BANKS_AT_LEAST = 8
"""A study is cut into at least this many banks, so that the sampler learns between them."""
ROUNDS_AT_LEAST = 4
"""Banks train side by side only as long as the sampler still learns between this many rounds of them."""


def opened(config: StudyConfig) -> tuple[Cohort, Encoder]:
    """The study's cohort and its encoder.

    Raises:
        InputError: no cohort there, or an unknown encoder.
    """
    import torch

    on_gpu = config.resources.gpus != 0 and torch.cuda.is_available()
    device = "cuda" if on_gpu else "cpu"
    return Cohort.open(config.cohort), load_encoder(config.encoder, features=config.features, device=device)


def embedded(config: StudyConfig) -> tuple[Cohort, Encoder, Embeddings]:
    """The study's cohort, its encoder, and the features of the one under the other.

    Raises:
        InputError: as `opened`, or an image or a cache that is damaged.
    """
    cohort, encoder = opened(config)
    return cohort, encoder, embed(cohort, encoder, cache=config.cache)


def probe_data(cohort: Cohort, features_ND: np.ndarray, seed: int) -> ProbeData:
    """Training and validation features and labels; those of the test split stay behind.

    Args:
        features_ND: float32, all present rows in manifest order.
        seed: fixes the study's cross-fitting folds.

    Raises:
        InputError: a split is empty, or no label has enough positive patients on validation.
    """
    train_N, val_N = cohort.indices("train"), cohort.indices("val")
    train_targets_NC, val_targets_NC = cohort.targets_NC(train_N), cohort.targets_NC(val_N)
    patients_N = cohort.patients_N(val_N)
    enough_C = positive_patients(val_targets_NC, patients_N) >= OBJECTIVE_PATIENTS
    return ProbeData(
        train_features_ND=np.ascontiguousarray(features_ND[train_N]),
        train_targets_NC=train_targets_NC,
        val_features_ND=np.ascontiguousarray(features_ND[val_N]),
        val_targets_NC=val_targets_NC,
        val_patients_N=patients_N,
        val_folds_N=patient_folds(val_targets_NC, patients_N, seed=seed),
        labels=cohort.labels,
        objective_labels_C=enough_C & (val_targets_NC == 0).any(axis=0),
    )


def identity_of(cohort: Cohort, encoder: Encoder, embeddings: Embeddings, data: ProbeData) -> dict[str, Any]:
    """What must not change under a resumed study, as JSON."""
    return {
        "cohort_hash": cohort.content_hash,
        "encoder_fingerprint": encoder.fingerprint,
        "embeddings_key": embeddings.key,
        "labels": list(data.labels),
        "objective_labels": [str(label) for label in np.array(data.labels)[data.scored_C]],
    }


@dataclass(frozen=True, kw_only=True, eq=False)
class ProbeStudy:
    """A linear-probe study, as the driver conducts it. Holds nothing of the test split."""

    config: StudyConfig
    data: ProbeData
    train_patients_N: np.ndarray
    """int64 patient codes of the training images, of one coding with `data.val_patients_N`."""
    identity: dict[str, Any]
    space = space

    @classmethod
    def prepare(cls, config: StudyConfig) -> ProbeStudy:
        """Open the cohort, load the encoder, fill the embedding cache and lay out what trials may see.

        Raises:
            InputError: as `embedded` and `probe_data`.
        """
        cohort, encoder, embeddings = embedded(config)
        data = probe_data(cohort, embeddings.features_ND, config.search.seed)
        return cls(
            config=config,
            data=data,
            train_patients_N=cohort.patients_N(cohort.indices("train")),
            identity=identity_of(cohort, encoder, embeddings, data),
        )

    @property
    def probe(self) -> ProbeData:
        """Frozen features and labels, for the logistic-regression floor."""
        return self.data

    def plan(self, capacity: Capacity, done: int, deadline: float) -> SearchPlan:
        """Banks of at most an eighth of the study, side by side where enough rounds of them remain."""
        search = self.config.search
        size = max(1, min(LARGEST_BANK, search.configurations // BANKS_AT_LEAST))
        rounds = (search.configurations - done) // (size * ROUNDS_AT_LEAST)
        slots = max(1, int(capacity.gpus) if capacity.gpus else min(capacity.cpus, rounds))
        return SearchPlan(
            configurations=search.configurations,
            bank_size=size,
            seed=search.seed,
            concurrent=slots,
            deadline=deadline,
        )

    def announcement(self, plan: SearchPlan, capacity: Capacity) -> list[str]:
        data = self.data
        return [
            f"{plan.configurations} configurations, {plan.bank_size} a bank, {plan.concurrent} banks at a "
            f"time on {capacity.cpus} cpus and {capacity.gpus:g} gpus",
            f"{len(data.train_features_ND)} training and {len(data.val_features_ND)} validation images, "
            f"{data.train_features_ND.shape[1]} features",
        ]

    def trainable(self, plan: SearchPlan, capacity: Capacity, run: RunFolder) -> tuple[Any, None]:
        """The Tune trainable with its resources, and no scheduler: a bank prunes itself at its rungs."""
        from ray import tune

        from trainables.ray_trainables import LinearProbeBank

        threads, gpus = capacity.threads(plan.concurrent), capacity.gpus / plan.concurrent
        trainable = tune.with_parameters(
            LinearProbeBank,
            data=self.data,
            seed=self.config.search.seed,
            batch_size=self.config.search.batch_size,
            objective=self.config.search.objective,
            threads=threads,
            device="cuda" if gpus else "cpu",
        )
        return tune.with_resources(trainable, {"cpu": threads, "gpu": gpus}), None

    def tidy(self, run: RunFolder, records: Iterable[TrialRecord]) -> None:
        """Nothing to delete: a head is a few kilobytes in its bank file."""

    def close(self, run: RunFolder, records: Iterable[TrialRecord]) -> list[str]:
        """Train the finalists again over seeds and splits; the lines that say what came of it."""
        search = self.config.search
        finalists = repeat_finalists(
            ranking(records)[: self.config.analysis.top],
            self.data,
            self.train_patients_N,
            seed=search.seed,
            batch_size=search.batch_size,
            objective=search.objective,
        )
        write_atomically(run.finalists_file, finalists.to_json().encode())
        return finalists.lines()
