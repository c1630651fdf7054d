"""Views of an image: what they show, and what an encoder's row holds of them."""

import numpy as np
import pytest
import torch

from cohort.errors import InputError
from tests.vlm.encoders.models import random_images, small_clip
from vlm.encoders import load_encoder
from vlm.image_views import MOVED, ImageViews


def marked(size=50, row=20, column=10):
    images_BHWC = torch.zeros(1, size, size, 1, dtype=torch.uint8)
    images_BHWC[0, row, column] = 200
    return images_BHWC


def test_the_image_comes_first_and_each_view_once():
    views = list(ImageViews(flip=True, shifts=2, resolution=80).of(marked()))
    assert len(views) == ImageViews(flip=True, shifts=2, resolution=80).count == 5
    assert torch.equal(views[0], marked())
    assert torch.equal(views[1], marked(column=39))
    assert views[4].shape == (1, 80, 80, 1) and all(view.dtype == torch.uint8 for view in views)


def test_a_shift_moves_a_mark_a_little_the_same_way_for_all_images_and_each_time():
    first, second = (list(ImageViews(shifts=3).of(marked().repeat(2, 1, 1, 1)))[1:] for _ in range(2))
    places = set()
    for one, again in zip(first, second, strict=True):
        assert torch.equal(one, again) and torch.equal(one[0], one[1])
        row, column = np.unravel_index(one[0, :, :, 0].numpy().argmax(), (50, 50))
        assert abs(row - 20) <= 50 * MOVED + 2 and abs(column - 10) <= 50 * MOVED + 2
        places.add((row, column))
    assert len(places) == 3


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    folder = small_clip(tmp_path_factory.mktemp("clip") / "clip", vision={"layers": [1, 1, 1, 1], "width": 8})
    return load_encoder(f"local-dir:{folder}", features=("deep",), device="cpu")


def test_a_row_holds_one_view_after_the_other(resnet):
    seen = resnet.seen_in(ImageViews(flip=True))
    assert seen.width == 2 * resnet.width and seen.kinds == resnet.kinds
    assert seen.fingerprint != resnet.fingerprint
    images_BHWC = torch.from_numpy(random_images(resnet, channels=3))
    features_BD = seen.image_features(images_BHWC)
    torch.testing.assert_close(features_BD[:, : resnet.width], resnet.image_features(images_BHWC))
    torch.testing.assert_close(features_BD[:, resnet.width :], resnet.image_features(images_BHWC.flip(2)))
    assert resnet.seen_in(ImageViews()) is resnet


def test_a_tower_of_one_size_refuses_another_in_one_line(tmp_path):
    encoder = load_encoder(f"local-dir:{small_clip(tmp_path / 'clip')}", device="cpu")
    with pytest.raises(InputError, match=r"image_views\.resolution: encoder .* takes 32 x 32 pixels only"):
        encoder.seen_in(ImageViews(resolution=48))
    pixels = load_encoder("pixels", device="cpu")
    assert pixels.seen_in(ImageViews(flip=True)).width == 2048
