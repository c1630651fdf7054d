"""Losses against torchvision, timm, PyTorch and hand-worked values; gradients against autograd."""

import math

import pytest
import torch
from timm.loss import AsymmetricLossMultiLabel
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from torchvision.ops import sigmoid_focal_loss

from search_spaces.configuration import Configuration
from search_spaces.linear_probe import PAPER, SPACE
from trainables.losses import LOSSES, BankLoss, plain_loss, positive_weights

HEADS, IMAGES, LABELS = 5, 37, 6
PARAMETERS = {
    "focal_gamma": [0.0, 0.3, 1.0, 2.0, 5.0],
    "asymmetric_gamma_negative": [0.0, 0.5, 2.0, 4.0, 1.0],
    "asymmetric_gamma_positive": [0.0, 0.3, 1.0, 2.0, 0.0],
    "asymmetric_clip": [0.0, 0.05, 0.2, 0.05, 0.0],
}
"""Of five heads."""
INDEPENDENT = [name for name, loss in LOSSES.items() if not loss.of_rows]


def batch(dtype=torch.float64, seed=0, scale=4.0):
    """Random logits, targets of which a fifth are positive and a tenth masked, and positive weights."""
    generator = torch.Generator().manual_seed(seed)
    logits_KBC = torch.randn(HEADS, IMAGES, LABELS, generator=generator, dtype=dtype) * scale
    targets_BC = (torch.rand(IMAGES, LABELS, generator=generator) < 0.2).to(dtype)
    targets_BC[torch.rand(IMAGES, LABELS, generator=generator) < 0.1] = math.nan
    pos_weight_KC = torch.rand(HEADS, LABELS, generator=generator, dtype=dtype) * 10
    return logits_KBC, targets_BC, pos_weight_KC


def five(kind, pos_weight_KC=None, dtype=torch.float64) -> BankLoss:
    """Five heads of one loss."""
    parameters = {name: torch.tensor(PARAMETERS[name], dtype=dtype) for name in LOSSES[kind].parameters}
    return BankLoss([kind] * HEADS, parameters, pos_weight_KC)


def single(kind, **parameters) -> BankLoss:
    """One head."""
    values = {name: torch.tensor([value], dtype=torch.float64) for name, value in parameters.items()}
    return BankLoss([kind], values)


def test_bce_of_one_entry_worked_by_hand():
    # logit log 3 is p = 3/4: the positive costs 2 x -log(3/4), the negative -log(1/4), their mean follows.
    logits_KBC = torch.full((1, 1, 2), math.log(3), dtype=torch.float64)
    targets_BC = torch.tensor([[1.0, 0.0]])
    weighted = BankLoss(["bce"], pos_weight_KC=torch.full((1, 2), 2.0, dtype=torch.float64))
    loss_K = weighted.loss(logits_KBC, targets_BC)
    assert loss_K.item() == pytest.approx((2 * math.log(4 / 3) + math.log(4)) / 2)
    plain = plain_loss(["focal"], logits_KBC, targets_BC)
    assert plain.item() == pytest.approx((math.log(4 / 3) + math.log(4)) / 2)


def test_focal_of_one_entry_worked_by_hand():
    # p = 3/4 and gamma = 2: the positive costs (1/4)^2 log(4/3), the negative (3/4)^2 log 4.
    logits_KBC = torch.full((1, 1, 2), math.log(3), dtype=torch.float64)
    loss_K = single("focal", focal_gamma=2.0).loss(logits_KBC, torch.tensor([[1.0, 0.0]]))
    assert loss_K.item() == pytest.approx((math.log(4 / 3) / 16 + 9 / 16 * math.log(4)) / 2)


def test_asymmetric_of_one_entry_worked_by_hand():
    # p = 3/4, clip 1/4: the negative has p_m = 1/2 and costs (1/2)^3 log 2; the positive (1/4) log(4/3).
    logits_KBC = torch.full((1, 1, 2), math.log(3), dtype=torch.float64)
    bank = single(
        "asymmetric",
        asymmetric_gamma_negative=3.0,
        asymmetric_gamma_positive=1.0,
        asymmetric_clip=0.25,
    )
    loss_K = bank.loss(logits_KBC, torch.tensor([[1.0, 0.0]]))
    assert loss_K.item() == pytest.approx((math.log(4 / 3) / 4 + math.log(2) / 8) / 2)


