"""The options that all readers take, and the contract of a reader."""

import argparse
import importlib
from dataclasses import dataclass

import pytest

from cohort.errors import InputError
from cohort.readers import READERS
from cohort.readers.name_lists import comma_separated
from cohort.readers.options import (
    SharedOptions,
    add_options,
    numbers,
    option,
    options_of,
    uncertain_rules,
)


def parsed(*argv, kind=SharedOptions):
    parser = argparse.ArgumentParser()
    add_options(parser, kind)
    return options_of(parser.parse_args(argv), kind)


def test_what_is_not_given_is_left_to_the_reader():
    assert parsed() == SharedOptions()
    given = parsed("--blank", "missing", "--no-finding", "strict", "--licence", "CC0", "--seed", "3")
    assert given == SharedOptions(blank="missing", no_finding="strict", licence="CC0", seed=3)
    assert parsed("--intensity", "window:0,4095").intensity == "window:0,4095"


def test_a_field_of_a_reader_s_own_options_is_an_option_before_the_shared_ones(capsys):
    @dataclass(frozen=True, kw_only=True)
    class Own(SharedOptions):
        rater_column: str | None = option(None, metavar="C")

    assert parsed("--rater-column", "who", "--seed", "2", kind=Own) == Own(rater_column="who", seed=2)
    with pytest.raises(SystemExit):
        parsed("--help", kind=Own)
    printed = capsys.readouterr().out
    assert printed.index("--rater-column") < printed.index("--seed")


def test_uncertain_is_one_rule_or_one_a_label():
    assert parsed("--uncertain", "ones").uncertain == "ones"
    assert parsed("--uncertain", "A=ones, B C=zeros").uncertain == {"A": "ones", "B C": "zeros"}
    with pytest.raises(argparse.ArgumentTypeError, match="B: expected LABEL=ignore"):
        uncertain_rules("A=ones,B")


def test_fractions_are_numbers():
    assert parsed("--fractions", "0.6, 0.2,0.2").fractions == [0.6, 0.2, 0.2]
    with pytest.raises(argparse.ArgumentTypeError, match="60%,20%,20%: expected numbers"):
        numbers("60%,20%,20%")


def test_label_names_are_names_and_prompts(tmp_path):
    assert parsed("--label-names", "a=an A").label_names == {"a": "an A"}
    (tmp_path / "names.yaml").write_text("a: {prompts: [an A]}")
    given = parsed("--label-names", str(tmp_path / "names.yaml"))
    assert given.label_names == {} and given.label_prompts == {"a": ("an A",)}
    with pytest.raises(InputError, match="expected LABEL=NAME"):
        parsed("--label-names", "a")


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
    words = reader.EXAMPLE.split()
    assert words[:2] == ["radtune", "cohort"] and "\n" not in reader.HELP
    left = parser.parse_known_args(words[3:])[1]
    assert left[0] == "--out" and left[1].startswith("images.csv" if name == "dicom" else "cohorts/")
