"""Losses for rare labels, one per head of a bank, with their gradients written out.

Shapes: K heads, B images of a batch, N images of a split, C labels.

Every loss is a mean over the unmasked entries of a head, so a head learns the same alone and in a bank.
`targets_BC` holds 0 and 1; an entry that does not count is NaN. A batch in which nothing counts has loss 0
and gradient 0.

A loss is two functions of one entry, before weighting: its value, differentiable by autograd, and its slope,
the same derivative with respect to the logit computed directly: a bank of linear heads needs nothing else of
the backward pass, and exp, log and sigmoid are ten times cheaper on a processor than the log1p and expm1
that the exact loss value needs. No value overflows or becomes NaN however large a finite logit is.

Everything but `softmax` and `squared_emd` is written in the *signed* logit z = x for a positive target and -x
for a negative one, so that p_t = sigmoid(z) is the probability given to the truth. Those two are for
multiclass labels, `squared_emd` for ordered ones: every row of their targets has one 1, or is masked whole.

A new loss is two such functions, a row of `LOSSES`, and what may vary in it: `search_spaces.losses`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from search_spaces.configuration import Configuration

# Beyond it sigmoid(-|z|) leaves the normal float32 numbers, and every gradient has reached its limit.
_LARGEST_LOGIT = 80.0


def positive_weights(targets_NC: Tensor, exponent_K: Tensor) -> Tensor:
    """Weight of a positive entry: (negatives / positives) ** exponent, per label and head.

    Exponent 0 weights nothing, 1 gives the positives of a label as much weight as its negatives.

    Args:
        targets_NC: float, 0 or 1; NaN entries are not counted.
        exponent_K: float in [0, 1].

    Returns:
        weights_KC, float, in the dtype of `exponent_K`; 1 for a label without positives or without negatives.

    Raises:
        ValueError: an exponent lies outside [0, 1].
    """
    if not bool(((exponent_K >= 0) & (exponent_K <= 1)).all()):
        raise ValueError(f"Expected `exponent_K` in [0, 1], but got {exponent_K.tolist()}.")
    positives_C = (targets_NC == 1).sum(0)
    negatives_C = (targets_NC == 0).sum(0)
    ratio_C = torch.where((positives_C > 0) & (negatives_C > 0), negatives_C / positives_C.clamp(min=1), 1.0)
    return ratio_C.to(exponent_K.dtype) ** exponent_K[:, None]


# ---- one entry, before weighting: targets are 0 or 1, parameters have shape (K, 1, 1) ----


def _signed(logits_KBC: Tensor, targets_BC: Tensor) -> Tensor:
    return logits_KBC * (2 * targets_BC - 1)


def _bce_entries(logits_KBC: Tensor, targets_BC: Tensor) -> Tensor:
    """Binary cross-entropy, -log p_t, as `torch.nn.BCEWithLogitsLoss`."""
    return -logsigmoid(_signed(logits_KBC, targets_BC))


def _bce_slopes(logits_KBC: Tensor, targets_BC: Tensor) -> Tensor:
    return logits_KBC.sigmoid().sub_(targets_BC)


def _focal_entries(logits_KBC: Tensor, targets_BC: Tensor, gamma_K11: Tensor) -> Tensor:
    """Focal loss, -(1 - p_t)**gamma log p_t (Lin et al., ICCV 2017, eq. 4); gamma 0 is bce.

    The paper's alpha, a weight alpha on positives and 1 - alpha on negatives, is a positive weight of
    alpha / (1 - alpha) up to the factor 1 - alpha.
    """
    z_KBC = _signed(logits_KBC, targets_BC)
    # (1 - p_t) ** gamma as exp(gamma log(1 - p_t)): its derivative stays finite where 1 - p_t underflows.
    return (gamma_K11 * logsigmoid(-z_KBC)).exp() * -logsigmoid(z_KBC)


def _focal_slopes(logits_KBC: Tensor, targets_BC: Tensor, gamma_K11: Tensor) -> Tensor:
    # With v = 1 - p_t: d/dz [-v**gamma log p_t] = -v**gamma (v - gamma p_t log p_t).
    sign_BC = 2 * targets_BC - 1
    z_KBC = (logits_KBC * sign_BC).clamp_(-_LARGEST_LOGIT, _LARGEST_LOGIT)
    truth_KBC = z_KBC.sigmoid()
    miss_KBC = z_KBC.neg_().sigmoid_()
    slope_KBC = truth_KBC.log().mul_(truth_KBC).mul_(gamma_K11).sub_(miss_KBC)
    return slope_KBC.mul_(miss_KBC.pow_(gamma_K11)).mul_(sign_BC)


def _asymmetric_entries(
    logits_KBC: Tensor,
    targets_BC: Tensor,
    gamma_negative_K11: Tensor,
    gamma_positive_K11: Tensor,
    clip_K11: Tensor,
) -> Tensor:
    """Asymmetric loss (Ridnik et al., ICCV 2021, eq. 7): focal, and negatives have a gamma and a margin.

    -(1 - p)**gamma_positive log p for positives and -p_m**gamma_negative log(1 - p_m) for negatives, where
    p_m = max(p - clip, 0): a negative below the margin costs nothing. The focusing factor is differentiated
    like the rest, the true gradient, which is the default of timm's `AsymmetricLossMultiLabel`; its
    `disable_torch_grad_focal_loss=True` would treat that factor as a constant, so that the training
    direction is no loss's gradient. clip 0 and equal gammas are focal.
    """
    log_clip_KBC = (clip_K11 * (1 - targets_BC)).log()  # -inf, that is no clip, for positives
    log_s_KBC = torch.logaddexp(logsigmoid(_signed(logits_KBC, targets_BC)), log_clip_KBC).clamp(max=0)
    gamma_KBC = torch.lerp(gamma_negative_K11, gamma_positive_K11, targets_BC)
    # The floor only keeps the power's derivative finite at 0; the factor log s is 0 there.
    miss_KBC = (-torch.expm1(log_s_KBC)).clamp(min=torch.finfo(log_s_KBC.dtype).tiny)
    return miss_KBC**gamma_KBC * -log_s_KBC


def _asymmetric_slopes(
    logits_KBC: Tensor,
    targets_BC: Tensor,
    gamma_negative_K11: Tensor,
    gamma_positive_K11: Tensor,
    clip_K11: Tensor,
) -> Tensor:
    # With s = min(p_t + clip, 1) for negatives, s = p_t for positives, m = 1 - s:
    # d/dz [-m**gamma log s] = -m**gamma (1 - gamma s log s / m) (d log s / dz), and 0 where s is held at 1.
    sign_BC = 2 * targets_BC - 1
    z_KBC = (logits_KBC * sign_BC).clamp_(-_LARGEST_LOGIT, _LARGEST_LOGIT)
    truth_KBC = z_KBC.sigmoid()
    s_KBC = truth_KBC + clip_K11 * (1 - targets_BC)
    falling_KBC = s_KBC <= 1
    s_KBC.clamp_(max=1)
    dlog_s_KBC = z_KBC.neg_().sigmoid_().mul_(truth_KBC).div_(s_KBC).mul_(falling_KBC)
    gamma_KBC = torch.lerp(gamma_negative_K11, gamma_positive_K11, targets_BC)
    miss_KBC = 1 - s_KBC
    factor_KBC = s_KBC.log().mul_(s_KBC).mul_(gamma_KBC)
    factor_KBC.div_(miss_KBC.clamp(min=torch.finfo(s_KBC.dtype).tiny)).sub_(1)
    return factor_KBC.mul_(miss_KBC.pow_(gamma_KBC)).mul_(dlog_s_KBC).mul_(sign_BC)


def _softmax_entries(logits_KBC: Tensor, targets_BC: Tensor) -> Tensor:
    """Cross-entropy, -log p of the true label, over labels that share a probability of 1; the others cost 0.

    The mean over a head's entries is that of `torch.nn.functional.cross_entropy` over its rows, divided by
    the number of labels, so that l2_penalty means for it what it means for the others: the C of a multinomial
    logistic regression.
    """
    return -logits_KBC.log_softmax(-1) * targets_BC


def _softmax_slopes(logits_KBC: Tensor, targets_BC: Tensor) -> Tensor:
    return logits_KBC.softmax(-1).sub_(targets_BC)


def _squared_emd_entries(logits_KBC: Tensor, targets_BC: Tensor) -> Tensor:
    """Squared earth mover's distance between the softmax and the truth, over ordered labels (Hou et al.,
    arXiv 1611.05916): the sum over labels of (cumulative probability - cumulative target) squared. It stands
    in the entry of the true label, the others cost 0; a mistake costs by its distance.
    """
    apart_KBC = logits_KBC.softmax(-1).cumsum(-1) - targets_BC.cumsum(-1)
    return apart_KBC.square().sum(-1, keepdim=True) * targets_BC


def _squared_emd_slopes(logits_KBC: Tensor, targets_BC: Tensor) -> Tensor:
    # d/dp_j = 2 x the sum of the differences from j on; then through the softmax: p (g - sum of p g).
    probs_KBC = logits_KBC.softmax(-1)
    apart_KBC = probs_KBC.cumsum(-1).sub_(targets_BC.cumsum(-1))
    g_KBC = apart_KBC.flip(-1).cumsum(-1).flip(-1).mul_(2)
    return g_KBC.sub_((probs_KBC * g_KBC).sum(-1, keepdim=True)).mul_(probs_KBC)


@dataclass(frozen=True)
class Loss:
    """One entry's cost and its slope, and what else both take."""

    entries: Callable[..., Tensor]
    """(logits_KBC, targets_BC, *values_K11) -> cost_KBC."""
    slopes: Callable[..., Tensor]
    """The same arguments -> the derivative of the cost with respect to the logits, a new tensor; where the
    loss is `of_rows`, of the cost of the whole row."""
    parameters: tuple[str, ...] = ()
    """Names in the search space, in the order of the values."""
    of_rows: bool = False
    """Whether a logit moves the costs of its whole row, which then weighs as its true label does."""


