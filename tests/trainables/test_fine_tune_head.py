import math

import numpy as np
import pytest
import torch

from tests.trainables.fine_tuning import random_head
from trainables.fine_tune_head import Head


@pytest.mark.parametrize("l2", [False, True])
def test_a_head_in_training_predicts_as_the_one_it_began_with_and_exports_it_again(l2):
    linear = random_head(6, l2=l2)
    head = Head(linear)
    features_BD = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
    logits_BC = head(torch.from_numpy(features_BD)).detach().numpy()
    np.testing.assert_allclose(logits_BC, linear.logits(features_BD), atol=1e-5)
    again = head.linear_head(head.weight_DC, head.bias_C)
    assert again.l2 == l2
    for name in ("weight_DC", "bias_C", "mean_D", "scale_D"):
        np.testing.assert_array_equal(getattr(again, name), getattr(linear, name))


def test_what_is_exported_does_not_move_with_the_training():
    head = Head(random_head(6))
    exported = head.linear_head(head.weight_DC, head.bias_C)
    before_DC = exported.weight_DC.copy()
    with torch.no_grad():
        head.weight_DC += 1
    np.testing.assert_array_equal(exported.weight_DC, before_DC)


def test_only_weight_and_bias_are_trained():
    assert {name for name, _ in Head(random_head(6)).named_parameters()} == {"weight_DC", "bias_C"}


def test_a_fresh_head_is_xaviers_and_follows_its_key():
    one, same, other = (Head.fresh(200, 4, (seed, 7)) for seed in (0, 0, 1))
    bound = math.sqrt(6 / 204)
    assert 0.9 * bound < one.weight_DC.abs().max() <= bound
    assert one.weight_DC.mean().abs() < 0.1 * bound
    assert torch.equal(one.weight_DC, same.weight_DC) and not torch.equal(one.weight_DC, other.weight_DC)
    assert not one.bias_C.any() and not one.mean_D.any() and (one.scale_D == 1).all()