def test_a_negative_below_the_margin_costs_nothing_and_pulls_nothing():
    logits_KBC = torch.full((1, 1, 1), -4.0, dtype=torch.float64)  # p = 0.018
    bank = single(
        "asymmetric",
        asymmetric_gamma_negative=0.0,
        asymmetric_gamma_positive=0.0,
        asymmetric_clip=0.05,
    )
    assert bank.loss(logits_KBC, torch.zeros(1, 1)).item() == 0
    assert bank.gradient(logits_KBC, torch.zeros(1, 1)).item() == 0


def test_bce_equals_pytorch():
    logits_KBC, targets_BC, pos_weight_KC = batch()
    counted_BC = ~targets_BC.isnan()
    loss_K = five("bce", pos_weight_KC).loss(logits_KBC, targets_BC)
    plain_K = plain_loss(["bce"] * HEADS, logits_KBC, targets_BC)
    for head in range(HEADS):
        entries = (logits_KBC[head][counted_BC], targets_BC[counted_BC])
        torch.testing.assert_close(plain_K[head], binary_cross_entropy_with_logits(*entries))
        entries_BC = binary_cross_entropy_with_logits(
            logits_KBC[head], targets_BC.nan_to_num(), pos_weight=pos_weight_KC[head], reduction="none"
        )
        torch.testing.assert_close(loss_K[head], entries_BC[counted_BC].mean())


def test_focal_equals_torchvision():
    logits_KBC, targets_BC, _ = batch()
    counted_BC = ~targets_BC.isnan()
    loss_K = five("focal").loss(logits_KBC, targets_BC)
    alpha = 0.25
    weight_KC = torch.full((HEADS, LABELS), alpha / (1 - alpha), dtype=torch.float64)
    balanced_K = (1 - alpha) * five("focal", weight_KC).loss(logits_KBC, targets_BC)
    for head, gamma in enumerate(PARAMETERS["focal_gamma"]):
        entries = (logits_KBC[head][counted_BC], targets_BC[counted_BC])
        expected = sigmoid_focal_loss(*entries, alpha=-1, gamma=gamma, reduction="mean")
        torch.testing.assert_close(loss_K[head], expected)
        expected = sigmoid_focal_loss(*entries, alpha=alpha, gamma=gamma, reduction="mean")
        torch.testing.assert_close(balanced_K[head], expected)


def test_asymmetric_and_its_gradient_equal_timm():
    logits_KBC, targets_BC, _ = batch(torch.float32)  # timm computes in float32
    counted_BC = ~targets_BC.isnan()
    bank = five("asymmetric", dtype=torch.float32)
    loss_K, grad_KBC = bank.loss(logits_KBC, targets_BC), bank.gradient(logits_KBC, targets_BC)
    values = [PARAMETERS[name] for name in LOSSES["asymmetric"].parameters]
    for head, (negative, positive, clip) in enumerate(zip(*values, strict=True)):
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


@pytest.mark.parametrize("kind", INDEPENDENT)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("scale", [1.0, 6.0])
def test_the_written_gradient_is_autograds(kind, weighted, scale):
    logits_KBC, targets_BC, pos_weight_KC = batch(scale=scale)
    bank = five(kind, pos_weight_KC if weighted else None)
    logits_KBC.requires_grad_()
    (expected_KBC,) = torch.autograd.grad(bank.loss(logits_KBC, targets_BC).sum(), logits_KBC)
    grad_KBC = bank.gradient(logits_KBC.detach(), targets_BC)
    torch.testing.assert_close(grad_KBC, expected_KBC, rtol=1e-9, atol=1e-12)
    assert (grad_KBC[:, targets_BC.isnan()] == 0).all()


