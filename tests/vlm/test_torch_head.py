"""Shape legend: N images, D features, C labels."""

import numpy as np
import pytest
import torch

from vlm.linear_head import SMALLEST_NORM, LinearHead, combined, unit_rows
from vlm.torch_head import TorchHead


def drawn_head(seed: int = 5, *, width: int = 6, first: int = 0, l2: bool = False) -> LinearHead:
    rng = np.random.default_rng(seed)
    return LinearHead(
        weight_DC=rng.normal(size=(width, 3)).astype(np.float32),
        bias_C=rng.normal(size=3).astype(np.float32),
        mean_D=rng.normal(size=width).astype(np.float32),
        scale_D=rng.uniform(0.5, 2, width).astype(np.float32),
        l2=l2,
        first=first,
    )


def rows() -> np.ndarray:
    """Random rows, a row of zeros, and rows about and far below the smallest norm; float32 (N, 8)."""
    drawn_ND = np.random.default_rng(0).normal(size=(9, 8)).astype(np.float32)
    lengths_N = [1, 1e3, 1e-6, 2 * SMALLEST_NORM, SMALLEST_NORM, SMALLEST_NORM / 2, 1e-18, 1e-30, 0]
    return unit_rows(drawn_ND) * np.array(lengths_N, np.float32)[:, None]


@pytest.mark.parametrize("l2", [False, True])
def test_numpy_and_torch_give_the_same_logits_of_one_head_and_of_sums(l2):
    single = drawn_head(first=2, l2=l2)
    members = [
        drawn_head(1, l2=l2),
        drawn_head(2, l2=l2),
        drawn_head(3, first=2),
        drawn_head(4, width=8, l2=l2),
    ]
    for head in (single, *combined(members, [0.5, 0.3, -0.2, 0.4])):
        logits_NC = TorchHead(head)(torch.from_numpy(rows())).detach().numpy()
        np.testing.assert_allclose(logits_NC, head.logits(rows()), rtol=1e-5, atol=1e-5)
        assert logits_NC.dtype == np.float32


def test_a_row_below_the_smallest_norm_goes_to_zero_with_its_length():
    lengths_N = np.linalg.norm(unit_rows(rows()), axis=1)
    np.testing.assert_allclose(lengths_N[:5], 1, rtol=1e-5)
    np.testing.assert_allclose(lengths_N[5:], [0.5, 1e-6, 1e-18, 0], rtol=1e-5)


def test_the_gradient_of_a_row_of_zeros_is_finite():
    features_ND = torch.zeros(1, 6, requires_grad=True)
    TorchHead(drawn_head(l2=True))(features_ND).sum().backward()
    assert features_ND.grad.isfinite().all()


@pytest.mark.parametrize("l2", [False, True])
def test_a_head_in_torch_exports_the_one_it_began_with(l2):
    linear = drawn_head(first=2, l2=l2)
    head = TorchHead(linear)
    again = head.linear_head(head.weight_DC, head.bias_C)
    assert (again.l2, again.first) == (l2, 2)
    for name in ("weight_DC", "bias_C", "mean_D", "scale_D"):
        np.testing.assert_array_equal(getattr(again, name), getattr(linear, name))


def test_what_is_exported_does_not_move_with_the_training():
    head = TorchHead(drawn_head())
    exported = head.linear_head(head.weight_DC, head.bias_C)
    before_DC = exported.weight_DC.copy()
    with torch.no_grad():
        head.weight_DC += 1
    np.testing.assert_array_equal(exported.weight_DC, before_DC)


def test_only_weight_and_bias_are_trained():
    assert {name for name, _ in TorchHead(drawn_head()).named_parameters()} == {"weight_DC", "bias_C"}
