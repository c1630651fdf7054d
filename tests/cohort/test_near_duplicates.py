"""Which images show the same: what is exported anew does, what only has the same layout does not."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from cohort.near_duplicates import ALIKE, SIDE, near_duplicates, thumbnail


def radiograph(seed, side=256):
    """uint8 (side, side): smooth noise of several scales."""
    rng = np.random.default_rng(seed)
    image = np.zeros((side, side))
    for cells, strength in ((4, 60), (16, 30), (64, 10)):
        coarse = Image.fromarray(rng.normal(size=(cells, cells)).astype(np.float32))
        image += strength * np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC))
    return np.clip(image + 128, 0, 255).astype(np.uint8)


def retina(seed, side=256):
    """A bright disc on black with vessels of its own."""
    rng = np.random.default_rng(seed)
    image = Image.new("L", (side, side))
    draw = ImageDraw.Draw(image)
    draw.ellipse((8, 8, side - 8, side - 8), fill=150)
    for _ in range(12):
        angle = rng.uniform(0, 2 * np.pi, 2)
        ends = 128 + 100 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        draw.line([tuple(end) for end in ends], fill=110, width=3)
    return np.asarray(image)


def pairs_of(*images):
    thumbnails_NHW = np.stack([thumbnail(np.asarray(image)) for image in images])
    return near_duplicates(thumbnails_NHW, range(len(images)))


def as_jpeg(pixels, quality):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


EXPORTS = {
    "JPEG": lambda x: as_jpeg(x, 40),
    "half the size": lambda x: np.asarray(Image.fromarray(x).resize((128, 128), Image.Resampling.BICUBIC)),
    "brighter": lambda x: np.clip(x * 1.1 + 10.0, 0, 255).astype(np.uint8),
    "gamma": lambda x: (255 * (x / 255) ** 1.3).astype(np.uint8),
    "in colour": lambda x: np.repeat(x[:, :, None], 3, axis=2),
    "16 bits": lambda x: x.astype(np.uint16) * 16,
    "noise": lambda x: np.clip(x + np.random.default_rng(9).normal(0, 4, x.shape), 0, 255).astype(np.uint8),
}


@pytest.mark.parametrize("how", EXPORTS)
def test_an_export_of_an_image_is_found_among_others(how):
    others = [radiograph(seed) for seed in range(1, 12)]
    ((first, second, correlation),) = pairs_of(radiograph(0), *others, EXPORTS[how](radiograph(0)))
    assert (first, second) == (0, 12) and ALIKE < correlation <= 1


def test_discs_with_other_vessels_are_not_alike_although_they_correlate():
    images = [retina(seed) for seed in range(8)]
    flat = [thumbnail(image).reshape(-1).astype(float) for image in images]
    assert np.corrcoef(flat)[np.triu_indices(8, 1)].max() > ALIKE
    assert pairs_of(*images) == []
    assert len(pairs_of(*images, as_jpeg(retina(3), 50))) == 1


def test_flat_images_are_like_nothing():
    rng = np.random.default_rng(0)
    faint = [np.clip(100 + rng.normal(0, 1, (256, 256)), 0, 255).astype(np.uint8) for _ in range(4)]
    black = [np.zeros((64, 64), np.uint8)] * 3
    assert pairs_of(*faint, *black) == []


def test_of_many_copies_as_few_pairs_as_join_them_are_kept_the_most_alike():
    copies = [as_jpeg(radiograph(0), quality) for quality in (95, 90, 40)]
    pairs = pairs_of(radiograph(0), radiograph(1), *copies)
    assert len(pairs) == 3 and {n for pair in pairs for n in pair[:2]} == {0, 2, 3, 4}
    assert [pair[2] for pair in pairs] == sorted((pair[2] for pair in pairs), reverse=True)


def test_only_images_that_are_asked_for_are_compared():
    thumbnails_NHW = np.stack([thumbnail(radiograph(0))] * 3)
    assert [pair[:2] for pair in near_duplicates(thumbnails_NHW, [0, 2])] == [(0, 2)]


def test_pairs_are_found_across_the_blocks_of_a_large_cohort():
    rng = np.random.default_rng(0)
    thumbnails_NHW = np.zeros((9_000, SIDE, SIDE), np.uint8)
    filled = [3, 130, 4_095, 4_096, 8_999]
    thumbnails_NHW[filled] = rng.integers(0, 256, (len(filled), SIDE, SIDE))
    thumbnails_NHW[8_999] = thumbnails_NHW[3]
    thumbnails_NHW[4_096] = thumbnails_NHW[130]
    found = near_duplicates(thumbnails_NHW, range(9_000))
    assert {pair[:2] for pair in found} == {(3, 8_999), (130, 4_096)}