@pytest.mark.parametrize("kind", INDEPENDENT)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_logits_give_finite_losses_and_gradients_that_agree(kind, dtype):
    values = [-1e4, -200.0, -88.0, -50.0, -17.0, -1e-3, 0.0, 1e-3, 17.0, 50.0, 88.0, 200.0, 1e4]
    logits_KBC = torch.tensor(values, dtype=dtype).expand(HEADS, 2, -1).clone().requires_grad_()
    targets_BC = torch.tensor([0.0, 1.0], dtype=dtype)[:, None].expand(2, len(values))
    bank = five(kind, dtype=dtype)
    loss_K = bank.loss(logits_KBC, targets_BC)
    (expected_KBC,) = torch.autograd.grad(loss_K.sum(), logits_KBC)
    grad_KBC = bank.gradient(logits_KBC.detach(), targets_BC)
    assert loss_K.isfinite().all() and expected_KBC.isfinite().all() and grad_KBC.isfinite().all()
    torch.testing.assert_close(grad_KBC, expected_KBC, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("weighted", [False, True])
def test_focal_without_focus_is_bce_and_asymmetric_without_asymmetry_is_focal(weighted):
    logits_KBC, targets_BC, pos_weight_KC = batch()
    if not weighted:
        pos_weight_KC = None
    zero_K = torch.zeros(HEADS, dtype=torch.float64)
    unfocused = BankLoss(["focal"] * HEADS, {"focal_gamma": zero_K}, pos_weight_KC)
    focal = five("focal", pos_weight_KC)
    gamma_K = focal.parameters["focal_gamma"]
    symmetric = BankLoss(
        ["asymmetric"] * HEADS,
        {
            "asymmetric_gamma_negative": gamma_K,
            "asymmetric_gamma_positive": gamma_K,
            "asymmetric_clip": zero_K,
        },
        pos_weight_KC,
    )
    for one, other in ((unfocused, five("bce", pos_weight_KC)), (symmetric, focal)):
        torch.testing.assert_close(one.loss(logits_KBC, targets_BC), other.loss(logits_KBC, targets_BC))
        torch.testing.assert_close(
            one.gradient(logits_KBC, targets_BC), other.gradient(logits_KBC, targets_BC)
        )


@pytest.mark.parametrize("kind", INDEPENDENT)
def test_a_nan_target_equals_leaving_the_entry_out(kind):
    logits_KBC, targets_BC, _ = batch()
    counted_BC = ~targets_BC.isnan()
    bank = five(kind)
    left_K1E, left_1E = logits_KBC[:, counted_BC][:, None], targets_BC[counted_BC][None]
    torch.testing.assert_close(bank.loss(left_K1E, left_1E), bank.loss(logits_KBC, targets_BC))
    grad_KBC, grad_K1E = bank.gradient(logits_KBC, targets_BC), bank.gradient(left_K1E, left_1E)
    torch.testing.assert_close(grad_KBC[:, counted_BC], grad_K1E[:, 0])


@pytest.mark.parametrize("kind", INDEPENDENT)
def test_a_batch_with_nothing_unmasked_has_loss_and_gradient_zero(kind):
    logits_KBC, targets_BC, pos_weight_KC = batch()
    targets_BC = torch.full_like(targets_BC, math.nan)
    bank = five(kind, pos_weight_KC)
    assert (bank.loss(logits_KBC, targets_BC) == 0).all()
    assert (bank.gradient(logits_KBC, targets_BC) == 0).all()


def mixed(pos_weight_KC=None) -> BankLoss:
    """Five heads with all three losses, out of order."""
    parameters = {name: torch.tensor(values, dtype=torch.float64) for name, values in PARAMETERS.items()}
    return BankLoss(("focal", "bce", "asymmetric", "asymmetric", "bce"), parameters, pos_weight_KC)


def test_a_mixed_bank_equals_its_heads_one_by_one():
    logits_KBC, targets_BC, pos_weight_KC = batch()
    bank = mixed(pos_weight_KC)
    survivors = bank.select([3, 0])
    loss_K, grad_KBC = bank.loss(logits_KBC, targets_BC), bank.gradient(logits_KBC, targets_BC)
    for head, kind in enumerate(bank.losses):
        # A bank of nothing but this head's loss, of which the head is one.
        alike = five(kind, pos_weight_KC)
        torch.testing.assert_close(alike.loss(logits_KBC, targets_BC)[head], loss_K[head])
        torch.testing.assert_close(alike.gradient(logits_KBC, targets_BC)[head], grad_KBC[head])
        one = slice(head, head + 1)
        alone = BankLoss(
            [kind],
            {name: bank.parameters[name][one] for name in LOSSES[kind].parameters},
            pos_weight_KC[one],
        )
        torch.testing.assert_close(alone.loss(logits_KBC[one], targets_BC), loss_K[one])
        torch.testing.assert_close(alone.gradient(logits_KBC[one], targets_BC), grad_KBC[one])
    assert survivors.losses == ("asymmetric", "focal")
    torch.testing.assert_close(survivors.loss(logits_KBC[[3, 0]], targets_BC), loss_K[[3, 0]])
    torch.testing.assert_close(survivors.gradient(logits_KBC[[3, 0]], targets_BC), grad_KBC[[3, 0]])


# ---- multiclass labels ----


def classes(scale=4.0, dtype=torch.float64):
    """Random logits, targets of which a row has one or is masked, positive weights, and the true labels."""
    logits_KBC, _, pos_weight_KC = batch(dtype, scale=scale)
    truth_B = torch.randint(LABELS, (IMAGES,), generator=torch.Generator().manual_seed(1))
    targets_BC = torch.eye(LABELS, dtype=dtype)[truth_B]
    targets_BC[::9] = math.nan
    return logits_KBC, targets_BC, pos_weight_KC, truth_B


def mixed_of_classes(pos_weight_KC=None) -> BankLoss:
    """Five heads of four losses, two of whole rows among them."""
    parameters = {name: torch.tensor(values, dtype=torch.float64) for name, values in PARAMETERS.items()}
    return BankLoss(("softmax", "focal", "squared_emd", "softmax", "bce"), parameters, pos_weight_KC)


def test_softmax_of_one_row_worked_by_hand():
    # Logits log 3, 0, 0: probabilities 3/5, 1/5, 1/5. The second label costs log 5, over three entries; with
    # weight 2 twice that. Its slopes are 3/5, -4/5, 1/5, over three entries and twice.
    logits_KBC = torch.tensor([[[math.log(3), 0.0, 0.0]]], dtype=torch.float64)
    targets_BC = torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64)
    assert single("softmax").loss(logits_KBC, targets_BC).item() == pytest.approx(math.log(5) / 3)
    weighted = BankLoss(["softmax"], pos_weight_KC=torch.tensor([[7.0, 2.0, 9.0]], dtype=torch.float64))
    assert weighted.loss(logits_KBC, targets_BC).item() == pytest.approx(2 * math.log(5) / 3)
    expected = torch.tensor([[[0.4, -1.6 / 3, 0.4 / 3]]], dtype=torch.float64)
    torch.testing.assert_close(weighted.gradient(logits_KBC, targets_BC), expected)


