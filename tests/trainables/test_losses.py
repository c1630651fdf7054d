"""Losses against torchvision, timm, PyTorch and hand-worked values; gradients against autograd."""

import math

import pytest
import torch
from timm.loss import AsymmetricLossMultiLabel
from torch.nn.functional import binary_cross_entropy_with_logits
from torchvision.ops import sigmoid_focal_loss

from trainables.losses import (
    LOSSES,
    BankLoss,
    asymmetric,
    asymmetric_gradient,
    bce,
    bce_gradient,
    focal,
    focal_gradient,
    positive_weights,
)

HEADS, IMAGES, LABELS = 5, 37, 6
LOSS_AND_GRADIENT = {
    "bce": (bce, bce_gradient, ()),
    "focal": (focal, focal_gradient, ([0.0, 0.3, 1.0, 2.0, 5.0],)),
    "asymmetric": (
        asymmetric,
        asymmetric_gradient,
        ([0.0, 0.5, 2.0, 4.0, 1.0], [0.0, 0.3, 1.0, 2.0, 0.0], [0.0, 0.05, 0.2, 0.05, 0.0]),
    ),
}


def batch(dtype=torch.float64, seed=0, scale=4.0):
    """Random logits, targets of which a fifth are positive and a tenth masked, and positive weights."""
    generator = torch.Generator().manual_seed(seed)
    logits_KBC = torch.randn(HEADS, IMAGES, LABELS, generator=generator, dtype=dtype) * scale
    targets_BC = (torch.rand(IMAGES, LABELS, generator=generator) < 0.2).to(dtype)
    targets_BC[torch.rand(IMAGES, LABELS, generator=generator) < 0.1] = math.nan
    pos_weight_KC = torch.rand(HEADS, LABELS, generator=generator, dtype=dtype) * 10
    return logits_KBC, targets_BC, pos_weight_KC


def parameters_of(kind, dtype=torch.float64):
    return tuple(torch.tensor(values, dtype=dtype) for values in LOSS_AND_GRADIENT[kind][2])


def mixed_bank(dtype=torch.float64):
    """Five heads with all three losses, out of order, and the same bank as arguments of the plain losses."""
    losses = ("focal", "bce", "asymmetric", "asymmetric", "bce")
    (gamma_K,) = parameters_of("focal", dtype)
    negative_K, positive_K, clip_K = parameters_of("asymmetric", dtype)
    own = {"bce": (), "focal": (gamma_K,), "asymmetric": (negative_K, positive_K, clip_K)}
    return losses, own


def test_bce_of_one_entry_worked_by_hand():
    # logit log 3 is p = 3/4: the positive costs 2 x -log(3/4), the negative -log(1/4), their mean follows.
    logits_KBC = torch.full((1, 1, 2), math.log(3), dtype=torch.float64)
    targets_BC = torch.tensor([[1.0, 0.0]])
    loss_K = bce(logits_KBC, targets_BC, pos_weight_KC=torch.full((1, 2), 2.0, dtype=torch.float64))
    assert loss_K.item() == pytest.approx((2 * math.log(4 / 3) + math.log(4)) / 2)


def test_focal_of_one_entry_worked_by_hand():
    # p = 3/4 and gamma = 2: the positive costs (1/4)^2 log(4/3), the negative (3/4)^2 log 4.
    logits_KBC = torch.full((1, 1, 2), math.log(3), dtype=torch.float64)
    loss_K = focal(logits_KBC, torch.tensor([[1.0, 0.0]]), torch.tensor([2.0], dtype=torch.float64))
    assert loss_K.item() == pytest.approx((math.log(4 / 3) / 16 + 9 / 16 * math.log(4)) / 2)


def test_asymmetric_of_one_entry_worked_by_hand():
    # p = 3/4, clip 1/4: the negative has p_m = 1/2 and costs (1/2)^3 log 2; the positive (1/4) log(4/3).
    logits_KBC = torch.full((1, 1, 2), math.log(3), dtype=torch.float64)
    three, one, quarter = (torch.tensor([value], dtype=torch.float64) for value in (3.0, 1.0, 0.25))
    loss_K = asymmetric(logits_KBC, torch.tensor([[1.0, 0.0]]), three, one, quarter)
    assert loss_K.item() == pytest.approx((math.log(4 / 3) / 4 + math.log(2) / 8) / 2)


