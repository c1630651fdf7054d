"""The Ray Tune Trainable of a linear-probe study: one Tune trial trains one bank of configurations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from ray import tune

from trainables.linear_probe import PAPER_TRAINING, HeadConfig, ProbeData, train_bank
from trainables.records import TrialRecord, pack_bank


def train_configurations(
    configurations: Sequence[Mapping[str, Any]],
    data: ProbeData,
    *,
    seed: int,
    batch_size: int,
    objective: str,
    rung_floor: Mapping[int, float] | None = None,
    device: str = "cpu",
) -> list[TrialRecord]:
    """Train one bank and describe each configuration as the study keeps it.

    Args:
        configurations: `number` and `params` of each; number 0 is the paper's, trained as the paper does, and
            stands alone, since its batch size is its own.
        seed: of the initial weights and of the minibatch order.
        rung_floor: rung -> objective below which a head is pruned.
    """
    heads = [HeadConfig.from_params(one["number"], one["params"], seed) for one in configurations]
    if heads[0].number == 0:
        training = PAPER_TRAINING
    else:
        training = {"batch_size": batch_size, "rung_floor": rung_floor}
    results = train_bank(heads, data, seed=seed, objective=objective, device=device, **training)
    return [
        TrialRecord(
            number=result.number,
            params=dict(one["params"]),
            state=result.state,
            reason=result.reason,
            objective=result.objective,
            metrics=result.metrics,
            curve=result.curve,
            epoch=result.epoch,
            seconds=result.seconds,
            strategy=result.strategy,
            thresholds={name: values_C.tolist() for name, values_C in result.thresholds.items()},
            fell_back=result.fell_back_C.tolist(),
            head=result.head,
        )
        for one, result in zip(configurations, results, strict=True)
    ]


class LinearProbeBank(tune.Trainable):
    """Trains its bank in one step and reports the bank file's bytes.

    The actor is reused for bank after bank, so that Python, torch and the features are loaded once. It holds
    training and validation features and labels and nothing of the test split.
    """

    def setup(
        self,
        config: dict[str, Any],
        data: ProbeData,
        seed: int,
        batch_size: int,
        objective: str,
        threads: int,
        device: str,
    ) -> None:
        torch.set_num_threads(threads)
        self._data, self._seed, self._device = data, seed, device
        self._batch_size, self._objective = batch_size, objective

    def step(self) -> dict[str, Any]:
        records = train_configurations(
            self.config["configurations"],
            self._data,
            rung_floor=self.config["rung_floor"],
            seed=self._seed,
            batch_size=self._batch_size,
            objective=self._objective,
            device=self._device,
        )
        done = [record.objective for record in records if record.state == "COMPLETE"]
        return {
            "bank": self.config["bank"],
            "objective": max(done, default=0.0),
            "bank_file": pack_bank(records),
            tune.result.DONE: True,
        }

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.config = new_config
        return True


class ForgetBankFiles(tune.Callback):
    """Drops a bank file's bytes from Tune's own memory of the trial, where nobody reads them again."""

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        trial.last_result.pop("bank_file", None)
