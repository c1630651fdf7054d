"""The adapter of linear probes: how a study of them is cut into banks, pruned, and looked at again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from cohort.files import write_atomically
from search_spaces import linear_probe as space
from study.cluster import Capacity
from study.config import StudyConfig
from study.inputs import Inputs
from study.repeats import Repeats, repeat_finalists
from study.run_folder import RunFolder
from study.search import SearchPlan
from trainables.linear_probe import RUNGS
from trainables.records import TrialRecord, ranking
from vlm.encoders import Encoder

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


class Adapter:
    """Linear probes; see `study.adapter`."""

    space = space

    def __init__(self, config: StudyConfig, inputs: Inputs, run: RunFolder) -> None:
        self.config, self.inputs, self.run = config, inputs, run

    def prepare(self, echo: Callable[[str], None]) -> None:
        """Nothing beside the features, which the inputs hold."""

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

    def told(self, records: Sequence[TrialRecord]) -> Mapping[str, Any]:
        """Rung -> objective below which a head lags behind the earlier ones."""
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
        return {"prune_below": prune_below}

    def announcement(self, plan: SearchPlan, capacity: Capacity) -> list[str]:
        data = self.inputs.data
        return [
            f"{plan.configurations} configurations, {plan.bank_size} a bank, {plan.concurrent} banks at a "
            f"time on {capacity.cpus} cpus and {capacity.gpus:g} gpus",
            f"{len(data.training_N())} training and {len(data.judged_N())} validation images, "
            f"{data.features_ND.shape[1]} features",
        ]

    def trainable(self, plan: SearchPlan, capacity: Capacity) -> tuple[Any, None]:
        """No scheduler: a bank prunes itself at its rungs."""
        from ray import tune

        from trainables.ray_trainables import LinearProbeBank, ProbeTask

        threads, gpus = bank_resources(plan, capacity)
        task = ProbeTask(
            data=self.inputs.data,
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

    def analysed(self, top: int) -> int:
        return top

    def encoder(self, record: TrialRecord) -> Encoder:
        """The study's own, frozen."""
        return self.inputs.encoder