def test_a_negative_below_the_margin_costs_nothing_and_pulls_nothing():
    logits_KBC = torch.full((1, 1, 1), -4.0)  # p = 0.018
    arguments = (torch.zeros(1, 1), torch.tensor([0.0]), torch.tensor([0.0]), torch.tensor([0.05]))
    assert asymmetric(logits_KBC, *arguments).item() == 0
    assert asymmetric_gradient(logits_KBC, *arguments).item() == 0


def test_bce_equals_pytorch():
    logits_KBC, targets_BC, pos_weight_KC = batch()
    counted_BC = ~targets_BC.isnan()
    loss_K = bce(logits_KBC, targets_BC, pos_weight_KC=pos_weight_KC)
    for head in range(HEADS):
        entries_BC = binary_cross_entropy_with_logits(
            logits_KBC[head], targets_BC.nan_to_num(), pos_weight=pos_weight_KC[head], reduction="none"
        )
        torch.testing.assert_close(loss_K[head], entries_BC[counted_BC].mean())


def test_focal_equals_torchvision():
    logits_KBC, targets_BC, _ = batch()
    counted_BC = ~targets_BC.isnan()
    (gamma_K,) = parameters_of("focal")
    loss_K = focal(logits_KBC, targets_BC, gamma_K)
    alpha = 0.25
    weight_KC = torch.full((HEADS, LABELS), alpha / (1 - alpha), dtype=torch.float64)
    balanced_K = (1 - alpha) * focal(logits_KBC, targets_BC, gamma_K, pos_weight_KC=weight_KC)
    for head, gamma in enumerate(gamma_K.tolist()):
        entries = (logits_KBC[head][counted_BC], targets_BC[counted_BC])
        expected = sigmoid_focal_loss(*entries, alpha=-1, gamma=gamma, reduction="mean")
        torch.testing.assert_close(loss_K[head], expected)
        expected = sigmoid_focal_loss(*entries, alpha=alpha, gamma=gamma, reduction="mean")
        torch.testing.assert_close(balanced_K[head], expected)


