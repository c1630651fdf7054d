"""The linear probe: a bank of K heads trained at once on cached embeddings.

A head is a few thousand numbers, so one alone leaves the processor idle between its matrix products. A bank
stacks K of them and takes every step for all: one product forward, one back, one AdamW update. Nothing
passes from head to head: each has its own learning rate, decay, loss, length and initial weights, its own
gradient clip, and leaves the stack when it ends, lags behind or diverges. A bank of one is the same code.

On a single split the weights of the best evaluation on validation are kept. In cross-validation every
configuration trains once a fold, for the epochs that it names and no fewer: an end chosen by the scores of
the fold that is held out would make these scores too good. Its objective is that of all folds' held-out
scores together (`trainables.pooling`), and its head the average of the folds' heads.

A fold is fitted in `trainables.fold_fit`, by the policy of `trainables.stopping`; here fits become records.

Shape legend: M judged images, C labels, K heads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from scoring.judging import OBJECTIVES, judge
from search_spaces.configuration import Configuration
from trainables.bank_fold import Bank, BankFold
from trainables.bank_training import BankTraining
from trainables.fold_fit import FoldFit, fit_fold
from trainables.losses import plain_loss
from trainables.pooling import pooled
from trainables.racing import Earlier, contending, fallen_behind
from trainables.records import TrialRecord, judged_fields
from trainables.stopping import Ending, Point, Stopping
from trainables.trial_data import ProbeData
from vlm.linear_head import LinearHead, combined


def train_bank(
    configs: Sequence[Configuration],
    data: ProbeData,
    *,
    training: BankTraining = BankTraining(),
    objective_name: str = "macro_ap",
    seed: int = 0,
    earlier: Earlier = Earlier(),
    device: str = "cpu",
    deadline: float = math.inf,
) -> list[TrialRecord]:
    """Trains a bank of linear probes and judges each on the rows that it did not train on.

    Every head takes the same minibatches, in an order that follows from (seed, epoch) alone, so a head comes
    out of a bank as it comes out of a bank of one, up to the order in which float32 products are summed.

    Args:
        configs: the heads, at least one, of the space `search_spaces.linear_probe`.
        data: development rows with one fold, which is validation, or several, for cross-validation.
        training: what the heads share.
        objective_name: one of `scoring.judging.OBJECTIVES`, averaged over `data.scored_C`.
        seed: of the order of the images.
        earlier: what lags behind it ends as PRUNED, where `training` says that heads are raced.
        device: "cpu", "cuda", ...; how many threads torch may use is the caller's business.
        deadline: `time.time()` at which training is given up, after the epoch that the heads are in.

    Returns:
        one record per configuration, in the order of `configs`; none of those that the deadline cut off. In
        cross-validation the curve is that of the first fold, and one that is stopped keeps no head and has
        no objective: that of some folds cannot be held beside that of all.

    Raises:
        ValueError: an argument out of its bounds.
    """
    if not configs:
        raise ValueError("configs must hold at least one head, not 0")
    if not training.raced:
        earlier = Earlier()
    if stray := sorted(set(earlier.prune_below) - set(training.rungs)):
        raise ValueError(f"prune_below must speak of the rungs {tuple(training.rungs)}, not of {stray[0]}")
    if objective_name not in OBJECTIVES:
        raise ValueError(f"objective_name must be one of {', '.join(OBJECTIVES)}, not {objective_name!r}")
    if missing := sorted({config["features"] for config in configs} - set(data.kinds)):
        raise ValueError(f"features must be a kind of {', '.join(data.kinds)}, not {missing[0]}")
    if data.text_CD is None and any(config.get("anchor", "none") != "none" for config in configs):
        raise ValueError("anchor must be none where data have no text_CD")
    bank = Bank(
        data=data,
        training=training,
        objective_name=objective_name,
        seed=seed,
        device=device,
        deadline=deadline,
    )
    records = _split_records if data.folds == 1 else _cross_validated_records
    return records(configs, bank, earlier)


# ---- a single split ----


def _split_records(configs: Sequence[Configuration], bank: Bank, earlier: Earlier) -> list[TrialRecord]:
    training = bank.training
    stopping = Stopping(
        rungs=training.rungs,
        prune_below=earlier.prune_below,
        patience=training.patience,
        best_by=training.best_by,
    )
    fold = BankFold(configs, bank, 0)
    fits = [fit for fit in fit_fold(configs, fold, stopping) if fit.ending]
    kept = [fit for fit in fits if fit.kept]
    fields = _judged(
        [fit.config for fit in kept],
        [fit.kept.logits_MC for fit in kept],
        [fit.kept.point["val_loss"] for fit in kept],
        bank.data,
    )
    judged = iter(fields)
    return [_split_record(fit, fold, next(judged) if fit.kept else {}) for fit in fits]


def _split_record(fit: FoldFit, fold: BankFold, judged: dict[str, Any]) -> TrialRecord:
    common = _described(fit.config, fit.ending, fit.curve, fit.seconds, fold.bank.data)
    if not fit.kept:
        return TrialRecord(**common, epoch=fit.ending.epoch)
    point = fit.kept.point
    return TrialRecord(
        **common,
        objective=point["objective"],
        epoch=int(point["epoch"]),
        arrays=fold.head(fit.config, fit.kept.weight_CE).tensors(),
        **judged,
    )


# ---- cross-validation ----


@dataclass(frozen=True, kw_only=True, eq=False)
class _Course:
    """One configuration on its way through the folds."""

    config: Configuration
    heads: tuple[LinearHead, ...] = ()
    """Of the folds that are through, like the next two."""
    objectives: tuple[float, ...] = ()
    logits: tuple[np.ndarray, ...] = ()
    """Of the images that each fold held out."""
    curve: tuple[Point, ...] = ()
    """On the first fold."""
    seconds: float = 0.0
    ending: Ending | None = None
    """Why it trains on no further fold; None where it does."""

    def after(self, fit: FoldFit, fold: BankFold) -> _Course:
        """With one more fold, on which it has ended."""
        course = replace(self, curve=self.curve or fit.curve, seconds=self.seconds + fit.seconds)
        if fit.ending.state != "COMPLETE":
            return replace(course, ending=fit.ending)
        return replace(
            course,
            heads=(*self.heads, fold.head(self.config, fit.kept.weight_CE)),
            objectives=(*self.objectives, fit.kept.point["objective"]),
            logits=(*self.logits, fit.kept.logits_MC),
        )


def _cross_validated_records(
    configs: Sequence[Configuration], bank: Bank, earlier: Earlier
) -> list[TrialRecord]:
    courses = _through_folds(configs, bank, earlier)
    whole = [course for course in courses if len(course.heads) == bank.data.folds]
    judged = iter(_judged_together(whole, bank))
    records = []
    for course in courses:
        described = _described(course.config, course.ending, course.curve, course.seconds, bank.data)
        described["fold_objectives"] = list(course.objectives)
        epochs = course.config["epochs"]
        if len(course.heads) == bank.data.folds:
            own = next(judged)
            value = own["metrics"][f"val.{bank.objective_name}"]
            records.append(TrialRecord(**described, objective=value, epoch=epochs, **own))
        elif course.ending:
            epoch = len(course.objectives) * epochs or course.ending.epoch
            records.append(TrialRecord(**described, epoch=epoch))
    return records


def _through_folds(configs: Sequence[Configuration], bank: Bank, earlier: Earlier) -> list[_Course]:
    """Every configuration on every fold, but for those that end before, until the deadline."""
    courses = [_Course(config=config) for config in configs]
    for fold in range(bank.data.folds):
        going = [k for k, course in enumerate(courses) if course.ending is None]
        if not going:
            break
        own = [configs[k] for k in going]
        # On later folds nobody is stopped at a rung, so only the last epoch is evaluated.
        stopping = Stopping(keep_last=True)
        if fold == 0:
            stopping = replace(stopping, rungs=bank.training.rungs, prune_below=earlier.prune_below)
        bank_fold = BankFold(own, bank, fold)
        fits = fit_fold(own, bank_fold, stopping)
        for k, fit in zip(going, fits, strict=True):
            if fit.ending:
                courses[k] = courses[k].after(fit, bank_fold)
        if not all(fit.ending for fit in fits):  # the deadline
            break
        if bank.training.raced and fold + 1 < bank.data.folds:
            courses = _raced(courses, bank, earlier)
    return courses


def _raced(courses: Sequence[_Course], bank: Bank, earlier: Earlier) -> list[_Course]:
    """After a fold: those that the ensemble can no longer use end here."""
    going = [course for course in courses if course.ending is None]
    if not going:
        return list(courses)
    goes_on = contending([one.objectives for one in going], earlier.fold_objectives, bank.data.folds)
    behind = {id(course) for course, stays in zip(going, goes_on, strict=True) if not stays}
    return [
        replace(course, ending=fallen_behind(course.objectives, course.config["epochs"]))
        if id(course) in behind
        else course
        for course in courses
    ]


def _judged_together(courses: Sequence[_Course], bank: Bank) -> list[dict[str, Any]]:
    """Of configurations that are through all folds, the fields of records that all held-out scores fill,
    with the average of their heads."""
    if not courses:
        return []
    data, rows = bank.data, bank.data.judged()
    fold_M = data.fold_N[data.judged_N()]
    own_KMC = np.zeros((len(courses), *rows.targets_NC.shape), np.float32)
    for held_out_MC, course in zip(own_KMC, courses, strict=True):
        for fold, logits_MC in enumerate(course.logits):
            held_out_MC[fold_M == fold] = logits_MC
    held_out_KMC = pooled(own_KMC, data)
    losses = [course.config["loss"] for course in courses]
    loss_K = plain_loss(losses, torch.from_numpy(held_out_KMC), torch.tensor(rows.targets_NC))
    fields = _judged([course.config for course in courses], held_out_KMC, loss_K.tolist(), data)
    for own, course, held_out_MC in zip(fields, courses, held_out_KMC, strict=True):
        (average,) = combined(course.heads, [1 / data.folds] * data.folds)
        own["arrays"] = average.tensors() | {"held_out_MC": held_out_MC}
    return fields


# ---- both ----


def _judged(
    configs: Sequence[Configuration],
    logits: Sequence[np.ndarray],
    losses: Sequence[float],
    data: ProbeData,
) -> list[dict[str, Any]]:
    """The fields of each record that its judgement fills, by logits_MC and their loss (`plain_loss`)."""
    if not configs:
        return []
    shrinkage_K = [config["threshold_shrinkage"] for config in configs]
    found = []
    for judged, loss in zip(judge(np.stack(logits), data.judged(), shrinkage_K), losses, strict=True):
        fields = judged_fields(judged)
        fields["metrics"] = fields["metrics"] | {"val.loss": loss}
        found.append(fields)
    return found


def _described(
    config: Configuration, ending: Ending | None, curve: Sequence[Point], seconds: float, data: ProbeData
) -> dict[str, Any]:
    """The fields that say what was trained and how it ended."""
    return {
        "number": config.number,
        "preset": config.preset,
        "params": dict(config.params),
        "state": ending.state if ending else "COMPLETE",
        "reason": ending.reason if ending else "",
        "curve": [dict(point) for point in curve],
        "seconds": seconds,
        "precision": data.precision,
    }
