"""Images: decoding, geometry against open_clip, folders and archives, the decoded-image store."""

import hashlib
import io
import pickle
import zipfile

import numpy as np
import pytest
from PIL import Image

from cohort.errors import InputError
from cohort.images import (
    Geometry,
    ImageFiles,
    apply_geometry,
    climbs_out,
    decode,
    image_store,
    inspect_images,
    list_images,
)
from cohort.labels import LabelPolicy
from cohort.manifest import write_cohort


def encode(array, file_format="PNG", mode=None, **options):
    image = Image.fromarray(np.asarray(array))
    if mode:
        image = image.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def random_image(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write_images(folder, count=6, colour=(), size=20):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        shape = (size, size + i, 3) if i in colour else (size, size + i)
        (folder / f"{i}.png").write_bytes(encode(random_image(*shape, seed=i)))
    return [f"{i}.png" for i in range(count)]


def cohort_of(folder, out):
    names = list_images(folder)
    inspected = inspect_images(ImageFiles(folder, names))
    return write_cohort(
        out,
        {
            "image": names,
            "file": names,
            "digest": inspected.digests,
            "present": [True] * len(names),
            "patient": names,
            "study": names,
            "view": [""] * len(names),
            "split": [("train", "val", "test")[i % 3] for i in range(len(names))],
        },
        np.ones((len(names), 1)),
        labels=["Edema"],
        source="test",
        policy=LabelPolicy(),
        images_root=folder,
        channels=inspected.channels,
    )


# ---- decoding


def test_8_bit_gray_and_rgb_png_decode_to_what_was_written():
    gray, rgb = random_image(5, 7), random_image(5, 7, 3)
    np.testing.assert_array_equal(decode(encode(gray), "a"), gray)
    np.testing.assert_array_equal(decode(encode(rgb), "a"), rgb)


def test_jpeg_decodes_as_pillow_does_gray_and_rgb():
    for image in (random_image(16, 24), random_image(16, 24, 3)):
        data = encode(image, "JPEG", quality=90)
        np.testing.assert_array_equal(decode(data, "a"), np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize(
    ("brightest", "scale"),
    [(255, 255), (256, 1023), (1023, 1023), (1024, 4095), (4095, 4095), (65535, 65535)],
)
def test_16_bit_gray_is_scaled_from_the_smallest_depth_that_holds_it(brightest, scale):
    image = np.array([[0, 1, brightest // 2, brightest]], dtype=np.uint16)
    expected = np.floor(image * 255.0 / scale + 0.5)
    result = decode(encode(image), "a")
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, expected)


def test_a_16_bit_file_by_hand():
    """4095 makes it 12 bits; 2048 * 255 / 4095 = 127.53, 8 * 255 / 4095 = 0.498."""
    assert decode(encode(np.array([[4095, 2048, 8, 0]], dtype=np.uint16)), "a").tolist() == [[255, 128, 0, 0]]


def test_black_and_white_becomes_0_and_255():
    image = np.array([[0, 255], [255, 0]], dtype=np.uint8)
    np.testing.assert_array_equal(decode(encode(image, mode="1"), "a"), image)


def test_a_gray_palette_becomes_gray_and_a_coloured_one_rgb():
    gray = random_image(8, 8) // 64 * 64
    paletted = Image.fromarray(gray).convert("RGB").quantize(4)
    buffer = io.BytesIO()
    paletted.save(buffer, "PNG")
    np.testing.assert_array_equal(decode(buffer.getvalue(), "a"), np.asarray(paletted.convert("L")))
    colour = Image.fromarray(random_image(8, 8, 3)).quantize(16)
    buffer = io.BytesIO()
    colour.save(buffer, "PNG")
    np.testing.assert_array_equal(decode(buffer.getvalue(), "a"), np.asarray(colour.convert("RGB")))


def test_an_alpha_channel_is_dropped():
    rgba = random_image(6, 6, 4)
    np.testing.assert_array_equal(decode(encode(rgba), "a"), rgba[:, :, :3])
    gray_alpha = Image.merge("LA", [Image.fromarray(rgba[:, :, c]) for c in (0, 3)])
    buffer = io.BytesIO()
    gray_alpha.save(buffer, "PNG")
    np.testing.assert_array_equal(decode(buffer.getvalue(), "a"), rgba[:, :, 0])


def test_a_cmyk_jpeg_becomes_rgb():
    assert decode(encode(random_image(16, 16, 3), "JPEG", mode="CMYK"), "a").shape == (16, 16, 3)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_a_truncated_file_is_refused_by_name_in_one_line(file_format, kept):
    data = encode(random_image(64, 64), file_format)
    with pytest.raises(InputError, match=r"^scan\.png: unreadable image \(") as error:
        decode(data[: int(len(data) * kept)], "scan.png")
    assert "\n" not in str(error.value)


def test_what_is_no_png_or_jpeg_is_refused():
    for data in (b"", b"hello", encode(random_image(4, 4), "BMP"), b"\x89PNG\r\n\x1a\n"):
        with pytest.raises(InputError, match=r"^scan: unreadable image \("):
            decode(data, "scan")


# ---- geometry

SIZES = [(37, 53), (53, 37), (224, 224), (100, 224), (224, 300), (31, 257), (500, 499), (17, 16)]


def open_clip_pixels(image, geometry):
    """What open_clip's evaluation transform hands to ToTensor, as uint8 (H, W, 3)."""
    from open_clip import image_transform

    transform = image_transform(
        geometry.size,
        is_train=False,
        resize_mode=geometry.resize_mode,
        interpolation=geometry.interpolation,
        fill_color=geometry.fill,
    )
    pixels = Image.fromarray(image)
    for step in transform.transforms[:-2]:  # without ToTensor and Normalize
        pixels = step(pixels)
    return np.asarray(pixels)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("resize_mode", ["shortest", "squash", "longest"])
@pytest.mark.parametrize("size", [32, 97, 224])
def test_the_geometry_equals_open_clip_bit_for_bit(size, resize_mode, interpolation):
    geometry = Geometry(size, resize_mode, interpolation, fill=7)
    for height, width in SIZES:
        for image in (random_image(height, width), random_image(height, width, 3)):
            result = apply_geometry(image, geometry)
            assert result.shape[:2] == (size, size) and result.ndim == image.ndim
            as_rgb = result if result.ndim == 3 else np.repeat(result[:, :, None], 3, axis=2)
            np.testing.assert_array_equal(as_rgb, open_clip_pixels(image, geometry))


def test_the_geometry_equals_open_clip_on_a_real_radiograph(real_data):
    file = next((real_data / "iu_xray" / "images_normalized").glob("1000_*3001*.png"))
    image = decode(file.read_bytes(), file.name)
    assert image.shape == (2496, 2048)
    for resize_mode in ("shortest", "squash", "longest"):
        geometry = Geometry(224, resize_mode, channels=3)
        np.testing.assert_array_equal(apply_geometry(image, geometry), open_clip_pixels(image, geometry))


def test_channels_make_gray_of_colour_and_colour_of_gray():
    gray, rgb = random_image(9, 9), random_image(9, 9, 3)
    np.testing.assert_array_equal(
        apply_geometry(rgb, Geometry(9, channels=1)), np.asarray(Image.fromarray(rgb).convert("L"))
    )
    np.testing.assert_array_equal(apply_geometry(gray, Geometry(9, channels=3)), np.stack([gray] * 3, axis=2))
    assert apply_geometry(gray, Geometry(9, channels=1)).shape == (9, 9)


@pytest.mark.parametrize(
    "fields",
    [
        {"size": 0},
        {"size": 8, "resize_mode": "crop"},
        {"size": 8, "interpolation": "nearest"},
        {"size": 8, "fill": 256},
        {"size": 8, "fill": -1},
        {"size": 8, "channels": 2},
    ],
)
def test_a_geometry_is_validated_when_built(fields):
    with pytest.raises(InputError):
        Geometry(**fields)


# ---- files


def test_a_folder_and_an_archive_list_and_read_alike(tmp_path):
    names = write_images(tmp_path / "images" / "deep", 3)
    (tmp_path / "images" / "notes.txt").write_text("no image")
    (tmp_path / "images" / "B.JPG").write_bytes(encode(random_image(4, 4), "JPEG"))
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for file in (tmp_path / "images").rglob("*.*"):
            archive.write(file, file.relative_to(tmp_path / "images"))
        archive.writestr("__MACOSX/._0.png", b"resource fork")
    listed = list_images(tmp_path / "images")
    assert listed == ["B.JPG", *(f"deep/{name}" for name in names)]
    assert list_images(tmp_path / "images.zip") == listed
    folder, archive = ImageFiles(tmp_path / "images", listed), ImageFiles(tmp_path / "images.zip", listed)
    assert [folder.read(i) for i in range(4)] == [archive.read(i) for i in range(4)]
    assert pickle.loads(pickle.dumps(archive)).read(1) == folder.read(1)


@pytest.mark.parametrize(
    ("name", "climbs"),
    [
        ("../a.png", True),
        ("a/../../b.png", True),
        ("/etc/a.png", True),
        ("C:/a.png", True),
        ("..\\a.png", True),
        ("a/b.png", False),
        ("a..b.png", False),
    ],
)
def test_a_name_that_climbs_out_of_its_folder_is_recognised(name, climbs):
    assert climbs_out(name) is climbs


def test_an_archive_with_a_member_that_climbs_out_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("../../evil.png", b"")
    with pytest.raises(InputError, match=r"a\.zip: member '\.\./\.\./evil\.png' leads out of the archive"):
        list_images(tmp_path / "a.zip")


def test_links_are_followed_but_not_in_circles(tmp_path):
    write_images(tmp_path / "real", 1)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "linked").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "back").symlink_to(tmp_path / "images")
    assert list_images(tmp_path / "images") == ["linked/0.png"]


def test_images_that_are_neither_folder_nor_archive_are_refused(tmp_path):
    (tmp_path / "images.tar").write_bytes(b"no archive")
    for name in ("images.tar", "absent"):
        with pytest.raises(InputError, match="must be a folder or a zip archive"):
            list_images(tmp_path / name)


def test_reading_names_the_file_that_cannot_be_read(tmp_path):
    names = write_images(tmp_path / "images", 1)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "images" / names[0], names[0])
    for root in (tmp_path / "images", tmp_path / "a.zip"):
        with pytest.raises(InputError, match=r"cannot read 'b\.png' \(no such file\)"):
            ImageFiles(root, ["b.png"]).read(0)


def test_a_damaged_archive_member_is_named(tmp_path):
    names = write_images(tmp_path / "images", 1, size=64)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "images" / names[0], names[0])
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[200] ^= 255
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(InputError, match=r"cannot read '0\.png' \(Bad CRC"):
        ImageFiles(tmp_path / "a.zip", names).read(0)


