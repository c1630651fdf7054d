"""The two halves of a loss, its ranges and its maths, know the same losses and the same parameters."""

import pytest

from cohort.errors import InputError
from search_spaces import fine_tune, linear_probe
from search_spaces.losses import PARAMETERS, USUAL
from trainables.losses import LOSSES


def under(loss: str) -> tuple[str, ...]:
    return tuple(name for name, one in PARAMETERS.items() if one.under and loss in one.under.choices)


def test_every_loss_that_is_searched_can_be_computed_and_has_the_parameters_it_takes():
    loss = PARAMETERS["loss"]
    assert loss.search + loss.multiclass + loss.ordinal == tuple(LOSSES)
    assert loss.multiclass + loss.ordinal == tuple(name for name, one in LOSSES.items() if one.of_rows)
    for name, loss in LOSSES.items():
        assert under(name) == loss.parameters


def test_every_space_has_the_same_losses():
    for space in (linear_probe, fine_tune):
        assert {name: space.PARAMETERS[name] for name in PARAMETERS} == PARAMETERS


@pytest.mark.parametrize("space", [linear_probe, fine_tune])
def test_under_every_loss_there_is_somewhere_to_start(space):
    assert set(USUAL) == {name for loss in LOSSES for name in under(loss)}
    for loss in LOSSES:
        starts = space.warm_starts({"loss": loss}, multiclass=True, ordinal=True)
        assert len(starts) == len(space.WARM_STARTS)


@pytest.mark.parametrize("space", [linear_probe, fine_tune])
def test_softmax_is_searched_where_labels_are_multiclass_and_only_there(space):
    searched = space.SPACE.for_labels(True).searched("loss", {})
    assert searched == ("bce", "focal", "asymmetric", "softmax")
    assert space.SPACE.for_labels(False).searched("loss", {}) == ("bce", "focal", "asymmetric")
    first = [start["loss"] for start in space.warm_starts(multiclass=True)]
    assert first[:4] == ["softmax", "bce", "softmax", "bce"]
    assert {start["loss"] for start in space.warm_starts()} == {"bce"}
    assert space.SPACE.for_labels(True, {"loss": "softmax"}).multiclass


@pytest.mark.parametrize("space", [linear_probe, fine_tune])
def test_squared_emd_is_searched_where_labels_have_an_order_and_only_there(space):
    grades = space.SPACE.for_labels(True, ordinal=True)
    assert grades.searched("loss", {}) == ("bce", "focal", "asymmetric", "softmax", "squared_emd")
    first = [start["loss"] for start in space.warm_starts(multiclass=True, ordinal=True)]
    assert first[:4] == ["softmax", "bce", "squared_emd", "bce"]
    with pytest.raises(InputError, match=r"squared_emd is for grades in their order.*among bce.*softmax$"):
        space.SPACE.for_labels(True, {"loss": "squared_emd"})


@pytest.mark.parametrize("space", [linear_probe, fine_tune])
@pytest.mark.parametrize(
    ("where", "value"), [("fixed", "softmax"), ("ranges", ["bce", "softmax"]), ("ranges", ["softmax"])]
)
def test_softmax_is_refused_for_independent_labels(space, where, value):
    given = {where: {"loss": value}}
    space.check(**given)  # the file alone does not say what the labels are
    space.SPACE.for_labels(True, **given)
    with pytest.raises(InputError) as caught:
        space.SPACE.for_labels(False, **given)
    message = str(caught.value)
    assert (
        message.startswith(f"search.{where}.loss: softmax is for multiclass labels") and "\n" not in message
    )
    assert message.endswith("choose among bce, focal, asymmetric")
