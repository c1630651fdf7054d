"""Assembling: from the names in a table to the files."""

import pytest

from cohort.errors import InputError
from cohort.readers.assemble import find_files


def find(names, files):
    return find_files([[name] for name in names], files, "root")


@pytest.mark.parametrize("name", ["1.png", "1", "a/1.png", "a/1", "x/a/1.png", "/abs/x/a/1", "a\\1.png"])
def test_a_name_fits_with_or_without_ending_and_folders(name):
    assert find([name], ["a/1.png", "a/2.png"]) == ["a/1.png"]


@pytest.mark.parametrize("name", ["b/1.png", "11.png", "1.jpg", "a", "/", "."])
def test_another_path_does_not_fit(name):
    assert find([name], ["a/1.png"]) == [None]


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
    assert find_files(alternatives, ["CXR1.png", "2.dcm.png"], "root") == ["CXR1.png", "2.dcm.png", None]


def test_many_files_of_the_same_name_are_found_in_linear_time():
    """As in CheXpert, where 65,000 folders hold a `view1_frontal.jpg`; a scan a name would take minutes."""
    files = [f"train/patient{n:05}/study1/view1_frontal.jpg" for n in range(30_000)]
    names = [f"CheXpert-v1.0-small/{file}" for file in files]
    assert find(names, files) == files
    assert find([f"patient{n:05}/study1/view1_frontal" for n in range(30_000)], files) == files
    assert find(["other/view1_frontal.jpg"], files) == [None]
