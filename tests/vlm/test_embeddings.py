import copy
import dataclasses
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

import vlm.embeddings
from cohort.decoding import decode
from cohort.errors import InputError
from cohort.geometry import apply_geometry
from cohort.image_store import image_store
from cohort.intensity import Intensity
from tests.vlm.miniature_biomedclip import build_miniature_biomedclip
from vlm.embeddings import (
    embed,
    embed_images,
    embedding_precision,
    embeddings_key,
    read_features,
    shard_features,
    shards_here,
    verify,
    write_features,
)
from vlm.encoders import Encoder, load_encoder


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    """Ten images are three shards of 4, 4 and 2."""
    monkeypatch.setattr(vlm.embeddings, "SHARD_IMAGES", 4)


def test_features_are_those_of_each_image_in_manifest_order(drawn_cohort, miniature, tmp_path):
    embeddings = embed(drawn_cohort, miniature, tmp_path, batch_size=3, precision="fp32")

    files = drawn_cohort.files()
    images_NHW = [apply_geometry(files.decode(i), miniature.geometry) for i in range(len(files))]
    expected_ND = [miniature.image_features(image_HW[None, :, :, None])[0].numpy() for image_HW in images_NHW]
    np.testing.assert_allclose(embeddings.features_ND, expected_ND, rtol=0, atol=2e-6)
    assert embeddings.features_ND.shape == (10, 32) and embeddings.features_ND.dtype == np.float32
    assert (embeddings.cached, embeddings.precision) == (False, "fp32")
    assert sorted(path.name for path in embeddings.folder.iterdir()) == ["features.arrow", "lock"]


def test_a_second_call_maps_the_file_and_embeds_nothing(drawn_cohort, miniature, tmp_path, monkeypatch):
    first = embed(drawn_cohort, miniature, tmp_path)
    monkeypatch.setattr(vlm.embeddings, "shard_features", None)
    allocated = pa.total_allocated_bytes()
    second = embed(drawn_cohort, miniature, tmp_path)
    assert pa.total_allocated_bytes() == allocated
    assert second.cached and second.key == first.key
    assert not second.features_ND.flags.writeable and second.features_ND.flags.aligned
    np.testing.assert_array_equal(second.features_ND, first.features_ND)


def test_any_arrow_reader_finds_the_features_beside_the_digests(drawn_cohort, miniature, tmp_path):
    embeddings = embed(drawn_cohort, miniature, tmp_path)
    table = pa.ipc.open_file(embeddings.folder / "features.arrow").read_all()
    assert table["digest"].to_pylist() == drawn_cohort.column("digest")
    np.testing.assert_array_equal(np.array(table["features"].to_pylist(), np.float32), embeddings.features_ND)
    assert json.loads(table.schema.metadata[b"radtune"])["key"] == embeddings.key


def test_an_interrupted_pass_goes_on_from_its_finished_shards(drawn_cohort, miniature, tmp_path, monkeypatch):
    uninterrupted = embed(drawn_cohort, miniature, tmp_path / "one", precision="fp32")
    embedded = []

    def interrupted_in_the_third_shard(encoder, images_BHWC, precision):
        if len(embedded) == 2:
            raise KeyboardInterrupt
        embedded.append(len(images_BHWC))
        return embed_images(encoder, images_BHWC, precision)

    monkeypatch.setattr(vlm.embeddings, "embed_images", interrupted_in_the_third_shard)
    with pytest.raises(KeyboardInterrupt):
        embed(drawn_cohort, miniature, tmp_path / "two", batch_size=4, precision="fp32")
    assert embedded == [4, 4]

    def resumed(encoder, images_BHWC, precision):
        embedded.append(len(images_BHWC))
        return embed_images(encoder, images_BHWC, precision)

    monkeypatch.setattr(vlm.embeddings, "embed_images", resumed)
    embeddings = embed(drawn_cohort, miniature, tmp_path / "two", batch_size=4, precision="fp32")
    assert embedded == [4, 4, 2] and not embeddings.cached
    np.testing.assert_allclose(embeddings.features_ND, uninterrupted.features_ND, rtol=0, atol=2e-6)


def test_a_shard_is_a_function_of_what_can_be_sent_to_another_process(drawn_cohort, miniature, tmp_path):
    images_NHWC = image_store(drawn_cohort, miniature.geometry, tmp_path).images_NHWC[2:5]
    task = pickle.dumps((miniature, images_NHWC, drawn_cohort.column("digest")[2:5]))
    features_ND = shard_features(*pickle.loads(task), batch_size=2)
    np.testing.assert_allclose(features_ND, miniature.image_features(images_NHWC), rtol=0, atol=2e-6)


