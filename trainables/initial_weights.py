"""Where the weights of a linear head begin that begins at random.

Shape legend: D features, C labels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def xavier_uniform(features: int, labels: int, key: Sequence[int]) -> np.ndarray:
    """weight_CD, float64, Xavier-uniform (Glorot and Bengio, AISTATS 2010, eq. 16); `key` seeds the draw."""
    bound = math.sqrt(6 / (features + labels))
    return np.random.default_rng(key).uniform(-bound, bound, (labels, features))
