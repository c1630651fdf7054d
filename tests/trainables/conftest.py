"""A small problem for fine-tuning, and a configuration to begin with."""

import numpy as np
import pytest

from search_spaces.fine_tune import PAPER
from trainables.fine_tune_data import FineTuneData

LABELS = ("Edema", "Effusion", "No Finding")
PARAMS = PAPER | {"tower_learning_rate": 1e-3, "head_learning_rate": 1e-2, "epochs": 4}
LORA = {
    "method": "lora",
    "adapter_learning_rate": 5e-3,
    "lora_rank": 2,
    "lora_alpha": 4.0,
    "lora_dropout": 0.2,
    "lora_targets": "attention+mlp",
}
BUSY = {"ema_decay": 0.9, "augmentation": 1.0, "loss": "focal", "focal_gamma": 2.0, "positive_weight": 0.5}


def params(**changes) -> dict:
    merged = PARAMS | changes
    if merged["method"] in ("lora", "bitfit"):
        merged = {k: v for k, v in merged.items() if k not in ("tower_learning_rate", "layer_decay")}
    return merged


@pytest.fixture(scope="module")
def make_data(tmp_path_factory):
    """24 training and 16 validation images in which a bright square's corner is the label."""

    def make(size: int = 32, channels: int = 1) -> FineTuneData:
        rng = np.random.default_rng(0)
        targets_NC = np.zeros((40, 3), np.float32)
        targets_NC[:, :2] = rng.random((40, 2)) < 0.4
        targets_NC[:, 2] = targets_NC[:, :2].sum(1) == 0
        images_NHWC = rng.integers(0, 100, (40, size, size, channels), dtype=np.uint8)
        third = size // 3
        images_NHWC[targets_NC[:, 0] == 1, :third, :third] += 120
        images_NHWC[targets_NC[:, 1] == 1, -third:, -third:] += 120
        targets_NC[3, 1] = np.nan
        file = tmp_path_factory.mktemp("store") / "images.npy"
        np.save(file, images_NHWC)
        return FineTuneData(
            images_file=file,
            train_rows_N=np.arange(24)[::-1].copy(),
            val_rows_N=np.arange(24, 40),
            train_targets_NC=targets_NC[:24][::-1].copy(),
            val_targets_NC=targets_NC[24:],
            val_patients_N=np.arange(16) // 2,
            val_folds_N=np.arange(16) // 2 % 4,
            labels=LABELS,
            objective_labels_C=np.array([True, True, True]),
        )

    return make


@pytest.fixture(scope="module")
def data(make_data):
    return make_data()
