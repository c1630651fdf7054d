import math

import numpy as np

from trainables.initial_weights import xavier_uniform


def test_weights_are_xaviers_and_follow_their_key():
    one, same, other = (xavier_uniform(200, 4, (seed, 7)) for seed in (0, 0, 1))
    bound = math.sqrt(6 / 204)
    assert one.shape == (4, 200)
    assert 0.9 * bound < np.abs(one).max() <= bound
    assert abs(one.mean()) < 0.1 * bound
    assert np.array_equal(one, same) and not np.array_equal(one, other)
