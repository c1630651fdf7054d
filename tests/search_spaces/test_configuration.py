from dataclasses import dataclass

import pytest

from search_spaces.configuration import Configuration
from search_spaces.parameters import Interval, Parameter, Space, Under

SPACE = Space(
    "toy",
    {
        "kind": Parameter(search=("plain", "deep"), meaning="how"),
        "depth": Parameter(
            search=Interval(low=1, high=4),
            allowed=Interval(low=1, high=9),
            integer=True,
            under=Under(name="kind", choices=("deep",)),
            meaning="how deep",
        ),
    },
)


@dataclass(frozen=True, kw_only=True)
class Toy(Configuration):
    space = SPACE

    kind: str
    depth: int = 0


def test_a_configuration_comes_back_as_its_params():
    for params in ({"kind": "plain"}, {"kind": "deep", "depth": 9}):
        toy = Toy.from_params(3, params, seed=4)
        assert (toy.number, toy.seed, toy.params) == (3, 4, params)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"number": -1, "kind": "plain"}, "number must be a whole number from 0, not -1"),
        ({"number": 0, "seed": True, "kind": "plain"}, "seed must be a whole number from 0, not True"),
        ({"number": 0, "kind": "wide"}, "kind must be one of plain, deep, not 'wide'"),
        ({"number": 0, "kind": "deep", "depth": 10}, "depth must be a whole number from 1 to 9, not 10"),
        ({"number": 0, "kind": "deep"}, "depth must be a whole number from 1 to 9, not 0"),
        (
            {"number": 0, "kind": "plain", "depth": 2},
            "depth belongs to the kind deep; without it must be 0, not 2",
        ),
    ],
)
def test_what_lies_outside_the_space_is_refused(arguments, message):
    with pytest.raises(ValueError) as raised:
        Toy(**arguments)
    assert str(raised.value) == message


def test_params_must_be_the_spaces_own_and_all_of_them():
    with pytest.raises(ValueError, match="names of the space toy, not width"):
        Toy.from_params(0, {"kind": "plain", "width": 1})
    with pytest.raises(ValueError, match="not one without depth"):
        Toy.from_params(0, {"kind": "deep"})
