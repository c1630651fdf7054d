"""What may vary in the loss: which one, its own parameters, the weight of positives. Part of every space.

`softmax` makes the labels of an image share one probability, which only multiclass ones do; `squared_emd`
does so too and knows the order of grades.

The losses themselves are in `trainables.losses`, in the same order and with the same names of parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from search_spaces.parameters import Interval, Parameter, Under

_FOCAL = Under(name="loss", choices=("focal",))
_ASYMMETRIC = Under(name="loss", choices=("asymmetric",))

PARAMETERS: dict[str, Parameter] = {
    "loss": Parameter(
        search=("bce", "focal", "asymmetric"),
        multiclass=("softmax",),
        ordinal=("squared_emd",),
        meaning="binary cross-entropy, focal loss or asymmetric loss; for multiclass labels softmax as well, "
        "the cross-entropy over them; for grades in their order squared_emd too, by which a mistake costs "
        "its distance",
    ),
    "focal_gamma": Parameter(
        search=Interval(low=0.5, high=4),
        allowed=Interval(low=0, high=20),
        under=_FOCAL,
        meaning="how far entries that are already right are played down; 0 is binary cross-entropy",
    ),
    "asymmetric_gamma_negative": Parameter(
        search=Interval(low=0, high=6),
        allowed=Interval(low=0, high=20),
        under=_ASYMMETRIC,
        meaning="the same for negative entries",
    ),
    "asymmetric_gamma_positive": Parameter(
        search=Interval(low=0, high=2),
        allowed=Interval(low=0, high=20),
        under=_ASYMMETRIC,
        meaning="the same for positive entries",
    ),
    "asymmetric_clip": Parameter(
        search=Interval(low=0, high=0.1),
        allowed=Interval(low=0, high=0.9),
        under=_ASYMMETRIC,
        meaning="negatives of a probability below this cost nothing",
    ),
    "pos_weight_power": Parameter(
        search=Interval(low=0, high=1),
        allowed=Interval(low=0, high=1),
        meaning="a positive entry weighs (negatives / positives of its label) to this power",
    ),
}

USUAL: dict[str, Any] = {
    "focal_gamma": 2.0,
    "asymmetric_gamma_negative": 4.0,
    "asymmetric_gamma_positive": 1.0,
    "asymmetric_clip": 0.05,
}
"""Each loss's own parameters as their authors' code has them, for a warm start under that loss."""


def of_classes(starts: Iterable[Mapping[str, Any]], *, ordinal: bool = False) -> list[dict[str, Any]]:
    """The starts of a study of multiclass labels: every other one begins with `softmax`, of grades in their
    order with `softmax` and `squared_emd` in turn."""
    losses = ("softmax", "squared_emd" if ordinal else "softmax")
    return [
        dict(start) | ({"loss": losses[n // 2 % 2]} if n % 2 == 0 else {}) for n, start in enumerate(starts)
    ]
