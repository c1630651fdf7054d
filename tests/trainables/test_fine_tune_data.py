import dataclasses
import pickle

import numpy as np
import pytest
import torch

from cohort.errors import InputError
from trainables.fine_tune_data import Batches


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_rows_N": np.arange(1, 41)[:24]}, "share no row, not 24"),
        ({"train_rows_N": np.arange(24) + 30}, r"train_rows_N must lie in 0..39, not 30..53"),
        ({"train_rows_N": np.arange(23)}, r"train_targets_NC must be float32 \(23, 3\)"),
        ({"val_rows_N": np.arange(16.0)}, "val_rows_N must be int64"),
        ({"val_targets_NC": np.full((16, 3), 2, np.float32)}, "val_targets_NC must be 0, 1 or NaN, not 2"),
        (
            {"val_targets_NC": np.zeros((16, 3), np.float32)},
            "positives and negatives on validation, not Edema",
        ),
        ({"val_folds_N": np.arange(3)}, r"val_folds_N must have shape \(16,\), not \(3,\)"),
        ({"objective_labels_C": np.ones(3)}, r"objective_labels_C must be bool \(3,\)"),
    ],
)
def test_data_that_do_not_fit_are_refused(data, changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(data, **changes)


def test_no_label_to_optimise_is_the_users_to_mend(data):
    with pytest.raises(InputError, match=r"^no label has enough positive patients"):
        dataclasses.replace(data, objective_labels_C=np.zeros(3, bool))


def test_data_travel_without_their_pixels(data):
    travelled = pickle.dumps(data)
    assert len(travelled) < 5_000
    again = pickle.loads(travelled)
    assert isinstance(again.images_NHWC, np.memmap)
    assert np.array_equal(again.images_NHWC, data.images_NHWC)


def test_batches_are_the_rows_asked_for_in_their_order(data):
    rows = [np.array([3, 1]), np.array([0]), np.array([39, 39, 2])]
    batches = Batches(data.images_NHWC, rows, torch.device("cpu"))
    for rows_B, images_BHWC in zip(rows, batches, strict=True):
        assert np.array_equal(images_BHWC.numpy(), data.images_NHWC[rows_B])
    assert batches.waited > 0