def test_asymmetric_and_its_gradient_equal_timm():
    logits_KBC, targets_BC, _ = batch(torch.float32)  # timm computes in float32
    counted_BC = ~targets_BC.isnan()
    parameters = parameters_of("asymmetric", torch.float32)
    loss_K = asymmetric(logits_KBC, targets_BC, *parameters)
    grad_KBC = asymmetric_gradient(logits_KBC, targets_BC, *parameters)
    for head, (negative, positive, clip) in enumerate(zip(*(p.tolist() for p in parameters), strict=True)):
        timm_loss = AsymmetricLossMultiLabel(negative, positive, clip)
        logits_E = logits_KBC[head][counted_BC].requires_grad_()
        expected = timm_loss(logits_E[None], targets_BC[counted_BC][None]) / counted_BC.sum()
        torch.testing.assert_close(loss_K[head], expected, rtol=1e-5, atol=1e-7)
        (expected_grad_E,) = torch.autograd.grad(expected, logits_E)
        # timm's power has no derivative at 0: under 0 < gamma < 1 its clipped negatives are NaN, ours 0.
        held_E = expected_grad_E.isnan()
        assert not held_E.any() or 0 < negative < 1
        assert (grad_KBC[head][counted_BC][held_E] == 0).all()
        expected_grad_E = expected_grad_E.nan_to_num()
        torch.testing.assert_close(grad_KBC[head][counted_BC], expected_grad_E, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("scale", [1.0, 6.0])
def test_the_written_gradient_is_autograds(kind, weighted, scale):
    loss, gradient, _ = LOSS_AND_GRADIENT[kind]
    logits_KBC, targets_BC, pos_weight_KC = batch(scale=scale)
    arguments = (targets_BC, *parameters_of(kind))
    weights = {"pos_weight_KC": pos_weight_KC if weighted else None}
    logits_KBC.requires_grad_()
    (expected_KBC,) = torch.autograd.grad(loss(logits_KBC, *arguments, **weights).sum(), logits_KBC)
    grad_KBC = gradient(logits_KBC.detach(), *arguments, **weights)
    torch.testing.assert_close(grad_KBC, expected_KBC, rtol=1e-9, atol=1e-12)
    assert (grad_KBC[:, targets_BC.isnan()] == 0).all()


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_logits_give_finite_losses_and_gradients_that_agree(kind, dtype):
    loss, gradient, _ = LOSS_AND_GRADIENT[kind]
    values = [-1e4, -200.0, -88.0, -50.0, -17.0, -1e-3, 0.0, 1e-3, 17.0, 50.0, 88.0, 200.0, 1e4]
    logits_KBC = torch.tensor(values, dtype=dtype).expand(HEADS, 2, -1).clone().requires_grad_()
    targets_BC = torch.tensor([0.0, 1.0], dtype=dtype)[:, None].expand(2, len(values))
    parameters = parameters_of(kind, dtype)
    loss_K = loss(logits_KBC, targets_BC, *parameters)
    (expected_KBC,) = torch.autograd.grad(loss_K.sum(), logits_KBC)
    grad_KBC = gradient(logits_KBC.detach(), targets_BC, *parameters)
    assert loss_K.isfinite().all() and expected_KBC.isfinite().all() and grad_KBC.isfinite().all()
    torch.testing.assert_close(grad_KBC, expected_KBC, rtol=1e-5, atol=1e-7)


def test_focal_without_focus_is_bce_and_asymmetric_without_asymmetry_is_focal():
    logits_KBC, targets_BC, pos_weight_KC = batch()
    zero_K = torch.zeros(HEADS, dtype=torch.float64)
    (gamma_K,) = parameters_of("focal")
    for weights in ({}, {"pos_weight_KC": pos_weight_KC}):
        for plain, focused in ((bce, focal), (bce_gradient, focal_gradient)):
            expected = plain(logits_KBC, targets_BC, **weights)
            torch.testing.assert_close(focused(logits_KBC, targets_BC, zero_K, **weights), expected)
        for focused, skewed in ((focal, asymmetric), (focal_gradient, asymmetric_gradient)):
            expected = focused(logits_KBC, targets_BC, gamma_K, **weights)
            torch.testing.assert_close(
                skewed(logits_KBC, targets_BC, gamma_K, gamma_K, zero_K, **weights), expected
            )


@pytest.mark.parametrize("kind", LOSSES)
def test_a_mask_equals_nan_targets_and_equals_leaving_the_entries_out(kind):
    loss, gradient, _ = LOSS_AND_GRADIENT[kind]
    logits_KBC, targets_BC, _ = batch()
    counted_BC = ~targets_BC.isnan()
    parameters = parameters_of(kind)
    loss_K = loss(logits_KBC, targets_BC, *parameters)
    whatever_BC = torch.where(counted_BC, targets_BC, 1.0)
    assert torch.equal(loss(logits_KBC, whatever_BC, *parameters, mask_BC=counted_BC), loss_K)
    left_KE, left_E = logits_KBC[:, counted_BC], targets_BC[counted_BC]
    torch.testing.assert_close(loss(left_KE[:, None], left_E[None], *parameters), loss_K)
    grad_KBC = gradient(logits_KBC, targets_BC, *parameters)
    grad_KE = gradient(left_KE[:, None], left_E[None], *parameters)[:, 0]
    torch.testing.assert_close(grad_KBC[:, counted_BC], grad_KE)


@pytest.mark.parametrize("kind", LOSSES)
def test_a_batch_with_nothing_unmasked_has_loss_and_gradient_zero(kind):
    loss, gradient, _ = LOSS_AND_GRADIENT[kind]
    logits_KBC, targets_BC, pos_weight_KC = batch()
    targets_BC = torch.full_like(targets_BC, math.nan)
    arguments = (targets_BC, *parameters_of(kind))
    assert (loss(logits_KBC, *arguments, pos_weight_KC=pos_weight_KC) == 0).all()
    assert (gradient(logits_KBC, *arguments, pos_weight_KC=pos_weight_KC) == 0).all()


def test_a_mixed_bank_equals_its_heads_one_by_one():
    losses, own = mixed_bank()
    logits_KBC, targets_BC, pos_weight_KC = batch()
    (gamma_K,), (negative_K, positive_K, clip_K) = own["focal"], own["asymmetric"]
    bank = BankLoss(
        losses,
        pos_weight_KC=pos_weight_KC,
        focal_gamma_K=gamma_K,
        asymmetric_gamma_negative_K=negative_K,
        asymmetric_gamma_positive_K=positive_K,
        asymmetric_clip_K=clip_K,
    )
    survivors = bank.select([3, 0])
    loss_K, grad_KBC = bank.loss(logits_KBC, targets_BC), bank.gradient(logits_KBC, targets_BC)
    for head, kind in enumerate(losses):
        one = slice(head, head + 1)
        loss, gradient, _ = LOSS_AND_GRADIENT[kind]
        parameters = tuple(p_K[one] for p_K in own[kind])
        arguments = (logits_KBC[one], targets_BC, *parameters)
        torch.testing.assert_close(loss(*arguments, pos_weight_KC=pos_weight_KC[one]), loss_K[one])
        torch.testing.assert_close(gradient(*arguments, pos_weight_KC=pos_weight_KC[one]), grad_KBC[one])
    assert survivors.losses == ("asymmetric", "focal")
    torch.testing.assert_close(survivors.loss(logits_KBC[[3, 0]], targets_BC), loss_K[[3, 0]])
    torch.testing.assert_close(survivors.gradient(logits_KBC[[3, 0]], targets_BC), grad_KBC[[3, 0]])


def test_gradients_leave_their_arguments_alone():
    losses, own = mixed_bank()
    logits_KBC, targets_BC, _ = batch()
    before = logits_KBC.clone(), targets_BC.clone()
    for kind in set(losses):
        LOSS_AND_GRADIENT[kind][1](logits_KBC, targets_BC, *own[kind])
    torch.testing.assert_close(logits_KBC, before[0])
    torch.testing.assert_close(targets_BC, before[1], equal_nan=True)


def test_positive_weights_worked_by_hand():
    nan = math.nan
    # Positives, negatives: 1, 3; 2, 1 and one masked; none, 4; 2, none and two masked.
    targets_NC = torch.tensor(
        [[1, 1, 0, 1], [0, 1, 0, 1], [0, 0, 0, nan], [0, nan, 0, nan]], dtype=torch.float32
    )
    weights_KC = positive_weights(targets_NC, torch.tensor([0.0, 0.5, 1.0]))
    expected_KC = torch.tensor([[1, 1, 1, 1], [3**0.5, 0.5**0.5, 1, 1], [3, 0.5, 1, 1]])
    torch.testing.assert_close(weights_KC, expected_KC)


@pytest.mark.parametrize("exponent", [-0.01, 1.01, math.nan])
def test_an_exponent_outside_0_to_1_is_refused(exponent):
    with pytest.raises(ValueError, match=r"Expected `exponent_K` in \[0, 1\]"):
        positive_weights(torch.zeros(2, 2), torch.tensor([exponent]))


@pytest.mark.parametrize(
    ("losses", "parameters", "message"),
    [
        (["hinge"], {}, "'hinge'"),
        (["bce", "focal"], {}, r"`focal_gamma_K` of shape \(2,\), but got None"),
        (
            ["focal", "bce"],
            {"focal_gamma_K": torch.ones(1)},
            r"`focal_gamma_K` of shape \(2,\), but got \(1,\)",
        ),
    ],
)
def test_a_bank_with_an_unknown_loss_or_a_missing_parameter_is_refused(losses, parameters, message):
    with pytest.raises(ValueError, match=message):
        BankLoss(losses, **parameters)
