"""How a fine-tuning trial is judged on validation.

Shape legend: N images of validation, C labels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from scoring.judging import judge, objective
from search_spaces.configuration import Configuration
from trainables.fine_tune_model import FineTuneModel
from trainables.fine_tune_optimizer import averaged
from trainables.fine_tune_state import Best, TrainingState
from trainables.image_batches import Batches
from trainables.losses import plain_loss
from trainables.records import judged_fields
from trainables.trial_data import FineTuneData

# Without gradients a batch this many times larger takes no more memory than a training step.
_VALIDATION_BATCHES = 4


class Validation:
    """The validation images and what is held against them."""

    def __init__(self, config: Configuration, data: FineTuneData, objective_name: str, best_by: str) -> None:
        """`best_by`: what the best epoch is the best of, see `trainables.fine_tune_config.Training`."""
        self._config, self._objective_name, self._best_by = config, objective_name, best_by
        self._images_NHWC, self._rows_N = data.images_NHWC, data.rows_N[data.judged_N()]
        self._judged = data.judged()

    def logits(self, model: FineTuneModel, state: TrainingState) -> np.ndarray:
        """float32 (N, C), of the running means where there are any; OutOfMemory."""
        model.tower.eval()
        rows_N = self._rows_N
        batch = min(state.micro_batch * _VALIDATION_BATCHES, len(rows_N))
        while True:
            batches = Batches(
                self._images_NHWC, np.split(rows_N, range(batch, len(rows_N), batch)), model.device
            )
            try:
                with averaged(state), torch.no_grad():
                    return torch.cat([model.logits(images_BHWC) for images_BHWC in batches]).cpu().numpy()
            except torch.OutOfMemoryError:
                pass
            batch = model.half(batch)

    def judge(self, logits_NC: np.ndarray, state: TrainingState) -> dict[str, float]:
        """val_loss and objective of the epoch being trained; its weights are kept if they are the best."""
        targets_NC = torch.from_numpy(self._judged.targets_NC)
        logits_1NC = torch.from_numpy(logits_NC)[None]
        val_loss = plain_loss([self._config["loss"]], logits_1NC, targets_NC).item()
        shrinkage_K = [self._config["threshold_shrinkage"]]
        value = float(objective(self._objective_name, logits_NC[None], self._judged, shrinkage_K)[0])
        score = value if self._best_by == "objective" else -val_loss
        state.epochs_waited += 1
        if score > state.best.score:
            state.epochs_waited = 0
            kept = state.averages or state.parameters
            weights = {name: tensor.detach().to("cpu", copy=True) for name, tensor in kept.items()}
            state.best = Best(state.epoch + 1, score, weights, logits_NC)
        return {"val_loss": val_loss, "objective": value}

    def record_fields(self, state: TrainingState) -> dict[str, Any]:
        """The fields of the record that the judgement of the best epoch fills."""
        point = state.curve[state.best.epoch - 1]
        shrinkage_K = [self._config["threshold_shrinkage"]]
        (judged,) = judge(state.best.logits_NC[None], self._judged, shrinkage_K)
        fields = judged_fields(judged)
        fields["metrics"] = fields["metrics"] | {"val.loss": point["val_loss"]}
        return fields | {"objective": point["objective"], "epoch": state.best.epoch}
