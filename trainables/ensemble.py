"""One head out of many: greedy ensemble selection on scores of images that the members did not train on.

Candidates are put on one scale, an affine fit each, and then added one by one, the same one more than once
where that helps, as long as the objective of the average grows (Caruana et al., "Ensemble Selection from
Libraries of Models", ICML 2004, with its sorted start and bagging). Their weights are how often they were
taken. An average of linear heads is a linear head: the answer costs no more than one of its members.

Shape legend: K candidates, M judged images, C labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax

from cohort.errors import InputError
from scoring.judging import SHRINKAGE, JudgedRows, objective
from trainables.packed import pack, unpack
from trainables.records import TrialRecord
from trainables.trial_data import ProbeData
from vlm.linear_head import LinearHead, combined

BAGS = 8
"""Selections, each from another random half of the candidates, whose weights are averaged."""
ROUNDS = 20
"""Members that one selection takes at most."""
_NEWTON_STEPS = 15
_FAINT = 0.01


@dataclass(frozen=True)
class Member:
    """What one candidate contributes: weight x (slope x its logits + an intercept a label)."""

    name: str
    trial: int
    """Its number in the study; -1: none, but a plain regression or closed form."""
    weight: float
    """From 0 to 1; those of all members sum to 1."""
    slope: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Ensemble:
    """What was selected, as few heads whose mean logits are the weighted average of the members'."""

    members: tuple[Member, ...]
    """The heaviest first."""
    heads: tuple[LinearHead, ...]
    held_out_MC: np.ndarray
    """float32: the members' averaged logits of the judged images, each by heads that did not train on it."""
    objective: float
    """The study's, on these; chosen by it, and so a little too high."""
    nested_objective: float
    """The same of logits for which the members were chosen, too, without the patients who are scored."""

    @property
    def only_plain(self) -> bool:
        """Whether no configuration of the study is among the members."""
        return all(member.trial < 0 for member in self.members)

    @property
    def described(self) -> str:
        """What it is made of, for the reader of a table."""
        if self.only_plain:
            names = " and ".join(member.name for member in self.members)
            return f"the plain method itself ({names}), which no configuration improved"
        heads = "1 head" if len(self.members) == 1 else f"{len(self.members)} heads averaged into one"
        return f"{heads}, chosen and weighted by out-of-fold scores"

    def lines(self, objective_name: str) -> list[str]:
        """For reading: what it is, its score, and its members with their weights."""
        return [
            f"answer: {self.described}: {objective_name} {self.objective:.3f}, {self.nested_objective:.3f} "
            "where the patients who are scored had no part in the choice",
            *(f"  {member.weight:.3f}  {member.name}" for member in self.members),
        ]


def select_ensemble(
    candidates: Mapping[str, TrialRecord], data: ProbeData, *, objective_name: str, seed: int
) -> Ensemble:
    """Select the ensemble, and once more for each fold without that fold's patients.

    Args:
        candidates: by name, each with `held_out_MC`; at least one.
        data: on whose folds they were judged.
        objective_name: one of `scoring.judging.OBJECTIVES`.
        seed: of the halves.
    """
    names, records = list(candidates), list(candidates.values())
    rows, fold_M = data.judged(), data.fold_N[data.judged_N()]
    logits_KMC = np.stack([record.held_out_MC for record in records])

    def chosen_without(fold: int) -> _Chosen:
        return _chosen(logits_KMC, rows, fold_M != fold, objective_name, seed)

    # Sorting, which is nearly all of the work, leaves Python's lock alone.
    with ThreadPoolExecutor() as pool:
        whole, *nested = pool.map(chosen_without, range(-1, data.folds))  # without fold -1: on all
    held_out_MC, nested_MC = whole.averaged(logits_KMC), np.empty(logits_KMC.shape[1:], np.float32)
    for fold, choice in enumerate(nested):
        own_M = fold_M == fold
        nested_MC[own_M] = choice.averaged(logits_KMC[:, own_M])
    slope_K, weight_K = whole.slope_K, whole.weight_K
    taken = [int(k) for k in np.argsort(-weight_K, kind="stable") if weight_K[k] > 0]
    return Ensemble(
        members=tuple(
            Member(names[k], records[k].number, float(weight_K[k]), float(slope_K[k])) for k in taken
        ),
        heads=combined(
            [records[k].head for k in taken],
            [float(weight_K[k] * slope_K[k]) for k in taken],
            weight_K @ whole.intercept_KC,
        ),
        held_out_MC=held_out_MC,
        objective=float(objective(objective_name, held_out_MC[None], rows, [SHRINKAGE])[0]),
        nested_objective=float(objective(objective_name, nested_MC[None], rows, [SHRINKAGE])[0]),
    )


