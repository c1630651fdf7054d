"""Records of configurations to begin a test with."""

from dataclasses import replace

import numpy as np

from trainables.records import TrialRecord
from vlm.linear_head import LinearHead

LABELS = ("heart", "effusion", "hernia")
THRESHOLDS = {
    "fixed": [0.5, 0.5, 0.5],
    "global": [0.3, 0.3, 0.3],
    "per_label": [0.2, 0.4, 0.3],
    "shrunk": [0.25, 1 / 3, 0.3],
}


def draw_head(width: int = 1024, labels: int = 3, seed: int = 0) -> LinearHead:
    rng = np.random.default_rng(seed)
    return LinearHead(
        weight_DC=rng.normal(size=(width, labels)).astype(np.float32),
        bias_C=rng.normal(size=labels).astype(np.float32),
        mean_D=rng.normal(size=width).astype(np.float32),
        scale_D=rng.uniform(0.1, 3, width).astype(np.float32),
        l2=bool(seed % 2),
    )


def complete(number: int = 3, **changes) -> TrialRecord:
    record = TrialRecord(
        number=number,
        params={"learning_rate": 0.1 + 0.2, "epochs": 20, "loss": "bce"},
        state="COMPLETE",
        reason="no better loss in 5 evaluations up to epoch 15",
        warnings=["a line"],
        objective=1 / 3,
        metrics={"val.macro_ap": 1 / 3, "val.loss": 1e-300},
        curve=[{"epoch": 5, "train_loss": 0.7, "val_loss": 0.6, "objective": 1 / 3}],
        epoch=5,
        seconds=0.125,
        precision="bf16",
        strategy="per_label",
        thresholds=THRESHOLDS,
        few=[False, False, True],
        arrays=draw_head(seed=abs(number)).tensors(),
    )
    return replace(record, **changes)


def failed(number: int = 4) -> TrialRecord:
    return TrialRecord(number=number, params={"epochs": 3}, state="FAIL", reason="diverged in epoch 2")
