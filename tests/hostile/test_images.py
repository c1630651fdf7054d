"""Images, folders and archives that want to hang, to fill the memory or to lead elsewhere."""

import io
import struct
import zipfile
import zlib

import pytest

from tests.cohort.made_images import encode, random_image, write_images
from tests.cohort.test_decoding import png
from tests.hostile.commands import radtune
from tests.hostile.confinement import confined, refusal


def build(folder, images="images", count=12, **bounds):
    """`radtune cohort table` over images that lie there, in confinement."""
    rows = [f"{i}.png,p{i},{i % 2}" for i in range(count)]
    (folder / "t.csv").write_text("image,patient,Edema\n" + "\n".join(rows) + "\n")
    arguments = ("--table", "t.csv", "--images", images, "--image-column", "image", "--labels", "Edema")
    arguments += ("--patient-column", "patient", "--out", "cohort", "--allow-duplicates")
    return confined(radtune, folder, "cohort", "table", *arguments, writes=folder, **bounds)


def predict(image):
    """What `radtune predict` does to a file before the encoder sees it."""
    from pathlib import Path

    from cohort.decoding import decode
    from cohort.errors import InputError
    from cohort.geometry import Geometry, apply_geometry
    from cohort.image_files import find_images, read_image

    try:
        for path in find_images([image]):
            square = apply_geometry(decode(read_image(Path(path)), path), Geometry(224, channels=3))
            print(square.shape)
    except InputError as error:
        print(f"radtune: error: {error}")
        return 2


def gray_png(width, height, compressed=None):
    rows = bytes(height * (1 + width)) if compressed is None else compressed
    return png(width, height, 8, 0, rows)


@pytest.mark.slow
def test_images_of_most_pixels_are_decoded_one_after_the_other(tmp_path):
    """RGBA of 13,300 x 13,300 pixels: one takes 1.3 GB, and two at once had taken 5."""
    side = 13_300
    rows = zlib.compressobj(1)
    line = bytes(1 + 4 * side)
    packed = b"".join(rows.compress(line) for _ in range(side)) + rows.flush()

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    write_images(tmp_path / "images", 12)
    for i in range(3):
        (tmp_path / "images" / f"{i}.png").write_bytes(data)
    outcome = build(tmp_path, memory=3 << 30, seconds=240)
    assert outcome.code == 0, outcome.output


@pytest.mark.parametrize("size", [(1, 100_000), (1, 1_000_000), (100_000, 1), (3, 500), (40_000, 40_000)])
def test_a_strip_and_a_giant_are_refused_before_they_take_memory(tmp_path, size):
    rows = b"" if size == (40_000, 40_000) else None
    (tmp_path / "a.png").write_bytes(gray_png(*size, rows))
    outcome = confined(predict, str(tmp_path / "a.png"), writes=tmp_path, memory=1 << 29)
    message = refusal(outcome)
    assert "unreadable image" in message and ("100 times" in message or "more than 178,956,970" in message)


def test_a_long_image_is_cropped_before_it_is_resized(tmp_path):
    """At 100 : 1 the whole of it resized to 4,096 pixels a side would take 1.7 GB."""
    (tmp_path / "a.png").write_bytes(gray_png(2, 200))
    outcome = confined(crop_to_4096, tmp_path / "a.png", writes=tmp_path, memory=1 << 29)
    assert outcome.code == 0, outcome.output


def crop_to_4096(path):
    from cohort.decoding import decode
    from cohort.geometry import Geometry, apply_geometry

    assert apply_geometry(decode(path.read_bytes(), "a.png"), Geometry(4096)).shape == (4096, 4096)


def test_text_chunks_do_not_fill_the_memory(tmp_path):
    data = encode(random_image(8, 8))

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(500_000_000), 1))
    profile = chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(500_000_000), 1))
    for extra in (bomb, profile, bomb * 20):
        (tmp_path / "a.png").write_bytes(data[:33] + extra + data[33:])
        outcome = confined(predict, str(tmp_path / "a.png"), writes=tmp_path, memory=1 << 29)
        assert outcome.code in (0, 2) and "Traceback" not in outcome.output, outcome.output


def test_a_link_to_the_root_of_the_disk_is_not_walked(tmp_path):
    write_images(tmp_path / "images", 12)
    (tmp_path / "images" / "more").symlink_to("/")
    message = refusal(build(tmp_path, seconds=20))
    assert "'more' leads to the folder" in message
    message = refusal(confined(predict, str(tmp_path / "images"), writes=tmp_path, seconds=20))
    assert "'more' leads to the folder" in message