def test_squared_emd_of_one_row_worked_by_hand():
    # Probabilities 3/5, 1/5, 1/5 and the second label: cumulative 0.6, 0.8, 1 against 0, 1, 1, squared 0.36
    # and 0.04, over three entries. The first label is nearer to it than the third would be.
    logits_KBC = torch.tensor([[[math.log(3), 0.0, 0.0]]], dtype=torch.float64)
    found = [
        single("squared_emd").loss(logits_KBC, torch.eye(3, dtype=torch.float64)[[label]]).item()
        for label in range(3)
    ]
    assert found == pytest.approx([0.2 / 3, 0.4 / 3, 1.0 / 3])


def test_softmax_equals_pytorchs_cross_entropy_divided_by_the_labels():
    logits_KBC, targets_BC, pos_weight_KC, truth_B = classes()
    known_B = ~targets_BC.isnan().any(1)
    plain_K, weighted_K = (five("softmax", w).loss(logits_KBC, targets_BC) for w in (None, pos_weight_KC))
    for head in range(HEADS):
        rows = logits_KBC[head][known_B], truth_B[known_B]
        torch.testing.assert_close(plain_K[head], cross_entropy(*rows) / LABELS)
        summed = cross_entropy(*rows, weight=pos_weight_KC[head], reduction="sum")
        torch.testing.assert_close(weighted_K[head], summed / known_B.sum() / LABELS)


OF_ROWS = ("softmax", "squared_emd")


