"""What a fine-tuning trial trains: a tower and a linear head on one device.

Shape legend: B images of a batch, H height, W width, C labels.
"""

from __future__ import annotations

import zlib

import numpy as np
import torch
from torch import Tensor, nn

from search_spaces.configuration import Configuration
from trainables.fine_tune_compute import Compute, OutOfMemory, existing_device
from trainables.fine_tune_config import tower_method
from trainables.initial_weights import xavier_uniform
from trainables.tower import TrainableTower
from vlm.encoders import Encoder
from vlm.linear_head import LinearHead
from vlm.precision import resolve_precision
from vlm.torch_head import TorchHead


def key_of(config: Configuration, purpose: str, *numbers: int) -> int:
    """The seed of what a trial draws for one purpose."""
    words = (zlib.crc32(purpose.encode()), config.seed, config.number, *numbers)
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)


class FineTuneModel:
    """A tower and the head on its features."""

    def __init__(
        self,
        config: Configuration,
        encoder: Encoder,
        labels: int,
        *,
        head: LinearHead | None,
        compute: Compute,
    ) -> None:
        """
        Args:
            encoder: where the tower starts; it is copied and stays as it is.
            labels: C.
            head: a probe trained on this encoder's features, for `init_head` probe.
            compute: where and how.

        Raises:
            InputError: a method that does not fit the tower, an unknown precision or device.
            ValueError: no head, or one of another width or other labels.
        """
        self.device = existing_device(compute.device)
        self.precision = resolve_precision(compute.precision, self.device, training=True)
        if config["init_head"] == "probe":
            if head is None:
                raise ValueError("head must be given for init_head probe")
            if head.weight_DC.shape != (encoder.width, labels):
                raise ValueError(f"head must be {(encoder.width, labels)}, not {head.weight_DC.shape}")
        else:
            weight_CD = xavier_uniform(encoder.width, labels, (config.seed, config.number))
            head = LinearHead.plain(weight_CD.T)
        self._config, self._encoder = config, encoder
        tower = TrainableTower(encoder, tower_method(config), seed=key_of(config, "tower"))
        self.tower = tower.to(self.device)
        self.head = TorchHead(head).to(self.device)
        self.features = self.tower
        """The tower as it is called, compiled or not."""
        if compute.compile_tower:
            # Graphs of the trials before it in this process count against the limit, past which nothing is
            # compiled any more.
            torch.compiler.reset()
            self.features = torch.compile(self.tower)

    def parameters(self) -> dict[str, nn.Parameter]:
        """What is trained, `tower.<name>` and `head.<name>`."""
        parameters = {f"tower.{name}": parameter for name, parameter in self.tower.trained.items()}
        return parameters | {f"head.{name}": one for name, one in self.head.named_parameters()}

    def logits(self, images_BHWC: Tensor) -> Tensor:
        """float32 (B, C); only the tower computes in a lower precision."""
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float16
        with torch.autocast(self.device.type, dtype=dtype, enabled=self.precision != "fp32"):
            features_BD = self.features(images_BHWC)
        return self.head(features_BD)

    def half(self, images: int) -> int:
        """How many images to try at once where `images` did not fit the memory; OutOfMemory after one."""
        if images == 1:
            raise OutOfMemory(
                f"out of memory: one image of encoder {self._encoder.name} under method "
                f"{self._config['method']} does not fit {self.device}; run fewer trials on it, or train "
                "lora, bitfit or last_blocks"
            )
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return (images + 1) // 2
