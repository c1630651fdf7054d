"""A small problem for fine-tuning, and towers for it."""

import numpy as np
import pytest

from tests.trainables.single_split import single_split
from tests.trainables.towers import KINDS, build_tower
from trainables.trial_data import FineTuneData
from vlm.encoders import load_encoder

LABELS = ("Edema", "Effusion", "No Finding")


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
        rows_N = np.concatenate([np.arange(24)[::-1], np.arange(24, 40)])  # not in the store's order
        split = single_split(
            targets_NC[rows_N[:24]],
            targets_NC[24:],
            val_patients_N=np.arange(16) // 2,
            val_folds_N=np.arange(16) // 2 % 4,
            labels=LABELS,
        )
        return FineTuneData(images_file=file, **split | {"rows_N": rows_N})

    return make


@pytest.fixture(scope="module")
def data(make_data):
    return make_data()


@pytest.fixture(scope="session")
def encoder_names(tmp_path_factory):
    root = tmp_path_factory.mktemp("towers")
    return {kind: build_tower(kind, root / kind) for kind in KINDS}


@pytest.fixture(scope="session")
def encoders(encoder_names):
    return {kind: load_encoder(name, device="cpu") for kind, name in encoder_names.items()}


@pytest.fixture(scope="session")
def vit(encoders):
    return encoders["vit"]
