"""Which layers of a tower a map is taken at, and its parameters by part."""

from __future__ import annotations

from torch import nn

from cohort.errors import InputError
from vlm.saliency.target import LabelLogits
from vlm.towers.base import Layer, Tower
from vlm.towers.tokens import TokenTower

PUBLISHED_LAYERS = "published"
"""The layer of arXiv 2506.14136, `blocks[-1].attn.proj`: of a tower that pools its class token the patches'
gradient there is zero, which is said instead of drawn."""


def named_layers(model: LabelLogits, name: str) -> list[Layer]:
    """The layer of this name, or by default those that the predictor's heads hang on; InputError, with the
    tower's layers, for another."""
    tower = model.tower
    layers = tower.layers()
    if name == PUBLISHED_LAYERS and isinstance(tower, TokenTower):
        return [layers[f"{list(tower.parts())[-1]}.attn"]]
    if name:
        if name not in layers:
            raise InputError(f"--layer: no layer {name!r}; the tower has {', '.join(layers)}")
        return [layers[name]]
    if model.reads_deep:
        return [layers[own] for own in tower.deep_layers()]
    return [list(layers.values())[-1]]


def named_parts(tower: Tower) -> dict[str, list[nn.Parameter]]:
    """All parameters of a tower by part, the last block or stage first; in the end what lies in none of them,
    such as embeddings, norms and projection."""
    parts: dict[str, list[nn.Parameter]] = {}
    taken: set[int] = set()
    for name, part in reversed(tower.parts().items()):
        parts[name] = [one for one in part.parameters() if id(one) not in taken]
        taken |= {id(one) for one in parts[name]}
    parts["the rest"] = [one for one in tower.visual.parameters() if id(one) not in taken]
    return {name: own for name, own in parts.items() if own}