@pytest.mark.parametrize("loss", OF_ROWS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("scale", [1.0, 6.0])
def test_the_written_gradient_over_whole_rows_is_autograds_beside_other_losses_too(loss, weighted, scale):
    logits_KBC, targets_BC, pos_weight_KC, _ = classes(scale)
    logits_KBC.requires_grad_()
    for bank in (five(loss, pos_weight_KC if weighted else None), mixed_of_classes(pos_weight_KC)):
        (expected_KBC,) = torch.autograd.grad(bank.loss(logits_KBC, targets_BC).sum(), logits_KBC)
        grad_KBC = bank.gradient(logits_KBC.detach(), targets_BC)
        torch.testing.assert_close(grad_KBC, expected_KBC, rtol=1e-9, atol=1e-12)
        assert (grad_KBC[:, targets_BC.isnan()] == 0).all()


def test_a_bank_with_losses_of_whole_rows_equals_its_heads_one_by_one():
    logits_KBC, targets_BC, pos_weight_KC, _ = classes()
    bank = mixed_of_classes(pos_weight_KC)
    loss_K, grad_KBC = bank.loss(logits_KBC, targets_BC), bank.gradient(logits_KBC, targets_BC)
    for head in range(HEADS):
        alone, one = bank.select([head]), slice(head, head + 1)
        torch.testing.assert_close(alone.loss(logits_KBC[one], targets_BC), loss_K[one])
        torch.testing.assert_close(alone.gradient(logits_KBC[one], targets_BC), grad_KBC[one])


@pytest.mark.parametrize("loss", OF_ROWS)
def test_a_masked_row_costs_and_pulls_nothing(loss):
    logits_KBC, targets_BC, pos_weight_KC, _ = classes()
    known_B = ~targets_BC.isnan().any(1)
    bank = five(loss, pos_weight_KC)
    torch.testing.assert_close(
        bank.loss(logits_KBC[:, known_B], targets_BC[known_B]), bank.loss(logits_KBC, targets_BC)
    )
    torch.testing.assert_close(
        bank.gradient(logits_KBC[:, known_B], targets_BC[known_B]),
        bank.gradient(logits_KBC, targets_BC)[:, known_B],
    )
    nothing_BC = torch.full_like(targets_BC, math.nan)
    assert (bank.loss(logits_KBC, nothing_BC) == 0).all()
    assert (bank.gradient(logits_KBC, nothing_BC) == 0).all()


@pytest.mark.parametrize("loss", OF_ROWS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_logits_give_a_finite_loss_and_gradient_over_whole_rows(dtype, loss):
    logits_KBC = (
        torch.tensor([-1e4, -88.0, 0.0, 88.0, 1e4, 1e4], dtype=dtype).expand(HEADS, LABELS, -1).clone()
    )
    bank, targets_BC = five(loss, dtype=dtype), torch.eye(LABELS, dtype=dtype)
    logits_KBC.requires_grad_()
    loss_K = bank.loss(logits_KBC, targets_BC)
    (expected_KBC,) = torch.autograd.grad(loss_K.sum(), logits_KBC)
    grad_KBC = bank.gradient(logits_KBC.detach(), targets_BC)
    assert loss_K.isfinite().all() and grad_KBC.isfinite().all()
    torch.testing.assert_close(grad_KBC, expected_KBC, rtol=1e-5, atol=1e-7)


def test_the_plain_loss_is_softmax_for_the_heads_that_were_trained_with_it():
    logits_KBC, targets_BC, pos_weight_KC, _ = classes()
    plain_K = plain_loss(mixed_of_classes(pos_weight_KC).losses, logits_KBC, targets_BC)
    for kind, heads in (("softmax", [0, 2, 3]), ("bce", [1, 4])):  # squared_emd is compared by softmax too
        torch.testing.assert_close(plain_K[heads], five(kind).loss(logits_KBC, targets_BC)[heads])


def test_the_loss_of_configurations_has_their_parameters_and_positive_weights():
    own = PAPER | {"loss": "focal", "focal_gamma": 2.0, "pos_weight_power": 0.5}
    heads = [Configuration(SPACE, number, params) for number, params in enumerate((PAPER, own))]
    targets_NC = torch.tensor([[1, math.nan], [0, 1], [0, 0], [0, 0]])
    bank = BankLoss.of(heads, targets_NC)
    assert bank.losses == ("bce", "focal")
    assert bank.parameters["focal_gamma"].tolist() == [0, 2]
    torch.testing.assert_close(bank.pos_weight_KC, torch.tensor([[1, 1], [3**0.5, 2**0.5]]))
    assert BankLoss.of(heads[:1], targets_NC).pos_weight_KC is None


def test_gradients_leave_their_arguments_alone():
    logits_KBC, targets_BC, _ = batch()
    before = logits_KBC.clone(), targets_BC.clone()
    for bank in (mixed(), mixed_of_classes(), *(five(kind) for kind in LOSSES)):
        bank.gradient(logits_KBC, targets_BC)
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
        (["bce", "focal"], {}, r"`focal_gamma` of shape \(2,\), but got None"),
        (["focal", "bce"], {"focal_gamma": torch.ones(1)}, r"`focal_gamma` of shape \(2,\), but got \(1,\)"),
    ],
)
def test_a_bank_with_an_unknown_loss_or_a_missing_parameter_is_refused(losses, parameters, message):
    with pytest.raises(ValueError, match=message):
        BankLoss(losses, parameters)
