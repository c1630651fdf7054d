"""What a fine-tuning study is made of: its inputs, its trials, their checkpoints, its last look."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from cohort.errors import InputError
from cohort.image_store import image_store
from search_spaces import fine_tune as space
from search_spaces import linear_probe as probe_space
from study.cluster import Capacity
from study.config import FineTuneSettings, StudyConfig
from study.probe_study import identity_of, opened, probe_data
from study.search import SearchPlan
from study.standing import ranking
from trainables.checkpoints import KEPT_RESUME_POINTS, CheckpointFolder
from trainables.fine_tune import checkpoint_bytes
from trainables.fine_tune_config import Training
from trainables.fine_tune_data import FineTuneData
from trainables.linear_probe import ProbeData
from trainables.ray_trainables import train_configurations
from trainables.records import RunFolder, TrialRecord
from trainables.tower import check_space
from vlm.embeddings import embed
from vlm.encoders import Encoder
from vlm.linear_head import LinearHead

CPUS_A_TRIAL = 4
"""Threads beyond which a trial on the CPU gains less than a second trial beside it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FineTuneStudy:
    """A fine-tuning study, as the driver conducts it. Holds nothing of the test split."""

    config: StudyConfig
    encoder: Encoder
    data: FineTuneData
    probe: ProbeData
    """Features of the untouched tower, for the floor and for heads that start as a probe."""
    head: LinearHead
    """A linear probe trained on the untouched tower: `init_head: probe`."""
    trained_parameters: int
    """The most weights that a trial may train, the head's included."""
    identity: dict[str, Any]
    space = space

    @classmethod
    def prepare(cls, config: StudyConfig) -> FineTuneStudy:
        """Open the cohort, load the encoder, decode the images once, train the probe that heads start from.

        Raises:
            InputError: as a probe study's, or a method of the search that does not fit the encoder's tower.
        """
        cohort, encoder = opened(config)
        trained = check_space(encoder, config.search.fixed, config.search.ranges)
        embeddings = embed(cohort, encoder, cache=config.cache)
        encoder.to("cpu")  # the GPU is the trials'
        torch.cuda.empty_cache()
        probe = probe_data(cohort, embeddings.features_ND, config.search.seed)
        store = image_store(cohort, encoder.geometry, config.cache)
        data = FineTuneData(
            images_file=(store.folder / "images.npy").absolute(),
            train_rows_N=cohort.indices("train"),
            val_rows_N=cohort.indices("val"),
            train_targets_NC=probe.train_targets_NC,
            val_targets_NC=probe.val_targets_NC,
            val_patients_N=probe.val_patients_N,
            val_folds_N=probe.val_folds_N,
            labels=probe.labels,
            objective_labels_C=probe.objective_labels_C,
        )
        return cls(
            config=config,
            encoder=encoder,
            data=data,
            probe=probe,
            head=_best_warm_start(probe, config),
            trained_parameters=max(trained.values()) + (encoder.width + 1) * len(probe.labels),
            identity=identity_of(cohort, encoder, embeddings, probe),
        )

    @property
    def settings(self) -> FineTuneSettings:
        return self.config.fine_tune or FineTuneSettings()

    def plan(self, capacity: Capacity, done: int, deadline: float) -> SearchPlan:
        """One configuration a trial, told as it ends: early stopping makes no order worth waiting for."""
        search = self.config.search
        if capacity.gpus:
            slots = int(capacity.gpus * self.settings.trials_per_gpu)
            if slots == 0:
                raise InputError(
                    f"resources.gpus: {capacity.gpus:g} is less than one trial takes "
                    f"(1 / fine_tune.trials_per_gpu = {1 / self.settings.trials_per_gpu:g}); raise either"
                )
        else:
            slots = capacity.cpus // CPUS_A_TRIAL
        return SearchPlan(
            configurations=search.configurations,
            bank_size=1,
            seed=search.seed,
            concurrent=max(1, slots),
            in_order=False,
            deadline=deadline,
        )

    def announcement(self, plan: SearchPlan, capacity: Capacity) -> list[str]:
        kept = min(self.settings.keep + 1, plan.configurations)  # and the paper's
        # A running trial writes each file anew before it drops the old one.
        resume_point = checkpoint_bytes(self.trained_parameters, ema=True)
        running = (KEPT_RESUME_POINTS + 1) * resume_point + 2 * 4 * self.trained_parameters
        disk = (plan.concurrent * running + kept * 4 * self.trained_parameters) / 1e9
        size, data = self.encoder.geometry.size, self.data
        return [
            f"{plan.configurations} configurations, {plan.concurrent} at a time on {capacity.cpus} cpus and "
            f"{capacity.gpus:g} gpus; early stopping: {self.settings.scheduler}",
            f"{len(data.train_rows_N)} training and {len(data.val_rows_N)} validation images of {size} px; "
            f"at most {self.trained_parameters / 1e6:.2f} M trained parameters",
            f"checkpoints take at most {disk:.2f} GB: resume points of {resume_point / 1e9:.2f} GB, "
            f"{KEPT_RESUME_POINTS + 1} a running trial, and the weights of the best {kept}",
        ]

    def trainable(self, plan: SearchPlan, capacity: Capacity, run: RunFolder) -> tuple[Any, Any]:
        """The Tune trainable with its resources, and the scheduler that stops lagging trials."""
        from ray import tune

        from trainables.ray_trainables import FineTune, scheduler

        settings = self.settings
        gpus = 1 / settings.trials_per_gpu if capacity.gpus else 0
        threads = capacity.threads(plan.concurrent, settings.trials_per_gpu)
        trainable = tune.with_parameters(
            FineTune,
            encoder_name=self.config.encoder,
            features=self.config.features,
            data=self.data,
            head=self.head,
            seed=self.config.search.seed,
            training=Training(
                batch_size=settings.batch_size,
                objective=self.config.search.objective,
                patience=settings.patience,
                warm_up=settings.warm_up,
                clip_norm=settings.clip_norm,
                horizontal_flip=settings.horizontal_flip,
            ),
            precision=settings.precision,
            micro_batch=settings.micro_batch,
            compile_tower=settings.compile,
            checkpoints=run.checkpoints.absolute(),
            threads=threads,
            gpu_share=gpus,
        )
        return (
            tune.with_resources(trainable, {"cpu": threads, "gpu": gpus}),
            scheduler(settings.scheduler, settings.grace_epochs, run.records().values()),
        )

    def tidy(self, run: RunFolder, records: Iterable[TrialRecord]) -> None:
        """Delete what no finished trial needs: resume points of all, weights of those that are not kept."""
        records = list(records)
        kept = {record.number for record in ranking(records)[: self.settings.keep]} | {0}
        for record in records:
            folder = CheckpointFolder(run.checkpoints, record.number)
            folder.drop_resume_points()
            if record.number not in kept:
                shutil.rmtree(folder.path, ignore_errors=True)

    def close(self, run: RunFolder, records: Iterable[TrialRecord]) -> list[str]:
        self.tidy(run, records)
        kept = sorted(path.name for path in run.checkpoints.glob("trial-*"))
        return [f"weights kept: {', '.join(kept)}"] if kept else []


def _best_warm_start(data: ProbeData, config: StudyConfig) -> LinearHead:
    """The best of the probe space's warm starts: one bank, a second or two."""
    starts = probe_space.warm_starts()
    configurations = [{"number": number, "params": start} for number, start in enumerate(starts, start=1)]
    records = train_configurations(
        configurations,
        data,
        seed=config.search.seed,
        batch_size=config.search.batch_size,
        objective=config.search.objective,
    )
    ranked = ranking(records)
    if not ranked:
        raise InputError(
            f"{config.cohort}: no linear probe on {config.encoder} could be trained to start from"
        )
    return ranked[0].head
