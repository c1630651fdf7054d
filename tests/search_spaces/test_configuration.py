from dataclasses import replace

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


def test_a_configuration_keeps_its_params_in_the_spaces_order():
    for params in ({"kind": "plain"}, {"depth": 9, "kind": "deep"}):
        toy = Configuration(SPACE, 3, params, seed=4)
        assert (toy.number, toy.seed, toy.params) == (3, 4, params)
        assert list(toy.params) == [name for name in ("kind", "depth") if name in params]
        assert toy.params is not params
        assert replace(toy, seed=4) == toy != replace(toy, seed=5)
        assert toy.preset == "" and replace(toy, preset="paper").preset == "paper"


def test_a_parameter_is_read_by_name_and_has_a_default_only_where_it_does_not_exist():
    plain, deep = (
        Configuration(SPACE, 0, params) for params in ({"kind": "plain"}, {"kind": "deep", "depth": 2})
    )
    assert (plain["kind"], deep["depth"]) == ("plain", 2)
    assert (plain.get("depth", 0), deep.get("depth", 0)) == (0, 2)
    with pytest.raises(KeyError, match="depth"):
        plain["depth"]
    with pytest.raises(KeyError, match="dept"):
        plain.get("dept", 0)


@pytest.mark.parametrize(
    ("number", "seed", "params", "message"),
    [
        (-1, 0, {"kind": "plain"}, "number must be a whole number from 0, not -1"),
        (0, True, {"kind": "plain"}, "seed must be a whole number from 0, not True"),
        (0, 0, {"kind": "wide"}, "kind must be one of plain, deep, not 'wide'"),
        (0, 0, {"kind": "deep", "depth": 10}, "depth must be a whole number from 1 to 9, not 10"),
        (0, 0, {"kind": "plain", "depth": 2}, "depth belongs to the kind deep, not to plain; leave it out"),
        (0, 0, {"kind": "plain", "width": 1}, "params must be names of the space toy, not width"),
        (0, 0, {"kind": "deep"}, "params must be a whole configuration, not one without depth"),
        (0, 0, {}, "params must be a whole configuration, not one without kind"),
    ],
)
def test_what_lies_outside_the_space_is_refused(number, seed, params, message):
    with pytest.raises(ValueError) as raised:
        Configuration(SPACE, number, params, seed)
    assert str(raised.value) == message
