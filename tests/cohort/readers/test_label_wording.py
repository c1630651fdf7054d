"""Other words for labels, from the command line or a YAML file."""

import pytest

from cohort.errors import InputError
from cohort.readers.label_wording import read_wording
from tests.conftest import REPOSITORY


def written(tmp_path, text):
    (tmp_path / "names.yaml").write_text(text, encoding="utf-8")
    return str(tmp_path / "names.yaml")


def test_names_on_the_command_line():
    assert read_wording("nv=melanocytic nevus, mel = melanoma") == (
        {"nv": "melanocytic nevus", "mel": "melanoma"},
        {},
    )


def test_names_and_prompts_of_a_file(tmp_path):
    text = """
nv: melanocytic nevus, a mole
mel: {name: melanoma, prompts: [a melanoma, a dark lesion]}
bcc: {prompts: [a basal cell carcinoma]}
"""
    names, prompts = read_wording(written(tmp_path, text))
    assert names == {"nv": "melanocytic nevus, a mole", "mel": "melanoma"}
    assert prompts == {"mel": ("a melanoma", "a dark lesion"), "bcc": ("a basal cell carcinoma",)}


@pytest.mark.parametrize("text", ["nv", "nv=", "=mole", "nv=a,mel", "nv=a,,mel=b", "names.json"])
def test_what_is_neither_names_nor_a_file_is_refused(text):
    with pytest.raises(InputError, match=r"expected LABEL=NAME,LABEL=NAME or the path of a \.yaml file"):
        read_wording(text)


def test_a_label_that_is_named_twice_is_refused():
    with pytest.raises(InputError, match="label 'nv' is named twice"):
        read_wording("nv=a,nv=b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a line `label: name`"),
        ("- nv", "expected a line `label: name`"),
        ("nv: [", "not valid YAML"),
        ("nv: 2001-99-99", "not valid YAML"),
        ("[" * 20_000, "not valid YAML"),
        ("nv: !!python/object/apply:os.getcwd []", "not valid YAML"),
        ("no: not there", "label False is no text to YAML; put it in quotes"),
        ("nv: 5", "of label 'nv' must be text, not int; put them in quotes"),
        ("nv: {name: mole, prompt: [a]}", "label 'nv' may have name and prompts, not 'prompt'"),
        ("nv: {prompts: a mole}", "the prompts of label 'nv' must be a list"),
        ("nv: {prompts: [[a], b]}", "of label 'nv' must be text, not list"),
        ("a: &a {name: b}\nc: {<<: [*a, *a]}", "aliases .* are not taken"),
        ("x: " + "y" * 300_000, "has more than 262,144 bytes; shorten it"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(tmp_path, text, message):
    path = written(tmp_path, text)
    with pytest.raises(InputError, match=message) as error:
        read_wording(path)
    assert str(error.value).startswith(path) and "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such file of label names"):
        read_wording(str(tmp_path / "absent.yaml"))


def test_the_example_of_the_page_on_prompts_is_read_as_it_says(tmp_path):
    page = (REPOSITORY / "docs" / "prompts.md").read_text()
    (tmp_path / "labels.yaml").write_text(page.split("```yaml\n")[1].split("```")[0])
    names, prompts = read_wording(str(tmp_path / "labels.yaml"))
    assert names == {"nv": "melanocytic nevus", "mel": "melanoma"}
    assert prompts["mel"] == ("a dermoscopic image of a melanoma", "a dark lesion with irregular borders")
    assert prompts["bkl"] == ("a stuck-on waxy lesion",)
