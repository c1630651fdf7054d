"""Image files: folders and archives listed and read, and one pass over them."""

import hashlib
import os
import pickle
import zipfile
from unicodedata import normalize

import numpy as np
import pytest
from PIL import ExifTags, Image

from cohort.decoders.decoded import TURNED
from cohort.errors import InputError
from cohort.image_files import (
    ImageFiles,
    climbs_out,
    find_images,
    image_names,
    inspect_images,
    list_files,
    read_image,
)
from tests.cohort.made_images import encode, random_image, write_images


def test_a_folder_and_an_archive_list_and_read_alike(tmp_path):
    names = write_images(tmp_path / "images" / "deep", 3)
    (tmp_path / "images" / "notes.txt").write_text("no image")
    (tmp_path / "images" / "B.JPG").write_bytes(encode(random_image(4, 4), "JPEG"))
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for file in (tmp_path / "images").rglob("*.*"):
            archive.write(file, file.relative_to(tmp_path / "images"))
        archive.writestr("__MACOSX/._0.png", b"resource fork")
    listed = list_files(tmp_path / "images")
    assert listed == ["B.JPG", *(f"deep/{name}" for name in names), "notes.txt"]
    assert list_files(tmp_path / "images.zip") == listed
    folder, archive = ImageFiles(tmp_path / "images", listed), ImageFiles(tmp_path / "images.zip", listed)
    assert [folder.read(i) for i in range(4)] == [archive.read(i) for i in range(4)]
    assert pickle.loads(pickle.dumps(archive)).read(1) == folder.read(1)


