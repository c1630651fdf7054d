"""How fast maps are, against the tower's own forward and backward pass on the same images.

    python -m benchmarks.saliency [ENCODER]

One label, 128 images, batches of 32; the least of three runs each.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.machine import processor
from cohort.errors import InputError
from scoring.decision_rule import DecisionRule
from scoring.predictions import Origin
from vlm.encoders import load_encoder
from vlm.feature_kinds import base_kind
from vlm.linear_head import LinearHead
from vlm.predictor import Predictor
from vlm.saliency import METHODS, saliency_maps
from vlm.saliency.target import BATCH, LabelLogits

IMAGES, RUNS = 128, 3


def main() -> None:
    encoder = load_encoder(sys.argv[1] if len(sys.argv) > 1 else "phantom-clip", features=None)
    kind = base_kind(encoder.kinds)
    rng = np.random.default_rng(0)
    head = LinearHead.plain(rng.normal(size=(kind.width, 1)), first=kind.first)
    predictor = Predictor(
        name="head",
        labels=("label",),
        encoder=encoder,
        heads=(head,),
        rule=DecisionRule.fixed(1),
        origin=Origin(note=""),
    )
    size = encoder.geometry.size
    images_BHWC = rng.integers(0, 256, (IMAGES, size, size, 1), dtype=np.uint8)
    model = LabelLogits(predictor).to(encoder.device).eval()

    def bare() -> None:
        for start in range(0, IMAGES, BATCH):
            x_BCHW = model.pixels(images_BHWC[start : start + BATCH]).requires_grad_(True)
            model(x_BCHW).sum().backward()

    print(f"{processor()}, {torch.get_num_threads()} threads, {encoder.name}, {encoder.device}")
    own = _speed(bare)
    print(f"forward and backward  {own:8.1f} images/s")
    for method in METHODS:
        try:
            speed = _speed(
                lambda method=method: saliency_maps(predictor, images_BHWC, ["label"], method=method)
            )
        except InputError as error:
            print(f"{method:<22}{error}")
            continue
        print(f"{method:<22}{speed:8.1f} images/s, {speed / own:.0%}")


def _speed(work: Callable[[], object]) -> float:
    """Images a second."""
    seconds = []
    for _ in range(RUNS + 1):  # the first warms up
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return IMAGES / min(seconds[1:])


if __name__ == "__main__":
    main()