LOSSES = {
    "bce": Loss(_bce_entries, _bce_slopes),
    "focal": Loss(_focal_entries, _focal_slopes, ("focal_gamma",)),
    "asymmetric": Loss(
        _asymmetric_entries,
        _asymmetric_slopes,
        ("asymmetric_gamma_negative", "asymmetric_gamma_positive", "asymmetric_clip"),
    ),
    "softmax": Loss(_softmax_entries, _softmax_slopes, of_rows=True),
    "squared_emd": Loss(_squared_emd_entries, _squared_emd_slopes, of_rows=True),
}
"""By name, in the order in which a bank sorts its heads."""


# ---- means over the unmasked entries of a head ----


def _weigh(
    dtype: torch.dtype, targets_BC: Tensor, pos_weight_KC: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Targets with 0 at masked entries, and each entry's share in the mean of its head.

    The share has shape (B, C), or (K, B, C) with positive weights; it sums to 1 over a head whose positive
    weights are 1.
    """
    mask_BC = ~targets_BC.isnan()
    targets_BC = torch.where(mask_BC, targets_BC, 0).to(dtype)
    share_BC = mask_BC.to(dtype) / mask_BC.sum().clamp(min=1)
    if pos_weight_KC is None:
        return targets_BC, share_BC
    return targets_BC, torch.addcmul(share_BC, pos_weight_KC[:, None, :] - 1, share_BC * targets_BC)


def plain_loss(losses: Sequence[str], logits_KBC: Tensor, targets_BC: Tensor) -> Tensor:
    """loss_K, unweighted, by which heads can be compared: binary cross-entropy of heads of any loss but
    those of whole rows, whose logits have no meaning label by label, and `softmax` of these.

    Args:
        losses: one of `LOSSES` for each of the K heads.
        logits_KBC: float.
        targets_BC: 0, 1 or NaN (masked).
    """
    targets_BC, share_BC = _weigh(logits_KBC.dtype, targets_BC)
    loss_K = (_bce_entries(logits_KBC, targets_BC) * share_BC).sum((1, 2))
    of_rows = [head for head, loss in enumerate(losses) if LOSSES[loss].of_rows]
    if of_rows:
        loss_K[of_rows] = (_softmax_entries(logits_KBC[of_rows], targets_BC) * share_BC).sum((1, 2))
    return loss_K


class BankLoss:
    """The loss of a bank whose heads have different losses, each with its own parameters.

    Neighbouring heads of one loss are computed as one slice, so a bank sorted by loss costs one pass; any
    other order is as correct and only slower.
    """

    def __init__(
        self,
        losses: Sequence[str],
        parameters: Mapping[str, Tensor] | None = None,
        pos_weight_KC: Tensor | None = None,
    ) -> None:
        """
        Args:
            losses: one of `LOSSES` for each of the K heads.
            parameters: name -> value_K, for every parameter of the losses that occur; the values at heads of
                another loss are ignored.
            pos_weight_KC: float >= 0, see `positive_weights`; None: 1.

        Raises:
            ValueError: an unknown loss, a parameter that is missing or has not one value per head.
        """
        self.losses, self.parameters = tuple(losses), dict(parameters or {})
        self.pos_weight_KC = pos_weight_KC
        for loss in self.losses:
            if loss not in LOSSES:
                raise ValueError(f"Expected each of `losses` to be one of {tuple(LOSSES)}, but got {loss!r}.")
            for name in LOSSES[loss].parameters:
                value_K = self.parameters.get(name)
                if value_K is None or value_K.shape != (len(self.losses),):
                    shape = None if value_K is None else tuple(value_K.shape)
                    raise ValueError(f"Expected `{name}` of shape ({len(self.losses)},), but got {shape}.")
        self._slices: list[tuple[Loss, slice, tuple[Tensor, ...]]] = []
        for name, run in groupby(range(len(self.losses)), key=lambda head: self.losses[head]):
            heads, loss = list(run), LOSSES[name]
            where = slice(heads[0], heads[-1] + 1)
            values_K11 = tuple(self.parameters[name][where, None, None] for name in loss.parameters)
            self._slices.append((loss, where, values_K11))

    @classmethod
    def of(cls, heads: Sequence[Configuration], targets_NC: Tensor) -> BankLoss:
        """The loss of heads of these configurations, float32, on the targets' device.

        Args:
            heads: one configuration a head.
            targets_NC: the training targets, 0, 1 or NaN, whose counts give the positive weights.
        """

        def values_K(name: str) -> Tensor:
            return torch.tensor([float(head.get(name, 0.0)) for head in heads], device=targets_NC.device)

        parameters = {name: values_K(name) for loss in LOSSES.values() for name in loss.parameters}
        pos_weight_KC = None
        if any(head["pos_weight_power"] for head in heads):
            pos_weight_KC = positive_weights(targets_NC, values_K("pos_weight_power"))
        return cls([head["loss"] for head in heads], parameters, pos_weight_KC)

    def select(self, heads: Sequence[int]) -> BankLoss:
        """The loss of these heads alone, in this order: what is left of a bank after a rung."""
        index = list(heads)
        losses = [self.losses[head] for head in index]
        parameters = {name: value_K[index] for name, value_K in self.parameters.items()}
        return BankLoss(losses, parameters, None if self.pos_weight_KC is None else self.pos_weight_KC[index])

    def loss(self, logits_KBC: Tensor, targets_BC: Tensor) -> Tensor:
        """loss_K, the mean over the unmasked entries of each head; arguments as in `plain_loss`."""
        targets_BC, share = _weigh(logits_KBC.dtype, targets_BC, self.pos_weight_KC)
        entries_KBC = [loss.entries(logits_KBC[run], targets_BC, *p) for loss, run, p in self._slices]
        return (torch.cat(entries_KBC) * share).sum((1, 2))

    def gradient(self, logits_KBC: Tensor, targets_BC: Tensor) -> Tensor:
        """grad_KBC of each head's loss with respect to its logits; arguments as in `plain_loss`."""
        targets_BC, share = _weigh(logits_KBC.dtype, targets_BC, self.pos_weight_KC)
        slopes_KBC = []
        for loss, run, values_K11 in self._slices:
            weight = share if share.dim() == 2 else share[run]
            if loss.of_rows:
                weight = (weight * targets_BC).sum(-1, keepdim=True)
            slopes_KBC.append(loss.slopes(logits_KBC[run], targets_BC, *values_K11).mul_(weight))
        return slopes_KBC[0] if len(slopes_KBC) == 1 else torch.cat(slopes_KBC)
