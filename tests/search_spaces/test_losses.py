"""The two halves of a loss, its ranges and its maths, know the same losses and the same parameters."""

import pytest

from search_spaces import fine_tune, linear_probe
from search_spaces.losses import PARAMETERS, USUAL
from trainables.losses import LOSSES


def under(loss: str) -> tuple[str, ...]:
    return tuple(name for name, one in PARAMETERS.items() if one.under and loss in one.under.choices)


def test_every_loss_that_is_searched_can_be_computed_and_has_the_parameters_it_takes():
    assert PARAMETERS["loss"].search == tuple(LOSSES)
    for name, loss in LOSSES.items():
        assert under(name) == loss.parameters


def test_every_space_has_the_same_losses():
    for space in (linear_probe, fine_tune):
        assert {name: space.PARAMETERS[name] for name in PARAMETERS} == PARAMETERS


@pytest.mark.parametrize("space", [linear_probe, fine_tune])
def test_under_every_loss_there_is_somewhere_to_start(space):
    assert set(USUAL) == {name for loss in LOSSES for name in under(loss)}
    for loss in LOSSES:
        assert len(space.warm_starts({"loss": loss})) == len(space.WARM_STARTS)
