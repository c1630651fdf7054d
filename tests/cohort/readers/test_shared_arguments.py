"""The options that all readers share, and the contract of a reader."""

import argparse
import importlib

import pytest

from cohort.errors import InputError
from cohort.readers import READERS
from cohort.readers.name_lists import comma_separated
from cohort.readers.shared_arguments import add_shared_arguments, shared


def parsed(*argv):
    parser = argparse.ArgumentParser()
    add_shared_arguments(parser)
    return shared(parser.parse_args(["--out", "c", *argv]))


def test_what_is_not_given_is_left_to_the_reader():
    assert parsed() == {
        "out": "c",
        "seed": 0,
        "uncertain": "ignore",
        "skip_unreadable": False,
        "allow_duplicates": False,
    }
    given = parsed("--blank", "missing", "--no-finding", "strict", "--licence", "CC0", "--seed", "3")
    assert given["blank"] == "missing" and given["no_finding"] == "strict"
    assert given["licence"] == "CC0" and given["seed"] == 3
    assert parsed("--intensity", "window:0,4095")["intensity"] == "window:0,4095"


def test_uncertain_is_one_rule_or_one_a_label():
    assert parsed("--uncertain", "ones")["uncertain"] == "ones"
    assert parsed("--uncertain", "A=ones, B C=zeros")["uncertain"] == {"A": "ones", "B C": "zeros"}
    with pytest.raises(InputError, match="--uncertain B: expected LABEL=ignore"):
        parsed("--uncertain", "A=ones,B")


def test_fractions_are_numbers():
    assert parsed("--fractions", "0.6, 0.2,0.2")["fractions"] == [0.6, 0.2, 0.2]
    with pytest.raises(InputError, match="--fractions 60%,20%,20%: expected numbers"):
        parsed("--fractions", "60%,20%,20%")


def test_label_names_are_names_and_prompts(tmp_path):
    assert parsed("--label-names", "a=an A")["label_names"] == {"a": "an A"}
    (tmp_path / "names.yaml").write_text("a: {prompts: [an A]}")
    given = parsed("--label-names", str(tmp_path / "names.yaml"))
    assert given["label_names"] == {} and given["label_prompts"] == {"a": ("an A",)}


def test_names_are_separated_by_commas():
    assert comma_separated(" PA, AP,") == ["PA", "AP"] and comma_separated("") == []
    assert comma_separated('"Mass, left", AP, 5" film') == ["Mass, left", "AP", '5" film']
    with pytest.raises(argparse.ArgumentTypeError, match="quotes around one that holds a comma"):
        comma_separated('"Mass, left')


@pytest.mark.parametrize("name", READERS)
def test_a_reader_s_own_example_is_understood_by_its_options(name):
    reader = importlib.import_module(f"cohort.readers.{name}")
    parser = argparse.ArgumentParser()
    reader.arguments(parser)
    add_shared_arguments(parser)
    words = reader.EXAMPLE.split()
    assert words[:2] == ["radtune", "cohort"] and "\n" not in reader.HELP
    assert parser.parse_args(words[3:]).out.startswith("cohorts/")
