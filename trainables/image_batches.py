"""How images come to the device: a batch is gathered from the store while the one before is used.

Shape legend: B images of a batch, H height, W width, C channels (1 gray or 3 RGB).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor


class Batches:
    """Batches of images on a device; a thread gathers each from the store while the one before is used."""

    def __init__(self, images_NHWC: np.ndarray, rows: Sequence[np.ndarray], device: torch.device) -> None:
        """`rows`: the rows of each batch, in order; within the store, which is not looked at again."""
        self._images_NHWC, self._rows, self._device = images_NHWC, rows, device
        self.wait_seconds = 0.0
        """For which a batch was asked for and not yet there."""

    def __iter__(self) -> Iterator[Tensor]:
        """uint8 (B, H, W, C) on the device."""
        with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
            ahead = [thread.submit(self._gather, rows_B) for rows_B in self._rows[:1]]
            for i in range(len(self._rows)):
                started = time.perf_counter()
                images_BHWC = ahead.pop().result()
                self.wait_seconds += time.perf_counter() - started
                if i + 1 < len(self._rows):
                    ahead.append(thread.submit(self._gather, self._rows[i + 1]))
                yield images_BHWC.to(self._device, non_blocking=True)

    def _gather(self, rows_B: np.ndarray) -> Tensor:
        # Torch keeps pinned memory for the next batch, and not before the copy out of it is done.
        shape = (len(rows_B), *self._images_NHWC.shape[1:])
        images_BHWC = torch.empty(shape, dtype=torch.uint8, pin_memory=self._device.type == "cuda")
        # In any other mode numpy fills a buffer of its own first.
        np.take(self._images_NHWC, rows_B, axis=0, out=images_BHWC.numpy(), mode="clip")
        return images_BHWC