def test_shards_may_be_computed_elsewhere_and_come_back_in_any_order(drawn_cohort, miniature, tmp_path):
    here = embed(drawn_cohort, miniature, tmp_path / "here", precision="fp32")

    def backwards(encoder, images_NHWC, shards, **settings):
        return reversed(list(shards_here(encoder, images_NHWC, shards, **settings)))

    there = embed(drawn_cohort, miniature, tmp_path / "there", precision="fp32", run_shards=backwards)
    assert there.key == here.key and not there.cached
    np.testing.assert_array_equal(there.features_ND, here.features_ND)


def test_a_cache_at_a_uri_is_filled_by_one_machine_and_read_by_another(
    drawn_cohort, miniature, tmp_path, s3, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "one"))
    first = embed(drawn_cohort, miniature, f"{s3}/cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    monkeypatch.setattr(vlm.embeddings, "embed_images", None)
    second = embed(drawn_cohort, miniature, f"{s3}/cache")
    assert not first.cached and second.cached and second.folder.is_relative_to(tmp_path / "other")
    np.testing.assert_array_equal(second.features_ND, first.features_ND)


# What the key says


def test_the_key_depends_on_encoder_precision_and_the_order_of_the_images(drawn_cohort, miniature):
    orders = [[0, 1], [1, 0], [0]]
    keys = {
        embeddings_key(
            encoder, precision, dataclasses.replace(drawn_cohort, table=drawn_cohort.table.take(rows))
        )
        for encoder in (miniature, dataclasses.replace(miniature, fingerprint="another"))
        for precision in ("fp32", "bf16")
        for rows in orders
    }
    assert len(keys) == 12 and all(len(key) == 32 for key in keys)


def test_the_key_depends_on_how_files_become_pixels(drawn_cohort, miniature, monkeypatch):
    keys = [embeddings_key(miniature, "fp32", drawn_cohort)]
    for high in (4095, 65535):
        window = dataclasses.replace(drawn_cohort, intensity=Intensity(0, high, "full"))
        keys.append(embeddings_key(miniature, "fp32", window))
    monkeypatch.setattr("cohort.image_store.DECODING", 0)
    keys.append(embeddings_key(miniature, "fp32", drawn_cohort))
    assert len(set(keys)) == 4


def test_other_weights_have_their_own_place(drawn_cohort, miniature, tmp_path):
    other = load_encoder(f"local-dir:{build_miniature_biomedclip(tmp_path / 'other', seed=1)}", device="cpu")
    ours, theirs = (embed(drawn_cohort, encoder, tmp_path / "cache") for encoder in (miniature, other))
    assert ours.folder != theirs.folder and not theirs.cached
    assert np.abs(ours.features_ND - theirs.features_ND).max() > 0.01


def test_a_cache_written_by_other_weights_is_refused(drawn_cohort, miniature, tmp_path):
    other = load_encoder(f"local-dir:{build_miniature_biomedclip(tmp_path / 'other', seed=1)}", device="cpu")
    ours = embed(drawn_cohort, miniature, tmp_path / "ours")
    theirs = embed(drawn_cohort, other, tmp_path / "theirs")
    shutil.copy(theirs.folder / "features.arrow", ours.folder / "features.arrow")
    with pytest.raises(InputError) as caught:
        embed(drawn_cohort, miniature, tmp_path / "ours")
    message = str(caught.value)
    assert "holds features of another encoder" in message and "\n" not in message
    assert f"delete the folder {ours.folder} and embed again" in message


def test_a_shard_left_by_other_weights_is_refused(drawn_cohort, miniature, tmp_path):
    embeddings = embed(drawn_cohort, miniature, tmp_path)
    (embeddings.folder / "features.arrow").unlink()
    features_ND = np.zeros((4, 32), np.float32)
    shard = embeddings.folder / "shard-00000004.arrow"
    vlm.embeddings.write_features(shard, features_ND, drawn_cohort.column("digest")[4:8], key="another")
    with pytest.raises(InputError, match=r"shard-00000004.arrow: holds features of another encoder"):
        embed(drawn_cohort, miniature, tmp_path)


@pytest.mark.parametrize("kept", [0, 100, -100])
def test_a_truncated_cache_is_refused(drawn_cohort, miniature, tmp_path, kept):
    path = embed(drawn_cohort, miniature, tmp_path).folder / "features.arrow"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match=r"features.arrow: damaged .* delete the folder") as caught:
        embed(drawn_cohort, miniature, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "width", "message"),
    [
        (9, 32, "must hold the cohort's 10 images in order"),
        (10, 31, "must hold 32 features an image"),
    ],
)
def test_a_cache_of_another_shape_is_refused(drawn_cohort, miniature, tmp_path, rows, width, message):
    embeddings = embed(drawn_cohort, miniature, tmp_path)
    vlm.embeddings.write_features(
        embeddings.folder / "features.arrow",
        np.zeros((rows, width), np.float32),
        drawn_cohort.column("digest")[:rows],
        embeddings.key,
    )
    with pytest.raises(InputError, match=message):
        embed(drawn_cohort, miniature, tmp_path)


