"""Zero-shot as linear heads, worked by hand on an encoder whose text features are known."""

import numpy as np
import pytest
import torch

from analysis.predictors import _prototype_head
from cohort.errors import InputError


class TwoWords:
    """Prompts that deny point along the second axis, all others along the first; lengths differ."""

    logit_scale = 10.0

    def text_features(self, prompts):
        rows = [[0.0, 5.0] if "no " in p or "without" in p else [2.0, 0.0] for p in prompts]
        return torch.tensor(rows)


IMAGES_ND = np.array([[3.0, 4.0], [6.0, 8.0]], dtype=np.float32)  # of one direction, lengths 5 and 10


def scores_of(style):
    return _prototype_head(TwoWords(), ["Mass"], style, "chest radiograph").logits(IMAGES_ND)


def test_bare_names_give_raw_products():
    np.testing.assert_allclose(scores_of("name"), [[6.0], [12.0]])


def test_an_ensemble_gives_scaled_cosines_whatever_the_lengths():
    np.testing.assert_allclose(scores_of("ensemble"), [[6.0], [6.0]], rtol=1e-6)


def test_a_pair_gives_the_difference_of_presence_and_absence():
    np.testing.assert_allclose(scores_of("pair"), [[10 * (0.6 - 0.8)]] * 2, rtol=1e-5)


def test_an_unknown_style_is_refused():
    with pytest.raises(InputError, match="prompt style must be one of name, ensemble, pair, got 'poem'"):
        scores_of("poem")
