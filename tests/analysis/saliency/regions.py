"""Regions for cases worked by hand."""

import numpy as np


def square(top: int, left: int, side: int = 8) -> np.ndarray:
    """A mask of `side` x `side` pixels with 2 x 2 of them set."""
    mask_HW = np.zeros((side, side), dtype=bool)
    mask_HW[top : top + 2, left : left + 2] = True
    return mask_HW


def spot(mask_HW: np.ndarray) -> np.ndarray:
    """A map that is largest throughout a mask."""
    return mask_HW.astype(np.float32)
