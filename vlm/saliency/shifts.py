"""Maps finer than a tower's own cells: the image is moved by parts of a cell, and what each position shows is
averaged where it lies.

A tower of 16-pixel patches says of 16 pixels together how much they count, wherever in them the finding lies;
moved by 8 pixels it says so of other sixteens.

Shape legend: B images, C labels, H height, W width, h and w cells of a map.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np


def over_shifts(
    maps_of: Callable[[np.ndarray], np.ndarray], images_BHWC: np.ndarray, shifts: int
) -> np.ndarray:
    """float32 (B, C, H, W): the mean over `shifts` x `shifts` positions of the image, a cell's width apart in
    all; a move leaves the border's pixels behind.

    Args:
        maps_of: from images as these to maps (B, C, h, w), H and W whole multiples of h and w or nearly.
        shifts: positions a side, 2 at least.
    """
    height, width = images_BHWC.shape[1:3]
    total, seen_HW, moves = None, np.zeros((height, width), np.float32), [(0, 0)]
    place = 0
    while place < len(moves):
        down, right = moves[place]
        maps = maps_of(_moved(images_BHWC, down, right))
        if total is None:  # the first shows how large a cell is
            total = np.zeros((*maps.shape[:2], height, width), np.float32)
            cell = height / maps.shape[2], width / maps.shape[3]
            moves += [move for move in _moves(*cell, shifts) if any(move)]
        rows = np.minimum(np.arange(height) * maps.shape[2] // height, maps.shape[2] - 1)
        columns = np.minimum(np.arange(width) * maps.shape[3] // width, maps.shape[3] - 1)
        whole = maps[:, :, rows][..., columns]
        # A pixel of the moved image at y shows the image's at y + down.
        there_y, here_y = _overlap(down, height)
        there_x, here_x = _overlap(right, width)
        total[:, :, there_y, there_x] += whole[:, :, here_y, here_x]
        seen_HW[there_y, there_x] += 1
        place += 1
    return total / seen_HW


def _moves(cell_height: float, cell_width: float, shifts: int) -> list[tuple[int, int]]:
    """Evenly over a cell, the unmoved position among them."""
    steps = np.arange(shifts) - shifts // 2
    down, right = (np.rint(steps * cell / shifts).astype(int).tolist() for cell in (cell_height, cell_width))
    return list(product(down, right))


def _moved(images_BHWC: np.ndarray, down: int, right: int) -> np.ndarray:
    rows = np.clip(np.arange(images_BHWC.shape[1]) + down, 0, images_BHWC.shape[1] - 1)
    columns = np.clip(np.arange(images_BHWC.shape[2]) + right, 0, images_BHWC.shape[2] - 1)
    return np.ascontiguousarray(images_BHWC[:, rows][:, :, columns])


def _overlap(move: int, length: int) -> tuple[slice, slice]:
    """Of the image and of the moved image, what both show."""
    return slice(max(0, move), min(length, length + move)), slice(max(0, -move), length - max(0, move))
