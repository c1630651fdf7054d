"""The image store: decoded once, taken up again, never of other files."""

import io
from dataclasses import replace

import numpy as np
import pytest

from cohort.decoding import decode
from cohort.errors import InputError
from cohort.geometry import Geometry, apply_geometry
from cohort.image_store import image_store, verify
from cohort.intensity import Intensity
from tests.cohort.made_images import cohort_of, encode, random_image, write_images


@pytest.mark.parametrize(("colour", "channels"), [((), 1), ({2}, 3)])
def test_the_store_holds_every_image_at_the_geometry(tmp_path, colour, channels):
    names = write_images(tmp_path / "images", colour=colour)
    cohort = cohort_of(tmp_path / "images", tmp_path / "cohort")
    geometry = Geometry(16)
    store = image_store(cohort, geometry, tmp_path / "cache")
    assert store.images_NHWC.shape == (6, 16, 16, channels) and store.images_NHWC.dtype == np.uint8
    assert not store.images_NHWC.flags.writeable
    for i, name in enumerate(names):
        image = apply_geometry(decode((tmp_path / "images" / name).read_bytes(), name), geometry)
        image = image if image.ndim == 3 else np.stack([image] * channels, axis=2)
        np.testing.assert_array_equal(store.images_NHWC[i], image)


def test_the_store_is_made_once_and_another_geometry_has_its_own(tmp_path, monkeypatch):
    write_images(tmp_path / "images")
    cohort = cohort_of(tmp_path / "images", tmp_path / "cohort")
    first = image_store(cohort, Geometry(16), tmp_path / "cache")
    monkeypatch.setattr("cohort.image_store.decode", None)  # any further decoding would fail
    assert image_store(cohort, Geometry(16), tmp_path / "cache").key == first.key
    monkeypatch.undo()
    keys = {image_store(cohort, g, tmp_path / "cache").key for g in (Geometry(17), Geometry(16, "squash"))}
    assert len(keys | {first.key}) == 3


def test_16_bit_images_are_stored_by_the_cohorts_rule_and_each_rule_has_its_own_store(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    (images / "0.png").write_bytes(encode(np.full((16, 16), 2048, dtype=np.uint16)))
    cohort = cohort_of(images, tmp_path / "cohort")
    stores = [
        image_store(replace(cohort, intensity=Intensity(0, high, "full")), Geometry(16), tmp_path / "cache")
        for high in (2048, 4096)
    ]
    assert [store.images_NHWC.max() for store in stores] == [255, 128]


def test_an_interrupted_pass_is_taken_up_where_it_stopped(tmp_path, monkeypatch):
    write_images(tmp_path / "images", 40)
    cohort = cohort_of(tmp_path / "images", tmp_path / "cohort")
    monkeypatch.setattr("cohort.image_store.FLUSH_EVERY", 4)
    calls = []

    def failing(data, name, intensity):
        calls.append(name)
        if name.endswith("/30.png") and "broken" not in calls:
            calls.append("broken")
            raise KeyboardInterrupt
        return decode(data, name)

    monkeypatch.setattr("cohort.image_store.decode", failing)
    with pytest.raises(KeyboardInterrupt):
        image_store(cohort, Geometry(16), tmp_path / "cache")
    before = len(calls)
    store = image_store(cohort, Geometry(16), tmp_path / "cache")
    assert 0 < len(calls) - before < 40
    monkeypatch.undo()
    fresh = image_store(cohort, Geometry(16), tmp_path / "other")
    np.testing.assert_array_equal(store.images_NHWC, fresh.images_NHWC)
    assert sorted(file.name for file in store.folder.iterdir()) == ["checksums.json", "images.npy", "lock"]


def test_a_file_that_changed_since_the_cohort_was_built_is_refused(tmp_path):
    write_images(tmp_path / "images")
    cohort = cohort_of(tmp_path / "images", tmp_path / "cohort")
    (tmp_path / "images" / "3.png").write_bytes(encode(random_image(9, 9, seed=99)))
    with pytest.raises(InputError, match=r"3\.png: not the file the cohort was built from; build it again"):
        image_store(cohort, Geometry(16), tmp_path / "cache")


def test_a_store_that_is_no_longer_whole_is_refused_by_name(tmp_path):
    write_images(tmp_path / "images")
    cohort = cohort_of(tmp_path / "images", tmp_path / "cohort")
    store = image_store(cohort, Geometry(16), tmp_path / "cache")
    path = store.folder / "images.npy"
    data = path.read_bytes()
    other = io.BytesIO()
    np.save(other, np.zeros((6, 16, 16, 3), dtype=np.uint8))
    for damaged in (data[:-1], data[:50], b"", b"x" + data[1:], other.getvalue()):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"images\.npy: damaged .*; delete the folder .* again") as error:
            image_store(cohort, Geometry(16), tmp_path / "cache")
        assert "\n" not in str(error.value)
        assert len(verify(store.folder)) == 1


def test_verify_finds_every_flipped_byte_of_a_store(tmp_path, monkeypatch):
    monkeypatch.setattr("cohort.image_store.FLUSH_EVERY", 2)
    write_images(tmp_path / "images")
    cohort = cohort_of(tmp_path / "images", tmp_path / "cohort")
    folder = image_store(cohort, Geometry(16), tmp_path / "cache").folder
    assert verify(folder) == []
    data = (folder / "images.npy").read_bytes()
    header = len(data) - 6 * 16 * 16
    for position in range(header, len(data), 97):
        flipped = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        (folder / "images.npy").write_bytes(flipped)
        first = (position - header) // (16 * 16) // 2 * 2
        assert [f"images {first} to {first + 1} are no longer" in line for line in verify(folder)] == [True]
    (folder / "images.npy").write_bytes(data)
    for text in ("{}", "[]", "{", '{"images": "uint8 (6, 16, 16, 1)", "sha256": 3}'):
        (folder / "checksums.json").write_text(text)
        assert len(verify(folder)) == 1
