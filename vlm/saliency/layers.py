"""The layers of an image tower that a map can be taken at, and how their outputs lie over the image.

Shape legend: B images, T tokens, D channels, h and w cells.
"""

from __future__ import annotations

from dataclasses import dataclass

from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from cohort.errors import InputError
from vlm.encoders.layers import BLOCKS
from vlm.saliency.target import LabelLogits

PUBLISHED = "published"
"""The layer of arXiv 2506.14136, `blocks[-1].attn.proj`: of a tower that pools its class token the patches'
gradient there is zero, which is said instead of drawn."""


@dataclass(frozen=True, eq=False)
class Layer:
    """One place in a tower."""

    name: str
    module: nn.Module
    prefix: int | None
    """Tokens before the patches; None where the output has a height and a width of its own."""

    def spatial(self, output: Tensor) -> Tensor:
        """(B, D, h, w) of what the module gives, the patches of a transformer as a square."""
        if self.prefix is None:
            return output
        patches_BTD = output[:, self.prefix :]
        side = round(patches_BTD.shape[1] ** 0.5)
        if side * side != patches_BTD.shape[1]:
            raise InputError(f"layer {self.name}: {patches_BTD.shape[1]} patches are no square")
        return patches_BTD.transpose(1, 2).reshape(len(output), -1, side, side)


def transformer_blocks(visual: nn.Module) -> tuple[list[nn.Module], int] | None:
    """The blocks of a vision transformer and how many tokens stand before the patches; None of another
    model."""
    if isinstance(visual, VisionTransformer):
        return list(visual.transformer.resblocks), 1
    trunk = visual.trunk if isinstance(visual, TimmModel) else visual
    prefix = getattr(trunk, "num_prefix_tokens", None)
    if prefix is None or not hasattr(trunk, "blocks"):
        return None
    return list(trunk.blocks), prefix


def attended_blocks(visual: nn.Module, method: str) -> tuple[list[nn.Module], int]:
    """`transformer_blocks`; InputError of a tower without attention."""
    found = transformer_blocks(visual)
    if found is None:
        raise InputError(f"{method} is of the attention of transformers, and this tower has none")
    return found


def all_layers(visual: nn.Module) -> dict[str, Layer]:
    """Name -> layer, the last the default: of transformers each block's first norm and the output of its
    attention, of convolutional networks each stage."""
    found = transformer_blocks(visual)
    layers: list[Layer] = []
    if found is None:
        stages = _stages(visual)
        return {name: Layer(name, module, None) for name, module in stages.items()}
    blocks, prefix = found
    for number, block in enumerate(blocks):
        own_clip = hasattr(block, "ln_1")
        # open_clip's attention is one function, its projection included; `ls_1` passes on what it gives.
        attention = block.ls_1 if own_clip else block.attn.proj
        layers.append(Layer(f"blocks.{number}.attn", attention, prefix))
        layers.append(Layer(f"blocks.{number}.norm1", block.ln_1 if own_clip else block.norm1, prefix))
    return {layer.name: layer for layer in layers}


def _stages(visual: nn.Module) -> dict[str, nn.Module]:
    if isinstance(visual, ModifiedResNet):
        return {f"layer{n}": getattr(visual, f"layer{n}") for n in (1, 2, 3, 4)}
    trunk = visual.trunk if isinstance(visual, TimmModel) else visual
    info = getattr(trunk, "feature_info", None)
    if not info:
        raise InputError("this tower has no layers that are known to lie over the image")
    names = [entry["module"] for entry in (info.info if hasattr(info, "info") else info)]
    return {name: trunk.get_submodule(name) for name in names}


def named_parts(visual: nn.Module) -> dict[str, list[nn.Parameter]]:
    """All parameters of a tower by part, the last block or stage first; in the end what lies in none of them,
    such as embeddings, norms and projection."""
    found = transformer_blocks(visual)
    if found is not None:
        middle = {f"blocks.{number}": block for number, block in enumerate(found[0])}
    else:
        middle = _stages(visual)
    parts: dict[str, list[nn.Parameter]] = {}
    taken: set[int] = set()
    for name in reversed(middle):
        parts[name] = [one for one in middle[name].parameters() if id(one) not in taken]
        taken |= {id(one) for one in parts[name]}
    parts["the rest"] = [one for one in visual.parameters() if id(one) not in taken]
    return {name: own for name, own in parts.items() if own}


def named_layers(model: LabelLogits, name: str) -> list[Layer]:
    """The layer of this name, or by default those that the predictor's heads hang on; InputError, with the
    tower's layers, for another."""
    layers = all_layers(model.visual)
    found = transformer_blocks(model.visual)
    if name == PUBLISHED and found is not None:
        return [layers[f"blocks.{len(found[0]) - 1}.attn"]]
    if name:
        if name not in layers:
            raise InputError(f"--layer: no layer {name!r}; the tower has {', '.join(layers)}")
        return [layers[name]]
    if not model.reads_deep:
        return [list(layers.values())[-1]]
    if found is None:
        return list(layers.values())
    blocks = len(found[0])
    return [layers[f"blocks.{n}.norm1"] for n in range(max(0, blocks - BLOCKS), blocks)]
