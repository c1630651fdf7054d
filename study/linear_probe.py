"""The study of linear probes: how a study of them is cut into banks, pruned, and looked at again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cohort.errors import InputError
from cohort.files import write_atomically
from search_spaces import linear_probe as space
from study.answer import answer_row, chosen_by_split, weighed
from study.cluster import Capacity
from study.config import StudyConfig
from study.inputs import Inputs, searched
from study.repeats import Repeats, repeat_finalists
from study.run_folder import RunFolder
from study.search_plan import SearchPlan
from trainables.bank_files import pack_bank
from trainables.bank_training import RUNGS
from trainables.baselines.logistic import regressed_kinds
from trainables.candidates import Candidate
from trainables.ensemble import pack_ensemble
from trainables.fold_features import decomposed, fold_features
from trainables.racing import Earlier
from trainables.ranking import ranking
from trainables.records import TrialRecord
from vlm.encoders import Encoder
from vlm.feature_kinds import base_kind

LARGEST_BANK = 32
"""Beyond this many heads the stacked product gains nothing and the search learns less often."""
BANKS_AT_LEAST = 8
"""A study is cut into at least this many banks, so that the sampler learns between them."""
ROUNDS_AT_LEAST = 4
"""Banks train side by side only as long as the sampler still learns between this many rounds of them."""
LAGGING_QUANTILE = 1 / 3
"""A head below this quantile of all earlier heads at the same rung stops there."""
RUNG_OBSERVATIONS = 16
"""Earlier heads a rung must have seen before it prunes anybody."""


def bank_resources(plan: SearchPlan, capacity: Capacity) -> tuple[int, float]:
    """Cpus and GPUs of one bank. More than one GPU would be of no use to it, and above one Ray gives whole
    ones only."""
    return capacity.threads(plan.concurrent), min(1.0, capacity.gpus / plan.concurrent)


def lagging(records: Sequence[TrialRecord]) -> Earlier:
    """What stops the heads of a bank: rung -> objective below which a head lags behind the earlier ones, and
    their objectives by fold."""
    at_rung: dict[int, list[float]] = {}
    for record in records:
        for point in record.curve if not record.preset else ():
            if point["epoch"] in RUNGS and math.isfinite(point["objective"]):
                at_rung.setdefault(int(point["epoch"]), []).append(point["objective"])
    prune_below = {
        epoch: float(np.quantile(values, LAGGING_QUANTILE))
        for epoch, values in sorted(at_rung.items())
        if len(values) >= RUNG_OBSERVATIONS
    }
    by_fold = [record.fold_objectives for record in records if record.fold_objectives]
    return Earlier(prune_below=prune_below, fold_objectives=by_fold)


class LinearProbeStudy:
    """Linear probes; see `study.trainable_study`."""

    space = space

    def __init__(self, config: StudyConfig, inputs: Inputs, run: RunFolder) -> None:
        self.config, self.inputs, self.run = config, inputs, run

    def prepare(self, echo: Callable[[str], None]) -> None:
        """Decompose wide features, once for all banks and regressions.

        Before anything runs beside it: a product that shares the cores with others may be summed in another
        order, and the same seed shall give the same study.
        """
        data = self.inputs.data
        kinds = dict.fromkeys([*self._searched_kinds, *regressed_kinds(data.kinds).values()])
        wide = [kind for kind in kinds if decomposed(data.kinds[kind])]
        if wide:
            echo(f"{self.config.name}: preparing {' and '.join(wide)} features for {data.folds} folds")
        for kind in wide:
            for fold in range(data.folds):
                fold_features(data, fold, kind, "standardize")

    @property
    def _searched_kinds(self) -> list[str]:
        fixed, ranges = searched(self.config, self.inputs.encoder)
        return [fixed["features"]] if "features" in fixed else ranges["features"]

    def shared_folders(self) -> Mapping[str, Path]:
        """None: features travel through Ray, and so do the trained heads."""
        return {}

    def presets(self) -> Mapping[str, Mapping[str, Any]]:
        """The published configuration, on pooled features where there is no projection."""
        seen = {"features": base_kind(self.inputs.encoder.kinds).name}
        presets = {}
        for name, preset in space.PRESETS.items():
            existing = space.SPACE.names_under(preset | seen)
            presets[name] = {key: value for key, value in (preset | seen).items() if key in existing}
        return presets

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

    def known_to_bank(self, records: Sequence[TrialRecord]) -> Mapping[str, Any]:
        return {"earlier": lagging(records)}

    def announcement(self, plan: SearchPlan, capacity: Capacity) -> list[str]:
        data = self.inputs.data
        how = (
            f"{len(data.training_N())} training and {len(data.judged_N())} validation images"
            if self._by_split
            else f"{len(data.judged_N())} training and validation images in {data.folds} folds of patients"
        )
        widths = [f"{data.kinds[kind].width} {kind}" for kind in self._searched_kinds]
        return [
            f"{plan.configurations} configurations, {plan.bank_size} a bank, {plan.concurrent} banks at a "
            f"time on {capacity.cpus} cpus and {capacity.gpus:g} gpus",
            f"{how}, {' or '.join(widths)} features",
        ]

    def trainable(self, plan: SearchPlan, capacity: Capacity) -> tuple[Any, None]:
        """No scheduler: a bank prunes itself at its rungs."""
        from ray import tune

        from trainables.ray_trainables import LinearProbeBank, ProbeTask

        threads, gpus = bank_resources(plan, capacity)
        task = ProbeTask(
            data=self.inputs.data,
            given=self.inputs.given.of_first_view(),  # as it was published
            seed=self.config.search.seed,
            batch_size=self.config.search.batch_size,
            objective_name=self.config.search.objective,
            threads=threads,
            device="cuda" if gpus else "cpu",
        )
        trainable = tune.with_parameters(LinearProbeBank, task=task)
        return tune.with_resources(trainable, {"cpu": threads, "gpu": gpus}), None

    def tidy(self, records: Iterable[TrialRecord]) -> None:
        """Nothing to delete: a head is a few kilobytes in its bank file."""

    def close(self, records: Iterable[TrialRecord], deadline: float) -> list[str]:
        """Weigh the best against each other; by the given split alone, train the finalists again instead."""
        return self._train_again(records, deadline) if self._by_split else self._weigh(records, deadline)

    @property
    def _by_split(self) -> bool:
        return self.config.search.selection == "split"

    def _weigh(self, records: Iterable[TrialRecord], deadline: float) -> list[str]:
        run, config = self.run, self.config
        # A published configuration is judged on other images, and so cannot be weighed against the rest.
        ranked = [record for record in ranking(records) if record.fold_objectives]
        kept = run.baseline_records()
        for stale in (run.answer_file, run.split_choice_file):
            stale.unlink(missing_ok=True)
        if not ranked and not kept:
            return []
        ensemble = weighed(ranked, kept, self.inputs, config)
        write_atomically(run.answer_file, pack_ensemble(ensemble))
        lines = ensemble.lines(config.search.objective)
        choice = chosen_by_split(ranked, self.inputs, config, deadline)
        if choice:
            write_atomically(run.split_choice_file, pack_bank([choice]))
        return lines

    def _train_again(self, records: Iterable[TrialRecord], deadline: float) -> list[str]:
        """Train the finalists again over seeds and splits."""
        search, lines = self.config.search, []
        try:
            repeats = repeat_finalists(
                ranking(records)[: self.config.analysis.top],
                self.inputs.data,
                seed=search.seed,
                batch_size=search.batch_size,
                objective=search.objective,
                deadline=deadline,
            )
        except TimeoutError:
            repeats = Repeats(search.objective, [])
            lines = ["finalists were not trained again: no time was left; --resume trains them"]
        write_atomically(self.run.repeats_file, repeats.to_json().encode())
        return lines or repeats.lines()

    def answer(self) -> Candidate | None:
        """The ensemble; InputError where the study has not come to its end."""
        if self._by_split:
            return None
        ensemble = self.run.answer()
        if ensemble is None:
            raise InputError(
                f"{self.run.path}: the study has no final model yet; `radtune run STUDY.yaml --resume` "
                "finishes it"
            )
        return answer_row(ensemble, self.inputs, self.config)

    def analysed(self, top: int) -> int:
        return top

    def encoder(self, record: TrialRecord) -> Encoder:
        """The study's own, frozen."""
        return self.inputs.encoder
