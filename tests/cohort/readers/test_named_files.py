"""From the names in a table to the files."""

import pytest

from cohort.errors import InputError
from cohort.readers.named_files import find_files


def find(names, files, root="root"):
    return find_files([[name] for name in names], files, root)[0]


def warned(names, files, root="root"):
    return find_files([[name] for name in names], files, root)[1]


@pytest.mark.parametrize("name", ["1.png", "1", "a/1.png", "a/1", "x/a/1.png", "/abs/x/a/1", "a\\1.png"])
def test_a_name_fits_with_or_without_ending_and_folders(name):
    assert find([name], ["a/1.png", "a/2.png"]) == ["a/1.png"]


@pytest.mark.parametrize("name", ["b/1.png", "11.png", "1.jpg", "a", "/", "."])
def test_another_path_does_not_fit(name):
    assert find([name], ["a/1.png", "a/2.jpg"]) == [None]


def test_the_folders_in_front_of_a_name_may_be_those_of_the_root(tmp_path):
    assert find(["CheXpert/train/p1/1.png", "train/2.png"], ["p1/1.png", "2.png"], "data/train") == [
        "p1/1.png",
        "2.png",
    ]
    assert warned(["CheXpert/train/p1/1.png"], ["p1/1.png"], "data/train") == []
    assert find(["a/1.png"], ["1.png"], "data/../a/") == ["1.png"]
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "b.zip").write_bytes(b"")
    assert find(["a/1.png"], ["1.png"], tmp_path / "link") == ["1.png"]
    assert find(["b/1.png"], ["1.png"], tmp_path / "b.zip") == ["1.png"]


def test_a_name_in_one_folder_is_not_the_file_of_another():
    assert find(["b/1.png"], ["1.png"], "images/a") == [None]
    assert find(["b/1.png", "a/2.png"], ["1.png", "2.png"], "images/a") == [None, "2.png"]
    assert find(["a/p1/1.png", "b/p1/1.png"], ["p1/1.png"], "images/a") == ["p1/1.png", None]
    assert find(["p2/1.png", "b/p1/1.png"], ["p1/1.png", "p2/1.png"], "images/a") == ["p2/1.png", None]
    assert warned(["b/1.png", "b/2.png"], ["1.png", "2.png"], "images/a") == [
        "2 names lead through another folder than images/a: 'b/1.png' is not taken for its '1.png'; give the "
        "folder that they start from"
    ]


def test_folders_in_front_of_every_name_may_be_those_of_a_root_that_was_renamed():
    """As in the archive of CheXpert-small, whose folder the table calls by the longer name."""
    files = ["train/p1/1.png", "valid/p2/1.png"]
    names = [f"CheXpert-v1.0-small/{file}" for file in files]
    assert find(names, files, "archive") == files
    assert warned(names, files, "archive") == [
        "the folder 'CheXpert-v1.0-small' in front of 2 names is taken for archive"
    ]


def test_dots_in_a_name_are_not_taken_for_an_ending():
    assert find(["1_IM-0001-4001.dcm", "v1.2"], ["1_IM-0001-4001.dcm.png", "v1.2.jpg"]) == [
        "1_IM-0001-4001.dcm.png",
        "v1.2.jpg",
    ]


def test_an_exact_path_wins_and_then_the_longest_fit():
    files = ["1.png", "a/1.png", "b/a/1.png"]
    assert find(["1.png"], files) == ["1.png"]
    assert find(["x/b/a/1.png"], files) == ["b/a/1.png"]
    assert find(["a/1"], files) == ["a/1.png"]
    assert find(["1.png"], ["1.png", "1.png.jpg"]) == ["1.png"]


@pytest.mark.parametrize("files", [["a/1.png", "b/1.png"], ["1.png", "1.jpg"]])
def test_a_name_that_fits_several_files_is_refused(files):
    with pytest.raises(InputError, match=r"the image '1' may be .*; name it with its folder and ending"):
        find(["1"], files)


def test_two_names_of_one_file_are_refused():
    with pytest.raises(InputError, match=r"'1' and '1\.png' both stand for the file '1\.png'"):
        find(["1", "1.png"], ["1.png"])


def test_a_name_that_climbs_out_is_refused():
    with pytest.raises(InputError, match=r"'\.\./1\.png' leads out of its folder"):
        find(["../1.png"], ["1.png"])


def test_the_first_alternative_that_is_there_is_taken():
    alternatives = [["1.dcm.png", "CXR1.png"], ["2.dcm.png", "CXR2.png"], ["3.dcm.png", "CXR3.png"]]
    found, warnings = find_files(alternatives, ["CXR1.png", "2.dcm.png"], "root")
    assert found == ["CXR1.png", "2.dcm.png", None] and warnings == []


def test_many_files_of_the_same_name_are_found_in_linear_time():
    """As in CheXpert, where 65,000 folders hold a `view1_frontal.jpg`; a scan a name would take minutes."""
    files = [f"train/patient{n:05}/study1/view1_frontal.jpg" for n in range(30_000)]
    names = [f"CheXpert-v1.0-small/{file}" for file in files]
    assert find(names, files) == files
    assert find([f"patient{n:05}/study1/view1_frontal" for n in range(30_000)], files) == files
    assert find(["other/view1_frontal.jpg"], files) == [None]


COMPOSED, APART = "M\u00fcller", "Mu\u0308ller"


@pytest.mark.parametrize(("name", "file"), [(COMPOSED, APART), (APART, COMPOSED)])
def test_a_letter_may_be_written_in_either_way_of_unicode(name, file):
    assert find([f"{name}.png", f"{name}/2"], [f"{file}.png", f"{file}/2.png"]) == [
        f"{file}.png",
        f"{file}/2.png",
    ]
    assert find([f"{name}/1.png"], ["1.png"], f"data/{file}") == ["1.png"]


def test_of_two_files_that_look_alike_the_one_that_is_written_so_is_meant_or_they_are_told_apart():
    both = [f"{COMPOSED}.png", f"{APART}.png"]
    assert find(both, both) == both
    with pytest.raises(InputError, match=r"names look alike, 'M\\xfcller.png' and 'Mu\\u0308ller.png'"):
        find([COMPOSED], both)


@pytest.mark.parametrize("name", ["IM004832.jpg", "IM004832.JPG", "x/IM004832.Jpg"])
def test_the_case_of_an_ending_does_not_count(name):
    assert find([name], ["x/IM004832.JPG", "x/1.jpg"]) == ["x/IM004832.JPG"]


def test_an_ending_that_no_file_has_is_no_part_of_a_name_and_that_is_said():
    names, files = ["1.dcm", "2.dcm"], ["1.png", "2.png"]
    assert find(names, files) == files
    assert warned(names, files) == [
        "2 names end otherwise than their files ('1.dcm' is taken for '1.png'): no file ends in .dcm"
    ]
    assert find_files([["1.dcm"]], ["1.png"], "root", ["2.dcm"])[0] == [None]
    with pytest.raises(InputError, match=r"may be '1\.jpg' or '1\.png'"):
        find(["1.dcm"], ["1.jpg", "1.png"])


def test_what_stands_behind_the_last_dot_of_an_id_is_no_ending():
    assert find(["1.2.840.10"], ["1.2.840.10.55"]) == [None]
    assert find(["1.2.840.10.55"], ["1.2.840.10.55.png", "1.2.840.10.99.png"]) == ["1.2.840.10.55.png"]