@dataclass(frozen=True, eq=False)
class _Chosen:
    """What each candidate is worth."""

    slope_K: np.ndarray
    intercept_KC: np.ndarray
    weight_K: np.ndarray

    def averaged(self, logits_KMC: np.ndarray) -> np.ndarray:
        """float32 (M, C): the weighted average of the candidates' logits on one scale."""
        slopes_K = self.weight_K * self.slope_K
        averaged_MC = np.tensordot(slopes_K, logits_KMC, axes=1) + self.weight_K @ self.intercept_KC
        return averaged_MC.astype(np.float32)


def _chosen(
    logits_KMC: np.ndarray, rows: JudgedRows, some_M: np.ndarray, objective_name: str, seed: int
) -> _Chosen:
    """By the images of `some_M` alone."""
    own = rows.some(some_M)
    logits_KMC = logits_KMC[:, some_M]
    fits = [
        _temperature(logits_MC, own.targets_NC) if rows.exclusive else _affine(logits_MC, own.targets_NC)
        for logits_MC in logits_KMC.astype(np.float64)
    ]
    slope_K, intercept_KC = np.array([slope for slope, _ in fits]), np.stack([one for _, one in fits])
    scores_KMC = (slope_K[:, None, None] * logits_KMC + intercept_KC[:, None]).astype(np.float32)
    return _Chosen(slope_K, intercept_KC, selected(scores_KMC, own, objective_name, seed))


def _affine(logits_MC: np.ndarray, targets_MC: np.ndarray) -> tuple[float, np.ndarray]:
    """One slope from 1e-3, and an intercept a label, with the least binary cross-entropy (Platt, 1999), by
    Newton's method; masked entries do not count.

    Weighted losses shift each label by its own amount, which an average must not mix up. Faint priors, a
    slope of 1 and intercepts of 0, keep both finite where the logits separate the classes.
    """
    known_MC = ~np.isnan(targets_MC)
    truth_MC = np.where(known_MC, targets_MC, 0)
    slope, intercept_C = 1.0, np.zeros(logits_MC.shape[1])
    for _ in range(_NEWTON_STEPS):
        probs_MC = expit(slope * logits_MC + intercept_C)
        wrong_MC = (probs_MC - truth_MC) * known_MC
        curved_MC = probs_MC * (1 - probs_MC) * known_MC
        by_slope = (wrong_MC * logits_MC).sum() + (slope - 1)
        by_intercept_C = wrong_MC.sum(axis=0) + _FAINT * intercept_C
        # The Hessian is an arrow: intercepts of different labels do not meet.
        shaft_C = curved_MC.sum(axis=0) + _FAINT
        across_C = (curved_MC * logits_MC).sum(axis=0)
        tip = (curved_MC * logits_MC**2).sum() + 1
        slope_step = (by_slope - across_C @ (by_intercept_C / shaft_C)) / (
            tip - across_C @ (across_C / shaft_C)
        )
        intercept_C = intercept_C - np.clip((by_intercept_C - across_C * slope_step) / shaft_C, -2, 2)
        slope = max(slope - float(np.clip(slope_step, -0.5, 0.5)), 1e-3)
    return slope, intercept_C