def archive(path, count=12):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for i in range(count):
            file.writestr(f"{i}.png", encode(random_image(20, 20 + i, seed=i)))


def test_an_archive_is_read_in_confinement(tmp_path):
    archive(tmp_path / "a.zip")
    outcome = build(tmp_path, "a.zip")
    assert outcome.code == 0, outcome.output


def test_a_member_of_many_gigabytes_is_refused_by_what_it_claims(tmp_path):
    archive(tmp_path / "a.zip", 11)
    with zipfile.ZipFile(tmp_path / "a.zip", "a", zipfile.ZIP_DEFLATED) as file:
        with file.open("11.png", "w") as member:
            for _ in range(300):
                member.write(bytes(1 << 20))
    assert "11.png: has more than 268,435,456 bytes" in refusal(build(tmp_path, "a.zip", memory=200 << 20))


def test_a_member_that_claims_less_than_it_holds_is_read_up_to_what_it_claims(tmp_path):
    archive(tmp_path / "a.zip", 11)
    with zipfile.ZipFile(tmp_path / "a.zip", "a", zipfile.ZIP_DEFLATED) as file:
        with file.open("11.png", "w") as member:
            for _ in range(300):
                member.write(bytes(1 << 20))
    data = (tmp_path / "a.zip").read_bytes()
    claimed, small = struct.pack("<I", 300 << 20), struct.pack("<I", 100)
    assert data.count(claimed) == 2
    (tmp_path / "a.zip").write_bytes(data.replace(claimed, small))
    assert "11.png" in refusal(build(tmp_path, "a.zip", memory=200 << 20))


def test_an_archive_of_a_million_empty_members_is_refused_by_its_directory(tmp_path, monkeypatch):
    """Its list of members would take a gigabyte before one is counted."""
    name = "n" * 200
    entry = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, 200, 0, 0, 0, 0, 0, 0)
    directory = (entry + name.encode()) * 1_200_000
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 65535, 65535, len(directory), 0, 0)
    (tmp_path / "a.zip").write_bytes(directory + end)
    assert "list of members" in refusal(build(tmp_path, "a.zip", memory=300 << 20))


def test_a_member_in_a_compression_that_takes_much_memory_is_refused(tmp_path):
    archive(tmp_path / "a.zip", 11)
    with zipfile.ZipFile(tmp_path / "a.zip", "a", zipfile.ZIP_LZMA) as file:
        file.writestr("11.png", encode(random_image(9, 9)))
    assert "'11.png' (compressed by another method than deflate" in refusal(build(tmp_path, "a.zip"))


def test_members_that_lead_elsewhere_and_broken_archives_are_refused_in_one_line(tmp_path):
    archive(tmp_path / "good.zip")
    good = (tmp_path / "good.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "up.zip", "w") as file:
        file.writestr("../0.png", b"")
    (tmp_path / "cut.zip").write_bytes(good[:-30])
    (tmp_path / "torn.zip").write_bytes(good[200:])
    (tmp_path / "empty.zip").write_bytes(b"PK\5\6" + bytes(18))
    (tmp_path / "text.zip").write_text("no archive")
    for name in ("up", "cut", "torn", "empty", "text", "absent"):
        refusal(build(tmp_path, f"{name}.zip"))
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".zip") == ["t.csv"]


def test_an_archive_with_any_flipped_byte_ends_in_a_cohort_or_in_one_line(tmp_path):
    archive(tmp_path / "a.zip", 3)
    outcome = confined(read_flipped, tmp_path / "a.zip", writes=tmp_path)
    assert outcome.code == 0, outcome.output


def read_flipped(path):
    """List and decode the archive with each of its bytes changed."""
    from cohort.errors import InputError
    from cohort.image_files import ImageFiles, inspect_images, list_files

    data = path.read_bytes()
    flipped = path.with_name("flipped.zip")
    for position in range(len(data)):
        flipped.write_bytes(data[:position] + bytes([data[position] ^ 0x41]) + data[position + 1 :])
        try:
            inspect_images(ImageFiles(flipped, list_files(flipped)))
        except InputError as error:
            assert "\n" not in str(error)


def test_broken_streams_are_refused_in_one_line(tmp_path):
    buffer = io.BytesIO()
    buffer.write(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 2**31 - 1) + b"IHDR")
    for name, data in (("a.png", buffer.getvalue()), ("b.jpg", b"\xff\xd8\xff\xe1\xff\xff" + bytes(70_000))):
        (tmp_path / name).write_bytes(data)
        refusal(confined(predict, str(tmp_path / name), writes=tmp_path))