def test_words_are_files_folders_and_patterns(tmp_path, monkeypatch):
    write_images(tmp_path / "scans" / "deep", 2)
    write_images(tmp_path / "scans", 1)
    for name in ("[1].png", "notes.txt"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    assert find_images(["scans", "missing.png", "notes.txt"]) == [
        *("scans/0.png", "scans/deep/0.png", "scans/deep/1.png", "missing.png", "notes.txt"),
    ]
    assert find_images(["scans/deep/*.png"]) == ["scans/deep/0.png", "scans/deep/1.png"]
    assert find_images(["[1].png"]) == ["[1].png"], "a file is no pattern"
    (tmp_path / "scans" / "a.dcm").write_bytes(b"")
    assert find_images(["scans"])[1] == "scans/a.dcm", "no image, but not passed over either"
    with pytest.raises(InputError, match=r"scans/\*.gif: no image there; images end in .png"):
        find_images(["scans/*.gif"])
    monkeypatch.setattr("cohort.image_files.MOST_FILES", 2)
    with pytest.raises(InputError, match="more than 2 images; take a part of them at a time"):
        find_images(["scans/0.png", "scans/deep/*.png"])


@pytest.mark.parametrize(("stored", "typed"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_a_word_may_spell_its_letters_in_another_way_than_the_disk(tmp_path, stored, typed):
    there, here = (f"{tmp_path}/{normalize(form, 'Größe/Müller.png')}" for form in (stored, typed))
    os.mkdir(os.path.dirname(there))
    data = encode(random_image(4, 4), "PNG")
    with open(there, "wb") as file:
        file.write(data)
    for word in (here, os.path.dirname(here), here.replace("ller", "*")):
        assert find_images([word]) == [there], word
    assert read_image(here) == data


def test_of_two_files_that_look_alike_the_one_spelled_so_is_taken_and_no_third(tmp_path):
    composed, apart = (tmp_path / f"{normalize(form, 'ǖ')}.png" for form in ("NFC", "NFD"))
    for path in (composed, apart):
        path.touch()
    assert find_images([composed, apart]) == [str(composed), str(apart)]
    half = tmp_path / "ü\u0304.png"
    with pytest.raises(InputError, match=r"two names that look alike, .* rename one"):
        find_images([half])


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
        list_files(tmp_path / "a.zip")


def test_links_inside_are_followed_but_not_in_circles(tmp_path):
    write_images(tmp_path / "real", 1)
    (tmp_path / "real" / "deep").mkdir()
    (tmp_path / "real" / "deep" / "back").symlink_to(tmp_path / "real")
    (tmp_path / "elsewhere.png").write_bytes(encode(random_image(4, 4)))
    (tmp_path / "real" / "a-file.png").symlink_to(tmp_path / "elsewhere.png")
    (tmp_path / "linked").symlink_to(tmp_path / "real")
    for root in ("real", "linked"):
        assert list_files(tmp_path / root) == ["0.png", "a-file.png"]


def test_a_link_to_a_folder_outside_is_refused_by_name(tmp_path):
    write_images(tmp_path / "images", 1)
    (tmp_path / "real" / "images").mkdir(parents=True)
    (tmp_path / "images" / "more").symlink_to(tmp_path / "real")
    with pytest.raises(InputError, match=r"the link 'more' leads to the folder .*real, outside"):
        list_files(tmp_path / "images")


def test_more_files_than_a_data_set_has_are_refused(tmp_path, monkeypatch):
    write_images(tmp_path / "images", 3)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for file in (tmp_path / "images").iterdir():
            archive.write(file, file.name)
    monkeypatch.setattr("cohort.image_files.MOST_FILES", 2)
    for root in ("images", "a.zip"):
        with pytest.raises(InputError, match="more than 2 files there; give a folder of images alone"):
            list_files(tmp_path / root)


def test_large_archives_are_read_whatever_their_list_and_comment(tmp_path, monkeypatch):
    """zip64, as archives of many or large members are, and a comment that looks like an end."""
    names = write_images(tmp_path / "images", 2)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in names:
            archive.write(tmp_path / "images" / name, name)
    assert b"PK\6\7" in (tmp_path / "a.zip").read_bytes()
    assert list_files(tmp_path / "a.zip") == names
    with zipfile.ZipFile(tmp_path / "a.zip", "a") as archive:
        archive.comment = b"x" * 60_000
    assert list_files(tmp_path / "a.zip") == names
    monkeypatch.setattr("cohort.image_files.LARGEST_DIRECTORY", 50)
    with pytest.raises(InputError, match="its list of members has more than 50 bytes; unpack the archive"):
        list_files(tmp_path / "a.zip")


def test_images_that_are_neither_folder_nor_archive_are_refused(tmp_path):
    (tmp_path / "images.tar").write_bytes(b"no archive")
    for name in ("images.tar", "absent"):
        with pytest.raises(InputError, match="must be a folder or a zip archive"):
            list_files(tmp_path / name)


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


def test_the_pass_counts_the_values_of_16_bit_images_that_are_trained_on(tmp_path):
    names = write_images(tmp_path, 1)
    for name, values in (("a.png", [5, 5, 7]), ("b.png", [9, 9, 60_000])):
        (tmp_path / name).write_bytes(encode(np.array([values], dtype=np.uint16)))
    files = ImageFiles(tmp_path, [*names, "a.png", "b.png"])
    counted = inspect_images(files, training={0, 1})
    assert counted.gray_16_bit == [1, 2]
    assert {int(v): int(counted.counts_V[v]) for v in np.flatnonzero(counted.counts_V)} == {5: 2, 7: 1}
    # None of the images that are trained on has 16 bits, so all others count.
    assert np.flatnonzero(inspect_images(files, training={0}).counts_V).tolist() == [5, 7, 9, 60_000]


def test_the_pass_counts_what_it_turned(tmp_path):
    write_images(tmp_path, 2)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    (tmp_path / "1.png").write_bytes(encode(random_image(4, 6), exif=exif))
    assert inspect_images(ImageFiles(tmp_path, ["0.png", "1.png"])).notes == {TURNED: [1]}


def test_the_pass_names_blank_images(tmp_path):
    write_images(tmp_path, 1)
    (tmp_path / "1.png").write_bytes(encode(np.full((5, 6), 17, dtype=np.uint8)))
    (tmp_path / "2.png").write_bytes(encode(np.full((5, 6, 3), [1, 2, 3], dtype=np.uint8)))
    assert inspect_images(ImageFiles(tmp_path, ["0.png", "1.png", "2.png"])).blank == [1, 2]


def test_files_larger_than_an_image_may_be_are_not_read(tmp_path, monkeypatch):
    names = write_images(tmp_path / "images", 1)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0.png", bytes(10**6))
    monkeypatch.setattr("cohort.image_files.LARGEST_IMAGE_FILE", 100)
    for root in (tmp_path / "images", tmp_path / "a.zip"):
        with pytest.raises(
            InputError, match=r"0\.png: has more than 100 bytes; an image file may have no more"
        ):
            ImageFiles(root, names).read(0)
    with pytest.raises(InputError, match="has more than 100 bytes"):
        read_image(tmp_path / "images" / names[0])


def test_a_pipe_among_the_images_is_named_instead_of_waited_for(tmp_path):
    os.mkfifo(tmp_path / "0.png")
    with pytest.raises(InputError, match=r"cannot read '0\.png' \(not a regular file\)"):
        ImageFiles(tmp_path, ["0.png"]).read(0)


def test_images_are_known_by_their_ending_or_by_what_they_begin_with(tmp_path):
    data = encode(random_image(4, 4))
    for name in ("a.png", "IM0001", "1.2.840.99", "DICOMDIR", "notes.txt", "b.xyz"):
        (tmp_path / name).write_bytes(data)
    for name in ("LICENSE", "c.svs", "d.dcm"):
        (tmp_path / name).write_bytes(b"text")
    assert image_names(tmp_path, list_files(tmp_path)) == ["1.2.840.99", "IM0001", "a.png", "c.svs", "d.dcm"]
    assert find_images([tmp_path])[0] == str(tmp_path / "1.2.840.99")
