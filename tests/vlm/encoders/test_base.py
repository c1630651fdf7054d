"""What every encoder does, tried on a miniature of BiomedCLIP."""

import pickle

import numpy as np
import pytest
import torch

from tests.vlm.encoders.models import random_images


def test_gray_images_are_repeated_into_three_channels(miniature):
    gray_BHW1 = random_images(miniature)
    torch.testing.assert_close(
        miniature.image_features(gray_BHW1), miniature.image_features(np.repeat(gray_BHW1, 3, axis=3))
    )


def test_images_of_another_size_or_type_are_refused(miniature):
    with pytest.raises(
        ValueError, match=r"must be uint8 \(images, 160, 160, 1 or 3\), not .* \(1, 128, 128, 1\)"
    ):
        miniature.image_features(np.zeros((1, 128, 128, 1), np.uint8))
    with pytest.raises(ValueError, match="float32"):
        miniature.image_features(np.zeros((1, 160, 160, 1), np.float32))


def test_an_encoder_survives_a_trip_to_another_process(miniature):
    images_BHWC = random_images(miniature)
    again = pickle.loads(pickle.dumps(miniature))
    torch.testing.assert_close(again.image_features(images_BHWC), miniature.image_features(images_BHWC))
