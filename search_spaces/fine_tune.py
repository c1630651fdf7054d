"""What may vary from one fine-tuning trial to the next.

`method` comes first, since half of the parameters exist only under some of its choices: a fine-tuned weight
bears a far smaller step than an adapter that starts at nothing, so they have learning rates of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search_spaces import losses
from search_spaces.parameters import Interval, Parameter, Space, Under

_WEIGHTS = Under(name="method", choices=("full", "last_blocks"))
_ADDITIONS = Under(name="method", choices=("lora", "bitfit"))
_LORA = Under(name="method", choices=("lora",))
_LAST_BLOCKS = Under(name="method", choices=("last_blocks",))

PARAMETERS: dict[str, Parameter] = {
    "method": Parameter(
        search=("full", "lora", "last_blocks", "bitfit"),
        meaning="which parameters of the image tower are trained: all of them, low-rank additions to some "
        "layers, those of the last blocks, or biases and norms",
    ),
    "tower_learning_rate": Parameter(
        search=Interval(low=1e-6, high=3e-4, log=True),
        allowed=Interval(low=0, high=1),
        under=_WEIGHTS,
        meaning="AdamW's greatest step for the top layers of the tower",
    ),
    "adapter_learning_rate": Parameter(
        search=Interval(low=1e-5, high=1e-2, log=True),
        allowed=Interval(low=0, high=1),
        under=_ADDITIONS,
        meaning="the same for low-rank additions, or for biases and norms",
    ),
    "head_learning_rate": Parameter(
        search=Interval(low=1e-5, high=1e-2, log=True),
        allowed=Interval(low=0, high=10),
        meaning="AdamW's greatest step for the linear head",
    ),
    "layer_decay": Parameter(
        search=Interval(low=0.5, high=1),
        allowed=Interval(low=1e-3, high=1),
        under=_WEIGHTS,
        meaning="each block's learning rate is that of the block above it times this",
    ),
    "last_blocks": Parameter(
        search=Interval(low=1, high=4),
        allowed=Interval(low=1, high=1000),
        integer=True,
        under=_LAST_BLOCKS,
        meaning="how many blocks are trained, counted from the output, with what stands above them",
    ),
    "lora_rank": Parameter(
        search=Interval(low=2, high=32, log=True),
        allowed=Interval(low=1, high=4096),
        integer=True,
        under=_LORA,
        meaning="rank of the addition to each layer",
    ),
    "lora_alpha": Parameter(
        search=Interval(low=4, high=64, log=True),
        allowed=Interval(low=1e-3, high=1e4),
        under=_LORA,
        meaning="the addition is multiplied by alpha / rank",
    ),
    "lora_dropout": Parameter(
        search=Interval(low=0, high=0.3),
        allowed=Interval(low=0, high=0.9),
        under=_LORA,
        meaning="share of a layer's inputs that its addition does not see in a training step",
    ),
    "lora_targets": Parameter(
        search=("attention", "attention+mlp"),
        open_ended=True,
        under=_LORA,
        meaning="the layers with an addition: attention, mlp, convolutions, or names of layers as the tower "
        "calls them, such as qkv; several are joined by +",
    ),
    "weight_decay": Parameter(
        search=Interval(low=1e-4, high=0.3, log=True),
        allowed=Interval(low=0, high=1e4),
        meaning="AdamW's decoupled decay of the weights (not of biases, norms and embeddings), per unit of "
        "learning rate",
    ),
    "epochs": Parameter(
        search=Interval(low=4, high=16, log=True),
        allowed=Interval(low=1, high=10_000),
        integer=True,
        meaning="passes over the training images, over which the learning rate falls",
    ),
    **losses.PARAMETERS,
    "ema_decay": Parameter(
        search=(0.0, 0.99, 0.999),
        allowed=Interval(low=0, high=0.99999),
        meaning="weights are judged and kept as their running mean with this decay a step; 0: as they are",
    ),
    "augmentation": Parameter(
        search=Interval(low=0, high=1),
        allowed=Interval(low=0, high=1),
        meaning="strength of the training images' distortion, from none to "
        "`trainables.augmentation.STRONGEST`",
    ),
    "init_head": Parameter(
        search=("probe", "fresh"),
        meaning="the head starts as a linear probe trained on the untouched tower, or at random",
    ),
    "threshold_shrinkage": Parameter(
        search=Interval(low=1, high=100, log=True),
        allowed=Interval(low=0, high=1e6),
        meaning="how strongly a label's own decision threshold is drawn towards the global one, in positives "
        "(of multiclass labels: towards 0.5)",
    ),
}
"""The whole space, by name, in the order in which it is asked for."""

SPACE = Space("fine_tune", PARAMETERS)
suggest = SPACE.suggest
check = SPACE.check

PAPER: dict[str, Any] = {
    "method": "full",
    "tower_learning_rate": 1e-5,
    "head_learning_rate": 1e-5,
    "layer_decay": 1.0,
    "weight_decay": 1e-2,
    "epochs": 10,
    "loss": "bce",
    "pos_weight_power": 0.0,
    "ema_decay": 0.0,
    "augmentation": 0.0,
    "init_head": "fresh",
    "threshold_shrinkage": 1.0,
}
"""The fine-tuning of Sadman et al. (arXiv 2506.14136). Batch 24, the constant rate with a new optimiser every
epoch and selection by validation loss with patience 5 belong to how it is trained:
`trainables.fine_tune_config.PAPER_TRAINING`."""

PRESETS = {"paper": PAPER}
"""Published configurations, by name."""

COLUMNS = {
    "method": ("method",),
    "tower_rate": ("tower_learning_rate", "adapter_learning_rate"),
    **{name: (name,) for name in ("head_learning_rate", "epochs", "loss", "augmentation", "init_head")},
}
"""Of a table of trials: column -> the parameters that stand in it, whichever a trial has."""

_START = {
    "head_learning_rate": 1e-3,
    "weight_decay": 1e-2,
    "epochs": 8,
    "loss": "bce",
    **losses.USUAL,  # for a study that fixes another loss; `warm_starts` leaves out what that does not have
    "pos_weight_power": 0.5,
    "ema_decay": 0.0,
    "augmentation": 0.5,
    "init_head": "probe",
    "threshold_shrinkage": 10.0,
}
_ADAPTERS = {"lora_rank": 8, "lora_alpha": 16.0, "lora_dropout": 0.1, "lora_targets": "attention"}
WARM_STARTS: tuple[dict[str, Any], ...] = (
    _START | _ADAPTERS | {"method": "lora", "adapter_learning_rate": 3e-4},
    _START | {"method": "bitfit", "adapter_learning_rate": 1e-3},
    _START | {"method": "last_blocks", "last_blocks": 2, "tower_learning_rate": 5e-5, "layer_decay": 0.8},
    _START | {"method": "full", "tower_learning_rate": 3e-5, "layer_decay": 0.7},
)
"""One reasonable configuration a method."""


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