def _temperature(logits_MC: np.ndarray, targets_MC: np.ndarray) -> tuple[float, np.ndarray]:
    """The slope with the least cross-entropy of the softmax (Guo et al., ICML 2017), and no intercepts."""
    known_M = ~np.isnan(targets_MC).any(axis=1)
    truth_M = targets_MC[known_M].argmax(axis=1)

    def loss(log_slope: float) -> float:
        log_probs_MC = log_softmax(np.exp(log_slope) * logits_MC[known_M], axis=1)
        return -float(log_probs_MC[np.arange(len(truth_M)), truth_M].mean())

    found = minimize_scalar(loss, bounds=(-5, 5), method="bounded")
    return float(np.exp(found.x)), np.zeros(logits_MC.shape[1])


def selected(scores_KMC: np.ndarray, rows: JudgedRows, objective_name: str, seed: int) -> np.ndarray:
    """float64 (K,), sums to 1: how often each candidate was taken, over all bags.

    Args:
        scores_KMC: logits on one scale.
        rows: what they are held against.
        seed: of the bags.
    """
    ranked = _objectives(objective_name, scores_KMC, rows)
    rng = np.random.default_rng(seed)
    half = max(1, (len(scores_KMC) + 1) // 2)
    weight_K = np.zeros(len(scores_KMC))
    for _ in range(BAGS):
        bag = np.sort(rng.choice(len(scores_KMC), half, replace=False))
        taken = _greedy(scores_KMC[bag], ranked[bag], rows, objective_name)
        np.add.at(weight_K, bag[taken], 1 / len(taken) / BAGS)
    return weight_K


def _greedy(scores_KMC: np.ndarray, alone_K: np.ndarray, rows: JudgedRows, objective_name: str) -> list[int]:
    """The candidates taken, the first being the best alone, as often as each was; of equally good ones
    those that are in already, then the first."""
    taken = [int(np.argmax(alone_K))]
    total_MC, reached = scores_KMC[taken[0]].copy(), float(alone_K[taken[0]])
    while len(taken) < ROUNDS:
        averaged_KMC = (total_MC + scores_KMC) / (len(taken) + 1)
        value_K = _objectives(objective_name, averaged_KMC, rows)
        best = [int(k) for k in np.flatnonzero(value_K == value_K.max())]
        k = next((k for k in best if k in taken), best[0])
        if value_K[k] <= reached:
            break
        taken.append(k)
        total_MC += scores_KMC[k]
        reached = float(value_K[k])
    return taken


def _objectives(objective_name: str, scores_KMC: np.ndarray, rows: JudgedRows) -> np.ndarray:
    return objective(objective_name, scores_KMC, rows, [SHRINKAGE] * len(scores_KMC))


def pack_ensemble(ensemble: Ensemble) -> bytes:
    """Serialise as safetensors; `unpack_ensemble` is the inverse."""
    tensors = {"held_out_MC": np.ascontiguousarray(ensemble.held_out_MC)}
    for k, head in enumerate(ensemble.heads):
        tensors |= {f"{k}/{name}": array for name, array in head.tensors().items()}
    described = {
        "members": [asdict(member) for member in ensemble.members],
        "objective": ensemble.objective,
        "nested_objective": ensemble.nested_objective,
        "heads": len(ensemble.heads),
    }
    return pack(tensors, described)


def unpack_ensemble(data: bytes, name: str = "answer") -> Ensemble:
    """Read what `pack_ensemble` wrote; InputError, which begins with `name`, where it is damaged."""
    try:
        tensors, described = unpack(data)
        heads = [
            LinearHead.from_tensors(
                {key.partition("/")[2]: array for key, array in tensors.items() if key.startswith(f"{k}/")}
            )
            for k in range(described["heads"])
        ]
        return Ensemble(
            members=tuple(Member(**member) for member in described["members"]),
            heads=tuple(heads),
            held_out_MC=tensors["held_out_MC"],
            objective=described["objective"],
            nested_objective=described["nested_objective"],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{name}: damaged ({error}); delete it and resume the study") from None
