"""YAML of strangers: bounded, and every refusal is a ValueError in one line."""

import datetime

import pytest

from cohort.limits import DEEPEST_YAML, LONGEST_NUMBER
from cohort.yaml_files import parse_yaml


def test_plain_values_are_those_of_yaml():
    text = "a: [1, 2.5, x, null, true]\nb: {c: 2001-02-03}\nd: " + "y" * 1000
    assert parse_yaml(text) == {
        "a": [1, 2.5, "x", None, True],
        "b": {"c": datetime.date(2001, 2, 3)},
        "d": "y" * 1000,
    }


def test_the_bounds_of_depth_and_of_numbers_are_where_they_are_said_to_be():
    for opening, closing in (("[", "]"), ("{a: ", "}")):
        deep = DEEPEST_YAML - (opening != "[") - 1
        parse_yaml(opening * deep + "1" + closing * deep)
        with pytest.raises(ValueError, match=f"nested more than {DEEPEST_YAML} deep"):
            parse_yaml(opening * (deep + 2) + "1" + closing * (deep + 2))
    assert parse_yaml("9" * LONGEST_NUMBER) == 10**LONGEST_NUMBER - 1
    with pytest.raises(ValueError, match=f"a number or date of more than {LONGEST_NUMBER} characters"):
        parse_yaml("9" * (LONGEST_NUMBER + 1))


@pytest.mark.parametrize(
    "text",
    [
        "a: &a 1\nb: *a",
        "!!bool maybe",
        "!!int ''",
        "!!timestamp x",
        "2001-99-99",
        "!!python/name:os.system",
        "[",
    ],
)
def test_what_is_no_plain_value_is_a_value_error_in_one_line(text):
    with pytest.raises(ValueError) as error:
        parse_yaml(text)
    assert "\n" not in str(error.value)
