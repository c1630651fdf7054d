"""Decoded images and features that a killed pass, or a disk, left damaged: never believed, made again."""

import numpy as np
import pytest

import vlm.embeddings
from cohort.errors import InputError
from cohort.geometry import Geometry
from cohort.image_store import image_store, pixels_key, verify
from tests.cohort.made_images import cohort_of, write_images
from tests.faults.harms import cut, deleted, emptied, flipped, holding
from vlm.embeddings import embed
from vlm.encoders import load_encoder

GEOMETRY = Geometry(16)


@pytest.fixture
def cohort(tmp_path):
    write_images(tmp_path / "images")
    return cohort_of(tmp_path / "images", tmp_path / "cohort")


class Killed(Exception):
    """The pass ends here."""


def half_a_store(cohort, cache, monkeypatch):
    """What a pass leaves that is killed after four of six images; the folder."""
    from cohort.image_store import in_threads

    def in_threads_killed(work, count, said):
        for k, done in enumerate(in_threads(work, count, said)):
            if k == 4:
                raise Killed
            yield done

    monkeypatch.setattr("cohort.image_store.FLUSH_EVERY", 2)
    monkeypatch.setattr("cohort.image_store.in_threads", in_threads_killed)
    with pytest.raises(Killed):
        image_store(cohort, GEOMETRY, cache)
    monkeypatch.undo()
    return cache / f"images-{pixels_key(cohort, GEOMETRY)}"


@pytest.mark.parametrize("file", ["images.partial.npy", "done.npy"])
@pytest.mark.parametrize("harm", [cut, emptied, deleted, holding(b"\x93NUMPY\x01\x00v\x00")])
def test_a_half_made_store_that_was_damaged_is_begun_anew(cohort, tmp_path, monkeypatch, file, harm):
    whole = np.array(image_store(cohort, GEOMETRY, tmp_path / "whole").images_NHWC)
    folder = half_a_store(cohort, tmp_path / "cache", monkeypatch)
    assert np.load(folder / "done.npy").sum() == 4
    harm(folder / file)
    store = image_store(cohort, GEOMETRY, tmp_path / "cache")
    np.testing.assert_array_equal(store.images_NHWC, whole)
    assert verify(store.folder) == []


@pytest.mark.parametrize("harm", [cut, emptied, holding(b"no array")])
def test_a_damaged_store_is_refused_and_made_again_when_it_is_deleted(cohort, tmp_path, harm):
    store = image_store(cohort, GEOMETRY, tmp_path / "cache")
    whole = np.array(store.images_NHWC)
    harm(store.folder / "images.npy")
    with pytest.raises(InputError, match=r"images\.npy: damaged .* delete the folder") as caught:
        image_store(cohort, GEOMETRY, tmp_path / "cache")
    assert "\n" not in str(caught.value)
    deleted(store.folder)
    np.testing.assert_array_equal(image_store(cohort, GEOMETRY, tmp_path / "cache").images_NHWC, whole)


def test_a_store_that_is_gone_is_made_again_and_one_without_checksums_is_told_of(cohort, tmp_path):
    store = image_store(cohort, GEOMETRY, tmp_path / "cache")
    whole = np.array(store.images_NHWC)
    deleted(store.folder / "images.npy")
    store = image_store(cohort, GEOMETRY, tmp_path / "cache")
    np.testing.assert_array_equal(store.images_NHWC, whole)
    assert verify(store.folder) == []
    deleted(store.folder / "checksums.json")
    (said,) = verify(store.folder)
    assert "without its checksums" in said


@pytest.mark.parametrize("harm", [cut, emptied, flipped])
def test_a_damaged_shard_of_a_killed_pass_is_refused_and_computed_again_when_it_is_deleted(
    cohort, tmp_path, monkeypatch, harm
):
    monkeypatch.setattr(vlm.embeddings, "SHARD_IMAGES", 2)
    encoder = load_encoder("pixels")
    whole = np.array(embed(cohort, encoder, tmp_path / "whole").features_ND)
    compute = vlm.embeddings.shard_features

    def killed_in_the_third(encoder, images_NHWC, digests, **settings):
        if digests[0] == cohort.column("digest")[4]:
            raise Killed
        return compute(encoder, images_NHWC, digests, **settings)

    monkeypatch.setattr(vlm.embeddings, "shard_features", killed_in_the_third)
    with pytest.raises(Killed):
        embed(cohort, encoder, tmp_path / "cache")
    monkeypatch.setattr(vlm.embeddings, "shard_features", compute)
    first, second = sorted((tmp_path / "cache").glob("embeddings-*/shard-*.arrow"))
    kept = first.stat().st_mtime_ns
    harm(second)
    with pytest.raises(InputError, match=r"shard-00000002\.arrow") as caught:
        embed(cohort, encoder, tmp_path / "cache")
    assert "\n" not in str(caught.value) and first.stat().st_mtime_ns == kept
    second.unlink()
    np.testing.assert_array_equal(embed(cohort, encoder, tmp_path / "cache").features_ND, whole)