def test_one_pass_gives_digests_channels_and_the_unreadable(tmp_path):
    names = write_images(tmp_path, 5, colour={3})
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:100])
    inspected = inspect_images(ImageFiles(tmp_path, [*names, "absent.png"]))
    assert inspected.channels == 3
    assert list(inspected.unreadable) == [1, 5]
    assert inspected.unreadable[1].startswith("1.png: unreadable image")
    for i in (0, 2, 3, 4):
        assert inspected.digests[i] == hashlib.sha256((tmp_path / names[i]).read_bytes()).hexdigest()
    assert inspected.digests[1] == inspected.digests[5] == ""


# ---- store


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
    monkeypatch.setattr("cohort.images.decode", None)  # any further decoding would fail
    assert image_store(cohort, Geometry(16), tmp_path / "cache").key == first.key
    monkeypatch.undo()
    keys = {image_store(cohort, g, tmp_path / "cache").key for g in (Geometry(17), Geometry(16, "squash"))}
    assert len(keys | {first.key}) == 3


def test_an_interrupted_pass_is_taken_up_where_it_stopped(tmp_path, monkeypatch):
    write_images(tmp_path / "images", 40)
    cohort = cohort_of(tmp_path / "images", tmp_path / "cohort")
    monkeypatch.setattr("cohort.images.FLUSH_EVERY", 4)
    calls = []

    def failing(data, name):
        calls.append(name)
        if name.endswith("/30.png") and "broken" not in calls:
            calls.append("broken")
            raise KeyboardInterrupt
        return decode(data, name)

    monkeypatch.setattr("cohort.images.decode", failing)
    with pytest.raises(KeyboardInterrupt):
        image_store(cohort, Geometry(16), tmp_path / "cache")
    before = len(calls)
    store = image_store(cohort, Geometry(16), tmp_path / "cache")
    assert 0 < len(calls) - before < 40
    monkeypatch.undo()
    fresh = image_store(cohort, Geometry(16), tmp_path / "other")
    np.testing.assert_array_equal(store.images_NHWC, fresh.images_NHWC)
    assert sorted(file.name for file in store.folder.iterdir()) == ["images.npy", "lock"]


def test_a_file_that_changed_since_the_cohort_was_built_is_refused(tmp_path):
    write_images(tmp_path / "images")
    cohort = cohort_of(tmp_path / "images", tmp_path / "cohort")
    (tmp_path / "images" / "3.png").write_bytes(encode(random_image(9, 9, seed=99)))
    with pytest.raises(InputError, match=r"3\.png: not the file the cohort was built from; build it again"):
        image_store(cohort, Geometry(16), tmp_path / "cache")