# Precision


def test_auto_is_bf16_only_where_products_are_computed_and_natively(miniature, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    for native, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda native=native: native)
        assert embedding_precision("auto", miniature) == expected
        assert embedding_precision("auto", load_encoder("pixels", device="cpu")) == "fp32"
        assert embedding_precision("bf16", miniature) == "bf16"


def real_images(real_data: Path, encoder: Encoder, count: int) -> np.ndarray:
    paths = sorted((real_data / "nih_cxr64" / "images").rglob("*.png"))[:: 1000 // count][:count]
    images = [apply_geometry(decode(path.read_bytes(), path.name), encoder.geometry) for path in paths]
    return np.stack(images)[..., None]


def cosines(a_ND: np.ndarray, b_ND: np.ndarray) -> np.ndarray:
    a_ND, b_ND = a_ND.astype(np.float64), b_ND.astype(np.float64)
    return (a_ND * b_ND).sum(1) / np.linalg.norm(a_ND, axis=1) / np.linalg.norm(b_ND, axis=1)


def test_bf16_agrees_with_fp32_on_real_radiographs(real_data, miniature):
    images_NHWC = real_images(real_data, miniature, 40)
    full_ND = embed_images(miniature, images_NHWC, "fp32")
    half_ND = embed_images(miniature, images_NHWC, "bf16")
    assert half_ND.dtype == np.float32 and not np.array_equal(full_ND, half_ND)
    assert cosines(full_ND, half_ND).min() > 0.999


@pytest.mark.gpu
def test_a_gpu_gives_the_features_of_the_cpu(real_data, miniature_folder, miniature):
    on_gpu = load_encoder(f"local-dir:{miniature_folder}", device="cuda")
    assert on_gpu.fingerprint == miniature.fingerprint
    images_NHWC = real_images(real_data, miniature, 40)
    expected_ND = embed_images(miniature, images_NHWC, "fp32")
    np.testing.assert_allclose(embed_images(on_gpu, images_NHWC, "fp32"), expected_ND, rtol=0, atol=1e-3)
    assert cosines(embed_images(on_gpu, images_NHWC, "bf16"), expected_ND).min() > 0.999
    torch.testing.assert_close(
        on_gpu.text_features(["edema"]).cpu(), miniature.text_features(["edema"]), rtol=0, atol=1e-3
    )


# Bad input


def test_features_that_are_not_finite_are_refused(drawn_cohort, miniature, tmp_path):
    broken = copy.deepcopy(miniature)
    broken.clip.visual.head.proj.weight[0, 0] = np.nan
    with pytest.raises(InputError, match=r"features of the image with sha256 .* are not finite in fp32"):
        embed(drawn_cohort, broken, tmp_path, precision="fp32")


def test_settings_out_of_range_are_refused(drawn_cohort, miniature, tmp_path):
    with pytest.raises(InputError, match="precision must be one of auto, fp32, bf16, got 'fp16'"):
        embed(drawn_cohort, miniature, tmp_path, precision="fp16")
    with pytest.raises(InputError, match="batch_size must be at least 1, got 0"):
        embed(drawn_cohort, miniature, tmp_path, batch_size=0)


def test_no_flipped_byte_of_a_cache_changes_a_feature(tmp_path):
    """Of those that change nothing the meaning is the same: padding, and what Arrow says twice."""
    features_ND = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    digests = [f"{i:064x}" for i in range(5)]
    folder = tmp_path / "embeddings-abc"
    path = folder / "features.arrow"
    write_features(path, features_ND, digests, "abc", images_per_second=12.5)
    assert verify(folder) == []
    data = path.read_bytes()
    refused = 0
    for position in range(0, len(data), 3):
        path.unlink()  # what is mapped stays what it was
        path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        try:
            np.testing.assert_array_equal(read_features(path, "abc", digests, 7), features_ND)
            assert verify(folder) == []
        except InputError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > features_ND.nbytes / 3


def test_verify_names_the_file_and_what_is_wrong_with_it(tmp_path):
    folder = tmp_path / "embeddings-abc"
    features_ND = np.zeros((2, 3), dtype=np.float32)
    write_features(folder / "features.arrow", features_ND, ["a", "b"], "abc")
    write_features(folder / "shard-00000000.arrow", features_ND, ["a", "b"], "other")
    (folder / "shard-00000512.arrow").write_bytes(b"no Arrow")
    first, second = verify(folder)
    assert "shard-00000000.arrow: holds features of the key other" in first
    assert "shard-00000512.arrow: damaged (" in second and second.endswith("embed again")
