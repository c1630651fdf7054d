"""One head out of many: greedy ensemble selection on scores of images that the members did not train on.

The best configurations and all plain methods are put on one scale (`trainables.scaling`) and then added one
by one, the same one more than once where that helps, as long as the objective of the average grows (Caruana
et al., "Ensemble Selection from Libraries of Models", ICML 2004, with its sorted start and bagging). Their
weights are how often they were taken. An average of linear heads is a linear head: the answer costs no more
than one of its members.

What is chosen by a score has too good a score. So everything is chosen once more for each fold without that
fold's patients, on whom this other choice is then scored: which configurations are weighed, their scales, the
members and the weights. What these patients still had a part in is which configurations the search proposed,
and which it stopped early.

Shape legend: K candidates, T completed configurations, M judged images, C labels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import numpy as np

from cohort.errors import InputError
from scoring.judging import SHRINKAGE, JudgedRows, objective
from trainables.packed import pack, unpack
from trainables.pooling import pooled
from trainables.records import TrialRecord
from trainables.scaling import affine, temperature
from trainables.trial_data import ProbeData
from vlm.linear_head import LinearHead, combined

CANDIDATES = 40
"""Configurations that are weighed: the best by out-of-fold score."""
BAGS = 8
"""Selections, each from another random half of the candidates, whose weights are averaged."""
ROUNDS = 20
"""Members that one selection takes at most."""


@dataclass(frozen=True)
class Member:
    """What one candidate contributes: weight x (slope x its logits + one intercept per label)."""

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
    """The same where each fold's patients are scored by what was chosen without them."""
    best_nested_objective: float
    """That of the single best configuration, chosen anew without each fold's patients; NaN without any."""

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
            f"final model: {self.described}: {objective_name} {self.objective:.3f}, "
            f"{self.nested_objective:.3f} "
            "chosen anew without the patients who are scored",
            *(f"  {member.weight:.3f}  {member.name}" for member in self.members),
        ]


def select_ensemble(
    searched: Sequence[TrialRecord],
    plain: Mapping[str, TrialRecord],
    data: ProbeData,
    *,
    objective_name: str,
    seed: int,
) -> Ensemble:
    """Select the ensemble, and once more for each fold without that fold's patients.

    Args:
        searched: every completed configuration, each with `held_out_MC`; the best `CANDIDATES` are weighed.
        plain: methods that are weighed in any case, by name, each with `held_out_MC`. One record at least,
            here or there.
        data: on whose folds they were judged.
        objective_name: one of `scoring.judging.OBJECTIVES`.
        seed: of the halves.
    """
    records = [*sorted(searched, key=lambda record: record.number), *plain.values()]
    names = [f"trial {record.number}" for record in records[: len(searched)]] + list(plain)
    rows, fold_M = data.judged(), data.fold_N[data.judged_N()]

    def chosen_without(fold: int) -> _Chosen:
        return _chosen(records, len(searched), rows, fold_M != fold, objective_name, seed)

    def value(logits_MC: np.ndarray) -> float:
        return float(objective(objective_name, logits_MC[None], rows, [SHRINKAGE])[0])

    # Sorting, which is nearly all of the work, leaves Python's lock alone.
    with ThreadPoolExecutor() as pool:
        whole, *nested = pool.map(chosen_without, range(-1, data.folds))  # without fold -1: on all
    nested_MC = np.empty(records[0].held_out_MC.shape, np.float32)
    best_MC = np.empty_like(nested_MC)
    for fold, choice in enumerate(nested):
        own_M = fold_M == fold
        nested_MC[own_M] = choice.averaged(records, own_M)
        if searched:
            best_MC[own_M] = choice.best(records, own_M)
    held_out_MC = whole.averaged(records, np.ones(len(fold_M), dtype=bool))
    order_K = np.argsort(-whole.weight_K, kind="stable")
    taken = [int(k) for k in order_K if whole.weight_K[k] > 0]
    members = [(whole.candidate_K[k], float(whole.weight_K[k]), float(whole.slope_K[k])) for k in taken]
    return Ensemble(
        members=tuple(
            Member(names[one], records[one].number, weight, slope) for one, weight, slope in members
        ),
        heads=combined(
            [records[one].head for one, _, _ in members],
            [weight * slope for _, weight, slope in members],
            whole.weight_K @ whole.intercept_KC,
        ),
        held_out_MC=held_out_MC,
        objective=value(held_out_MC),
        # Intercepts fitted without a fold mirror it, as those of heads do.
        nested_objective=value(pooled(nested_MC, data)),
        best_nested_objective=value(pooled(best_MC, data)) if searched else math.nan,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Chosen:
    """Which records were weighed, and what each of them is worth."""

    candidate_K: list[int]
    """Places among the records, the best configuration first."""
    slope_K: np.ndarray
    intercept_KC: np.ndarray
    weight_K: np.ndarray

    def averaged(self, records: Sequence[TrialRecord], some_M: np.ndarray) -> np.ndarray:
        """float32 (M, C): the weighted average of the candidates' logits of some images on one scale."""
        averaged_MC = np.tile(self.weight_K @ self.intercept_KC, (int(some_M.sum()), 1))
        for k in np.flatnonzero(self.weight_K):
            logits_MC = records[self.candidate_K[k]].held_out_MC[some_M]
            averaged_MC += self.weight_K[k] * self.slope_K[k] * logits_MC
        return averaged_MC.astype(np.float32)

    def best(self, records: Sequence[TrialRecord], some_M: np.ndarray) -> np.ndarray:
        """float32 (M, C): what the first candidate alone says of some images, on the same scale."""
        logits_MC = records[self.candidate_K[0]].held_out_MC[some_M]
        return (self.slope_K[0] * logits_MC + self.intercept_KC[0]).astype(np.float32)


def _chosen(
    records: Sequence[TrialRecord],
    searched: int,
    rows: JudgedRows,
    some_M: np.ndarray,
    objective_name: str,
    seed: int,
) -> _Chosen:
    """By the images of `some_M` alone; the first `searched` records compete for a place as a candidate."""
    own = rows.some(some_M)
    alone_T = np.array(
        [
            objective(
                objective_name,
                record.held_out_MC[None, some_M],
                own,
                [record.params.get("threshold_shrinkage", SHRINKAGE)],
            )[0]
            for record in records[:searched]
        ]
    )
    best = np.argsort(-alone_T, kind="stable")[:CANDIDATES].tolist()
    candidates = best + list(range(searched, len(records)))
    logits_KMC = np.stack([records[one].held_out_MC[some_M] for one in candidates])
    fit = temperature if rows.multiclass else affine
    fits = [fit(logits_MC.astype(np.float64), own.targets_NC) for logits_MC in logits_KMC]
    slope_K, intercept_KC = np.array([slope for slope, _ in fits]), np.stack([one for _, one in fits])
    scores_KMC = (slope_K[:, None, None] * logits_KMC + intercept_KC[:, None]).astype(np.float32)
    return _Chosen(
        candidate_K=candidates,
        slope_K=slope_K,
        intercept_KC=intercept_KC,
        weight_K=selected(scores_KMC, own, objective_name, seed),
    )


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
        "best_nested_objective": ensemble.best_nested_objective,
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
            best_nested_objective=described["best_nested_objective"],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{name}: damaged ({error}); delete it and resume the study") from None
