"""What may vary from one linear probe to the next: a loss's own parameters exist only under that loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search_spaces import losses
from search_spaces.parameters import Interval, Parameter, Space, Under

PARAMETERS: dict[str, Parameter] = {
    "features": Parameter(
        search=("projected", "deep"),
        optional=("pooled", "projected+deep", "pooled+deep"),
        meaning="what of the encoder the head sees: after the projection into the space shared with text, "
        "before it, or outputs of several layers; those that the encoder has, see `features` in a study file",
    ),
    "anchor": Parameter(
        search=("none", "zero_shot"),
        under=Under(name="features", choices=("projected",)),
        meaning="what decay and penalty draw the weights towards, and where they begin: zero, or the text "
        "prototypes of zero-shot, with an encoder that has a text tower",
    ),
    "anchor_strength": Parameter(
        search=Interval(low=0.1, high=10, log=True),
        allowed=Interval(low=0, high=1e3),
        under=Under(name="anchor", choices=("zero_shot",)),
        meaning="deviation of the logits on training images at the anchor",
    ),
    "learning_rate": Parameter(
        search=Interval(low=1e-4, high=0.5, log=True),
        allowed=Interval(low=1e-8, high=10),
        meaning="AdamW's step at the first epoch; falls to 0 along a cosine over the head's own epochs",
    ),
    "weight_decay": Parameter(
        search=Interval(low=1e-4, high=10, log=True),
        allowed=Interval(low=0, high=1e4),
        meaning="AdamW's decoupled decay of the weights (not of the biases), per unit of learning rate",
    ),
    "l2_penalty": Parameter(
        search=Interval(low=1e-6, high=1, log=True),
        allowed=Interval(low=0, high=1e4),
        meaning="a label's loss has this / 2 times its squared weights added, as in a logistic regression of "
        "C = 1 / (l2_penalty x training images)",
    ),
    "epochs": Parameter(
        search=Interval(low=10, high=80, log=True),
        allowed=Interval(low=1, high=10_000),
        integer=True,
        meaning="passes over the training images",
    ),
    **losses.PARAMETERS,
    "threshold_shrinkage": Parameter(
        search=Interval(low=1, high=100, log=True),
        allowed=Interval(low=0, high=1e6),
        meaning="how strongly a label's own decision threshold is drawn towards the global one, in positives "
        "(of multiclass labels: towards 0.5)",
    ),
    "normalisation": Parameter(
        search=("none", "l2", "center", "standardize"),
        under=Under(name="features", choices=("projected", "pooled")),
        meaning="features as they are; divided by their length; of mean 0 on training and one common scale; "
        "each of mean 0 and deviation 1 on training, which is what deep features always are, their layers of "
        "one weight",
    ),
}
"""The whole space, by name, in the order in which it is asked for."""


def plain(features: str) -> dict[str, Any]:
    """What is fixed of heads on this kind of features that text does not draw."""
    fixed = {"features": features, "anchor": "none"}
    return {name: value for name, value in fixed.items() if name in SPACE.names_under(fixed)}


SPACE = Space("linear_probe", PARAMETERS)
suggest = SPACE.suggest
check = SPACE.check

PAPER: dict[str, Any] = {
    "features": "projected",
    "anchor": "none",
    "learning_rate": 1e-4,
    "weight_decay": 1e-2,
    "l2_penalty": 0.0,
    "epochs": 10,
    "loss": "bce",
    "pos_weight_power": 0.0,
    "threshold_shrinkage": 1.0,
    "normalisation": "none",
}
"""The configuration of Sadman et al. (arXiv 2506.14136). Batch 24, selection by validation loss with patience
5 and the threshold 0.5 belong to how it is trained and scored: `trainables.bank_training.PAPER_TRAINING`."""

PRESETS = {"paper": PAPER}
"""Published configurations, by name."""

COLUMNS = {
    name: (name,)
    for name in (
        "features",
        "learning_rate",
        "weight_decay",
        "epochs",
        "loss",
        "pos_weight_power",
        "normalisation",
    )
}
"""Of a table of trials: column -> the parameters that stand in it, whichever a trial has."""

_START = {
    "features": "projected",
    "anchor": "none",
    "epochs": 50,
    "loss": "bce",
    **losses.USUAL,  # for a study that fixes another loss; `warm_starts` leaves out what that does not have
    "pos_weight_power": 0.0,
    "threshold_shrinkage": 10.0,
}


def _penalised(normalisation: str, l2_penalty: float, learning_rate: float) -> dict[str, Any]:
    regulariser = {"l2_penalty": l2_penalty, "weight_decay": 1e-4}
    return _START | regulariser | {"normalisation": normalisation, "learning_rate": learning_rate}


def _decayed(normalisation: str, weight_decay: float, learning_rate: float) -> dict[str, Any]:
    regulariser = {"l2_penalty": 1e-6, "weight_decay": weight_decay}
    return _START | regulariser | {"normalisation": normalisation, "learning_rate": learning_rate}


WARM_STARTS: tuple[dict[str, Any], ...] = (
    _penalised("standardize", 5e-3, 0.2),
    _penalised("center", 5e-3, 0.2),
    _penalised("standardize", 1e-3, 0.2),
    _penalised("center", 1e-3, 0.2),
    _penalised("standardize", 2e-2, 0.1),
    _penalised("center", 2e-2, 0.1),
    _penalised("center", 1e-4, 0.2),
    _decayed("standardize", 0.2, 0.1),
    _decayed("center", 3.0, 0.03),
    _decayed("standardize", 10.0, 0.003),
    *(
        _penalised("center", l2_penalty, 0.1) | {"anchor": "zero_shot", "anchor_strength": strength}
        for l2_penalty, strength in ((2e-2, 1.0), (5e-3, 3.0))
    ),
    *(
        {**start, "features": "deep"}
        for start in (
            _penalised("standardize", 5e-3, 0.2),
            _penalised("standardize", 2e-2, 0.1),
            _penalised("standardize", 1e-3, 0.2),
            _decayed("standardize", 3.0, 0.03),
        )
    ),
)
"""Configurations to try first: the penalties at which logistic regressions on thousands of embeddings have
their best scores, with features centred and standardised, then plain decay, penalties towards the text, and
deep features."""


def warm_starts(
    fixed: Mapping[str, Any] | None = None,
    ranges: Mapping[str, Any] | None = None,
    *,
    multiclass: bool = False,
    ordinal: bool = False,
) -> list[dict[str, Any]]:
    """The `WARM_STARTS` that lie inside a study's space, with multiclass labels half of them under softmax;
    see `Space.starts_inside`."""
    starts = losses.of_classes(WARM_STARTS, ordinal=ordinal) if multiclass else WARM_STARTS
    return SPACE.for_labels(multiclass, fixed, ranges, ordinal=ordinal).starts_inside(starts, fixed, ranges)
