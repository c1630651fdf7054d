"""The study of fine-tuning: its trials, their checkpoints, and the tuned encoders under their heads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cohort.errors import InputError
from cohort.image_store import IMAGES, image_store
from cohort.remote_files import MirroredFolder, is_remote
from scoring.predictions import ANSWER
from search_spaces import fine_tune as space
from search_spaces import linear_probe as probe_space
from search_spaces.configuration import Configuration
from study.cluster import Capacity
from study.config import StudyConfig
from study.fine_tune_answer import FILE, TowerJudge, TunedAnswer, search_answer, with_weights
from study.inputs import Inputs
from study.run_folder import RunFolder
from study.search_plan import SearchPlan
from study.trainable_study import ANSWER_NAME, scores_on_validation
from trainables.bank_training import BankTraining
from trainables.candidates import Candidate
from trainables.checkpoints import KEPT_RESUME_POINTS, CheckpointFolder, CorruptCheckpoint
from trainables.fine_tune_compute import Compute
from trainables.fine_tune_state import checkpoint_bytes, load_best
from trainables.linear_probe import train_bank
from trainables.ranking import ranking
from trainables.records import TrialRecord
from trainables.tower import check_space
from trainables.trial_data import FineTuneData
from vlm.encoders import Encoder
from vlm.linear_head import LinearHead

CPUS_A_TRIAL = 4
"""Threads beyond which a trial on the CPU gains less than a second trial beside it."""


class FineTuneStudy:
    """Fine-tuning; see `study.trainable_study`."""

    space = space

    def __init__(self, config: StudyConfig, inputs: Inputs, run: RunFolder) -> None:
        self.config, self.inputs, self.run = config, inputs, run
        self.settings = config.fine_tune

    @property
    def checkpoints(self) -> str:
        """Where trials keep their weights; a folder or a URI."""
        return self.config.shared_folder or str(self.run.checkpoints.absolute())

    def prepare(self, echo: Callable[[str], None]) -> None:
        """Check the methods against the tower, decode the images once, train the probe that heads start from.

        Raises:
            InputError: a method of the search that does not fit the encoder's tower.
        """
        cohort, encoder, probe = self.inputs.cohort, self.inputs.encoder, self.inputs.data
        search = self.config.search
        trained = check_space(encoder, search.fixed, search.ranges)
        self._trained_parameters = max(trained.values()) + (encoder.width + 1) * len(probe.labels)
        encoder.to("cpu")  # the GPU is the trials'
        torch.cuda.empty_cache()
        echo(f"{self.config.name}: preparing the images, decoded once for all trials")
        store = image_store(cohort, encoder.geometry, self.config.cache)
        self._images_key = store.key
        self._data = FineTuneData(
            images_file=(store.folder / IMAGES).absolute(),
            rows_N=probe.rows_N,
            targets_NC=probe.targets_NC,
            patients_N=probe.patients_N,
            fold_N=probe.fold_N,
            threshold_fold_N=probe.threshold_fold_N,
            labels=probe.labels,
            objective_labels_C=probe.objective_labels_C,
            multiclass=probe.multiclass,
        )
        echo(f"{self.config.name}: preparing the linear probe that heads start from")
        self._head = self._best_warm_start()

    def _best_warm_start(self) -> LinearHead:
        """The best of the probe space's warm starts: one bank, a second or two."""
        search, seen = self.config.search, probe_space.plain(self.inputs.encoder.features[0])
        starts = probe_space.warm_starts(seen, multiclass=self.inputs.cohort.multiclass)
        bank = [
            Configuration(probe_space.SPACE, number, seen | start, seed=search.seed)
            for number, start in enumerate(starts, start=1)
        ]
        records = train_bank(
            bank,
            self.inputs.data,
            training=BankTraining(batch_size=search.batch_size),
            objective_name=search.objective,
            seed=search.seed,
        )
        ranked = ranking(records)
        if not ranked:
            raise InputError(
                f"{self.config.cohort}: no linear probe on {self.config.encoder} could be trained to start "
                "from; look at the features with `radtune run` and trainable: linear_probe"
            )
        return ranked[0].head

    def shared_folders(self) -> Mapping[str, Path]:
        """Checkpoints and decoded images, where they are not at a URI."""
        if not is_remote(self.checkpoints):
            Path(self.checkpoints).mkdir(parents=True, exist_ok=True)
        folders = {"checkpoints": self.checkpoints, "cache": self.config.cache}
        return {what: Path(place) for what, place in folders.items() if not is_remote(place)}

    def presets(self) -> Mapping[str, Mapping[str, Any]]:
        return space.PRESETS

    def plan(self, capacity: Capacity, done: int, deadline: float) -> SearchPlan:
        """One configuration a trial, told as it ends: early stopping makes no order worth waiting for."""
        search, sharing = self.config.search, self.settings.trials_per_gpu
        if capacity.gpus:
            slots = int(capacity.gpus * sharing)
            if slots == 0:
                raise InputError(
                    f"resources.gpus: {capacity.gpus:g} is less than one trial takes "
                    f"(1 / fine_tune.trials_per_gpu = {1 / sharing:g}); raise either"
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

    def known_to_bank(self, records: Sequence[TrialRecord]) -> Mapping[str, Any]:
        """Nothing: lagging trials are stopped by Tune's scheduler."""
        return {}

    def announcement(self, plan: SearchPlan, capacity: Capacity) -> list[str]:
        parameters = self._trained_parameters
        kept = min(self.settings.keep + 1, plan.configurations)  # and the published one's
        # A running trial writes each file anew before it drops the old one.
        resume_point = checkpoint_bytes(parameters, ema=True)
        running = (KEPT_RESUME_POINTS + 1) * resume_point + 2 * 4 * parameters
        tower = sum(one.numel() for one in self.inputs.encoder.backbone.parameters())
        disk = (plan.concurrent * running + kept * 4 * parameters + 4 * tower) / 1e9
        size, data = self.inputs.encoder.geometry.size, self._data
        return [
            f"{plan.configurations} configurations, {plan.concurrent} at a time on {capacity.cpus} cpus and "
            f"{capacity.gpus:g} gpus; early stopping: {self.settings.early_stopping}",
            f"{len(data.training_N())} training and {len(data.judged_N())} validation images of {size} px; "
            f"at most {parameters / 1e6:.2f} M trained parameters",
            f"checkpoints take at most {disk:.2f} GB: resume points of {resume_point / 1e9:.2f} GB, "
            f"{KEPT_RESUME_POINTS + 1} a running trial, the weights of the best {kept}, "
            "and the final model's",
        ]

    def trainable(self, plan: SearchPlan, capacity: Capacity) -> tuple[Any, Any]:
        from ray import tune

        from study.early_stopping import early_stopping
        from trainables.ray_trainables import FineTune, FineTuneTask

        settings = self.settings
        gpus = 1 / settings.trials_per_gpu if capacity.gpus else 0
        threads = capacity.threads(plan.concurrent, settings.trials_per_gpu)
        task = FineTuneTask(
            encoder=self.inputs.encoder,
            data=self._data,
            cache=self.config.cache,
            images_key=self._images_key,
            head=self._head,
            seed=self.config.search.seed,
            training=settings.training,
            objective_name=self.config.search.objective,
            compute=Compute(
                device="cuda" if gpus else "cpu",
                precision=settings.precision,
                micro_batch=settings.micro_batch,
                compile_tower=settings.compile,
            ),
            checkpoints=self.checkpoints,
            threads=threads,
            gpu_share=gpus,
        )
        stopping = early_stopping(settings.early_stopping, settings.grace_epochs, self.run.records().values())
        trainable = tune.with_parameters(FineTune, task=task)
        return tune.with_resources(trainable, {"cpu": threads, "gpu": gpus}), stopping

    def tidy(self, records: Iterable[TrialRecord]) -> None:
        """Delete resume points of finished trials, and the weights of those that are not kept."""
        records = list(records)
        kept = self._kept(records)
        for record in records:
            folder = CheckpointFolder(self.checkpoints, record.number)
            if record.number in kept:
                folder.drop_resume_points()
            else:
                folder.drop()

    def _kept(self, records: Sequence[TrialRecord]) -> set[int]:
        """Numbers of the trials whose weights stay: the best, and the published one."""
        kept = {record.number for record in ranking(records)[: self.settings.keep]}
        return kept | {record.number for record in records if record.preset}

    def close(self, records: Iterable[TrialRecord], deadline: float) -> list[str]:
        """Try what the kept trials give together."""
        records = list(records)
        self.tidy(records)
        self._answer_folder.drop()
        weights, kept = {record.number for record in records if record.head}, self._kept(records)
        lines = [f"weights kept of {', '.join(f'#{n}' for n in sorted(kept & weights))}"]
        ranked = ranking(records)[: self.settings.keep]
        if not ranked:
            return []
        encoder, search = self.inputs.encoder, self.config.search
        if torch.cuda.is_available() and self.config.resources.gpus != 0:
            encoder.to("cuda")  # the trials are done with it
        judge = TowerJudge(
            encoder=encoder,
            images=self._data,
            given=self.inputs.given,
            objective_name=search.objective,
            batch_size=search.batch_size,
            seed=search.seed,
            deadline=deadline,
        )
        found, said = search_answer(ranked, self.encoder, judge)
        if found:
            self._answer_folder.push(found.save(self._answer_folder.path))
        return lines + said

    @property
    def _answer_folder(self) -> MirroredFolder:
        return self.run.tuned_answer(self.config.shared_folder)

    def answer(self) -> Candidate | None:
        """What the kept trials give together, where it is better on validation than the best of them."""
        self._answer_folder.pull()
        if not (self._answer_folder.path / FILE).exists():
            return None
        inputs = self.inputs
        try:
            found = TunedAnswer.load(self._answer_folder.path)
        except CorruptCheckpoint as error:
            raise InputError(
                f"{self.run.path}: the weights of its final model are damaged ({error}); `radtune run "
                "STUDY.yaml --resume` makes them again"
            ) from None
        encoder = with_weights(inputs.encoder, found.state)
        predictor = found.record.predictor(
            ANSWER_NAME,
            inputs.cohort.labels,
            encoder,
            note=found.note,
            study=self.config.name,
            trainable=self.config.trainable,
        )
        own = scores_on_validation(predictor, inputs, self.config.cache)
        return Candidate(id=ANSWER, role=ANSWER, predictor=predictor, out_of_fold=own)

    def analysed(self, top: int) -> int:
        return min(top, self.settings.keep)  # of the others no weights are left

    def encoder(self, record: TrialRecord) -> Encoder:
        """The study's with the trial's own tuned tower."""
        try:
            folder = CheckpointFolder(self.checkpoints, record.number)
            folder.pull()
            tuned, head = load_best(folder.best, self.inputs.encoder)
        except CorruptCheckpoint as error:
            raise InputError(
                f"{self.run.path}: the weights of trial {record.number} are not there or damaged ({error}); "
                "only those of the best are kept, see fine_tune.keep"
            ) from None
        if any(not np.array_equal(array, record.arrays[name]) for name, array in head.tensors().items()):
            raise InputError(
                f"{self.run.path}: the weights of trial {record.number} are of another epoch than its "
                "record; run the study again under another name"
            )
        return tuned
