import numpy as np
import torch

from trainables.image_batches import Batches


def test_batches_are_the_rows_asked_for_in_their_order(data):
    rows = [np.array([3, 1]), np.array([0]), np.array([39, 39, 2])]
    batches = Batches(data.images_NHWC, rows, torch.device("cpu"))
    for rows_B, images_BHWC in zip(rows, batches, strict=True):
        assert np.array_equal(images_BHWC.numpy(), data.images_NHWC[rows_B])
    assert batches.wait_seconds > 0
