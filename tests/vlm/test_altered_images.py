"""Altered images go the way of every prediction, are embedded once, and resumed."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

import vlm.altered_images
from cohort.errors import InputError
from cohort.geometry import apply_geometry
from vlm.altered_images import embed_altered, seen_image
from vlm.cohort_features import CohortFeatures


@dataclass(frozen=True)
class Darker:
    by: int

    def described(self):
        return {"darker": self.by}

    def applied(self, image):
        return (image // self.by).astype(np.uint8)


ALTERATIONS = (Darker(1), Darker(3))
ROWS = np.array([7, 2, 9])


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(vlm.altered_images, "SHARD_IMAGES", 2)


def test_each_image_is_decoded_altered_and_brought_to_the_geometry(drawn_cohort, miniature, tmp_path):
    found = embed_altered(drawn_cohort, miniature, ROWS, ALTERATIONS, cache=tmp_path, batch_size=3)
    assert found.shape == (3, 2, miniature.width) and found.dtype == np.float32
    files = drawn_cohort.files()
    for n, row in enumerate(ROWS):
        for v, one in enumerate(ALTERATIONS):
            seen_HW = apply_geometry(one.applied(files.decode(row)), miniature.geometry)
            expected_D = miniature.image_features(seen_HW[None, :, :, None])[0].numpy()
            np.testing.assert_allclose(found[n, v], expected_D, atol=2e-6)


def test_unaltered_images_have_the_cached_features(drawn_cohort, miniature, tmp_path):
    features = CohortFeatures(drawn_cohort, tmp_path)
    found = features.altered(miniature, "fp32", ROWS, ALTERATIONS[:1])
    np.testing.assert_allclose(found[:, 0], features(miniature, "fp32")[ROWS], atol=2e-6)


def test_nothing_is_embedded_twice_and_an_interrupted_pass_goes_on(
    drawn_cohort, miniature, tmp_path, monkeypatch
):
    counted = []
    embed_images = vlm.altered_images.embed_images

    def counting(encoder, images_BHWC, precision):
        counted.append(len(images_BHWC))
        return embed_images(encoder, images_BHWC, precision)

    monkeypatch.setattr(vlm.altered_images, "embed_images", counting)
    first = embed_altered(drawn_cohort, miniature, ROWS, ALTERATIONS, cache=tmp_path)
    assert sum(counted) == 6
    again = embed_altered(drawn_cohort, miniature, ROWS, ALTERATIONS, cache=tmp_path)
    np.testing.assert_array_equal(again, first)
    assert sum(counted) == 6
    last = sorted(tmp_path.glob("altered-*/shard-*.arrow"))[-1]
    last.unlink()  # as if the pass had been killed before it
    np.testing.assert_array_equal(
        embed_altered(drawn_cohort, miniature, ROWS, ALTERATIONS, cache=tmp_path), first
    )
    assert sum(counted) == 8
    embed_altered(drawn_cohort, miniature, ROWS, (Darker(2),), cache=tmp_path)
    assert sum(counted) == 11


def test_a_damaged_shard_is_refused(drawn_cohort, miniature, tmp_path):
    embed_altered(drawn_cohort, miniature, ROWS, ALTERATIONS, cache=tmp_path)
    shard = next(tmp_path.glob("altered-*/shard-*.arrow"))
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(InputError, match="damaged"):
        embed_altered(drawn_cohort, miniature, ROWS, ALTERATIONS, cache=tmp_path)


def test_channels_are_the_cohorts_unless_the_geometry_says_otherwise(drawn_cohort, miniature):
    gray, colour = np.zeros((40, 30), np.uint8), np.zeros((40, 30, 3), np.uint8)
    size = miniature.geometry.size
    assert seen_image(gray, drawn_cohort, miniature).shape == (size, size, 1)
    in_colour = replace(drawn_cohort, channels=3)
    assert [seen_image(one, in_colour, miniature).shape for one in (gray, colour)] == [(size, size, 3)] * 2
