"""A sanity check that can fail (Adebayo et al., NeurIPS 2018): if a map stays what it was when the model's
weights are redrawn, it shows the image and not what the model has learnt.

Shape legend: B images, h and w cells of a map.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from vlm.saliency.layers import named_parts
from vlm.saliency.target import LabelLogits


def cascade(model: LabelLogits, seed: int) -> Iterator[tuple[str, LabelLogits]]:
    """The model with its parts redrawn from the top down, each with what was redrawn before it: the heads
    first, then block after block, in the end the embeddings. One copy, which goes on changing.

    Every parameter of a part is drawn anew from a normal distribution of its own mean and spread, class token
    and position embedding among them; running statistics stay.
    """
    redrawn = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    yield "heads", _redraw(redrawn, [head.weight_DC for head in redrawn.heads], generator)
    for name, parameters in named_parts(redrawn.tower).items():
        yield name, _redraw(redrawn, parameters, generator)


@torch.no_grad()
def _redraw(model: LabelLogits, tensors: Sequence[Tensor], generator: torch.Generator) -> LabelLogits:
    for tensor in tensors:
        # A norm's weights are all near 1: what they spread over is nothing, and so would be the change.
        spread = tensor.std() if tensor.numel() > 1 else tensor.abs().sum()
        noise = torch.randn(tensor.shape, generator=generator).to(tensor)
        tensor.copy_(tensor.mean() + noise * spread.clamp_min(1e-2))
    return model
