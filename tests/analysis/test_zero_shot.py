"""Zero-shot scores worked by hand on an encoder whose text features are known."""

import numpy as np
import pytest
import torch

from analysis.zero_shot import zero_shot_scores
from cohort.errors import InputError
from vlm.prompts import CHEST


class TwoWords:
    """Prompts that deny point along the second axis, all others along the first; lengths differ."""

    logit_scale = 10.0

    def text_features(self, prompts):
        rows = [[0.0, 5.0] if "no " in p or "without" in p else [2.0, 0.0] for p in prompts]
        return torch.tensor(rows)


IMAGES_ND = np.array([[3.0, 4.0], [6.0, 8.0]], dtype=np.float32)  # of one direction, lengths 5 and 10


def test_bare_names_give_raw_products():
    scores_NC = zero_shot_scores(TwoWords(), IMAGES_ND, ["Mass"], "name", CHEST)
    np.testing.assert_allclose(scores_NC, [[6.0], [12.0]])


def test_an_ensemble_gives_scaled_cosines_whatever_the_lengths():
    scores_NC = zero_shot_scores(TwoWords(), IMAGES_ND, ["Mass"], "ensemble", CHEST)
    np.testing.assert_allclose(scores_NC, [[6.0], [6.0]], rtol=1e-6)


def test_a_pair_gives_the_difference_of_presence_and_absence():
    scores_NC = zero_shot_scores(TwoWords(), IMAGES_ND, ["Mass"], "pair", CHEST)
    np.testing.assert_allclose(scores_NC, [[10 * (0.6 - 0.8)]] * 2, rtol=1e-5)


def test_an_unknown_style_is_refused():
    with pytest.raises(InputError, match="prompt style must be one of name, ensemble, pair, got 'poem'"):
        zero_shot_scores(TwoWords(), IMAGES_ND, ["Mass"], "poem", CHEST)
