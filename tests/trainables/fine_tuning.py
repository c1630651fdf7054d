"""Configurations and trials of fine-tuning to begin a test with."""

from pathlib import Path

import numpy as np
import torch

from search_spaces.configuration import Configuration
from search_spaces.fine_tune import PAPER, SPACE
from trainables.fine_tune import FineTuneTrial
from trainables.fine_tune_compute import Compute
from trainables.fine_tune_config import Training
from trainables.fine_tune_state import load_best
from vlm.encoders import Encoder
from vlm.linear_head import LinearHead

PARAMS = PAPER | {"tower_learning_rate": 1e-3, "head_learning_rate": 1e-2, "epochs": 4}
LORA = {
    "method": "lora",
    "adapter_learning_rate": 5e-3,
    "lora_rank": 2,
    "lora_alpha": 4.0,
    "lora_dropout": 0.2,
    "lora_targets": "attention+mlp",
}
BUSY = {"ema_decay": 0.9, "augmentation": 1.0, "loss": "focal", "focal_gamma": 2.0, "pos_weight_power": 0.5}


def params(**changes) -> dict:
    merged = PARAMS | changes
    if merged["method"] in ("lora", "bitfit"):
        merged = {k: v for k, v in merged.items() if k not in ("tower_learning_rate", "layer_decay")}
    return merged


def trial(encoder, data, *, training=None, head=None, seed=0, **changes) -> FineTuneTrial:
    """Trial 7; what is neither a parameter of the space nor named here is of `Compute`."""
    names = ("device", "micro_batch", "precision", "compile_tower")
    compute = {name: changes.pop(name) for name in names if name in changes}
    return FineTuneTrial(
        Configuration(SPACE, 7, params(**changes), seed),
        encoder,
        data,
        training=training or Training(batch_size=8, patience=None),
        head=head,
        compute=Compute(**{"precision": "fp32"} | compute),
    )


def weights(some_trial: FineTuneTrial) -> dict[str, torch.Tensor]:
    """What a checkpoint would hold now, as copies."""
    return {name: tensor.clone() for name, tensor in some_trial.state.tensors().items()}


def best(some_trial: FineTuneTrial, encoder: Encoder, folder: Path) -> tuple[Encoder, LinearHead]:
    """The tuned encoder and the head of the best epoch, by way of `folder`."""
    some_trial.save_best(folder)
    return load_best(folder, encoder)


def random_head(width: int, *, l2: bool = False) -> LinearHead:
    rng = np.random.default_rng(5)
    return LinearHead(
        weight_DC=rng.normal(size=(width, 3)).astype(np.float32),
        bias_C=rng.normal(size=3).astype(np.float32),
        mean_D=rng.normal(size=width).astype(np.float32),
        scale_D=rng.uniform(0.5, 2, width).astype(np.float32),
        l2=l2,
    )
