"""One configuration's result: the only shape in which it travels from a trial to the report.

`trainables.bank_files` writes and reads it, `trainables.ranking` sets several side by side.

Shape legend: M judged images, C labels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from cohort.errors import InputError
from scoring.decision_rule import DecisionRule
from scoring.judging import SHRINKAGE, Judged, Scale, objective
from scoring.predictions import Origin
from trainables.trial_data import TrialData
from vlm.linear_head import LinearHead
from vlm.predictor import Predictor

if TYPE_CHECKING:
    from vlm.encoders import Encoder  # brings torch along, which a page of text does without

STATES = ("COMPLETE", "PRUNED", "FAIL")


@dataclass(frozen=True, kw_only=True, eq=False)
class TrialRecord:
    """What one configuration left behind."""

    number: int
    """Optuna's trial number: the configuration's name everywhere; -1: no trial of the study."""
    preset: str = ""
    """Name of a published configuration (`paper`), trained and thresholded as published; empty: searched."""
    on_given_split: bool = False
    """Whether it was judged, as it was published, on the given validation split while the study judges by
    folds: no number of it can be held beside those of the other configurations."""
    params: dict[str, Any]
    """The whole configuration, fixed parameters included."""
    state: str
    """COMPLETE, PRUNED (stopped for lagging behind the other configurations) or FAIL."""
    reason: str = ""
    """Why it did not complete, or stopped early; empty otherwise."""
    warnings: list[str] = field(default_factory=list)
    """What went wrong on the way and was got over, such as a damaged checkpoint."""
    objective: float = float("nan")
    """The study's objective on validation at the kept evaluation, of cross-validation on the out-of-fold
    scores of all folds together (`trainables.pooling`); NaN where it failed, or was stopped before the last
    fold: that of fewer images is no number of the same kind, an average precision among few positives say is
    higher by chance."""
    fold_objectives: list[float] = field(default_factory=list)
    """The objective on each fold alone, as far as the configuration came, NaN where the fold lacks both
    classes of every label that counts; empty for a single split."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Validation metrics, named `val.<metric>`, with `on_given_split` `given_split.<metric>`."""
    curve: list[dict[str, float]] = field(default_factory=list)
    """One entry an evaluation: epoch, train_loss and val_loss (`trainables.losses.plain_loss`), objective; of
    a fine-tuning also what `FineTuneTrial.run_epoch` returns beside them."""
    epoch: int = 0
    """Epochs trained when the kept weights were evaluated."""
    seconds: float = 0.0
    """This configuration's share of its bank's training time."""
    precision: str = ""
    """Of the encoder's products under the trained head: fp32, bf16 or fp16."""
    strategy: str = ""
    """Threshold strategy with the best cross-fitted macro-F1."""
    thresholds: dict[str, list[float]] = field(default_factory=dict)
    """Per strategy, one probability threshold per label, refitted on all of validation."""
    few: list[bool] = field(default_factory=list)
    """Per label, whether its positive patients are too few for a threshold of its own."""
    multiclass: bool = False
    """Whether the thresholds decide for exactly one label per image."""
    ranks_only: bool = False
    """The scores of its head are no logits: only their order means something."""
    scale: tuple[float, float] = (0.0, 1.0)
    """Centre and width of the scale on which thresholds lie, see `scoring.judging.Scale`."""
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    """By name: those of the trained head (`LinearHead.tensors`), the average of its folds' heads, and of
    cross-validation `held_out_MC`, float32 logits of each judged row by the head that did not see it, on one
    footing (`trainables.pooling`); empty where the configuration failed."""

    def __post_init__(self) -> None:
        if self.state not in STATES:
            raise ValueError(f"state must be one of {', '.join(STATES)}, not {self.state!r}")

    @cached_property
    def head(self) -> LinearHead | None:
        """The trained head; None where the configuration failed."""
        return LinearHead.from_tensors(self.arrays) if self.arrays else None

    @property
    def held_out_MC(self) -> np.ndarray | None:
        """float32 logits of the judged development rows (`TrialData.judged_N`), each by a head that did not
        train on it; None where they were not kept."""
        return self.arrays.get("held_out_MC")

    def rule(self) -> DecisionRule:
        """How its scores become decisions: by its best strategy, a published configuration as published, at
        0.5; where labels are multiclass, which nothing was published of, that is its most probable label."""
        strategy = "fixed" if self.preset else self.strategy
        return DecisionRule.fitted(
            strategy,
            self.thresholds[strategy],
            np.array(self.few),
            scale=Scale(*self.scale),
            multiclass=self.multiclass,
        )

    def predictor(
        self,
        name: str,
        labels: tuple[str, ...],
        encoder: Encoder,
        *,
        note: str,
        study: str = "",
        trainable: str = "",
    ) -> Predictor:
        """Its head on `encoder`, which it was trained on; InputError where it has none.

        Args:
            name: of the row in the tables.
            note: what it knows, for their reader.
            study, trainable: where it was trained.
        """
        if self.head is None:
            raise InputError(
                f"trial {self.number} has no trained head{f' ({self.reason})' if self.reason else ''}; "
                "those that are COMPLETE in trials.parquet have one"
            )
        return Predictor(
            name=name,
            labels=labels,
            encoder=encoder,
            heads=(self.head,),
            ranks_only=self.ranks_only,
            rule=self.rule(),
            precision=self.precision,
            origin=Origin(
                note=note,
                study=study,
                trainable=trainable,
                trial=self.number if self.number >= 0 else None,
                preset=self.preset,
                params=self.params,
                objective=self.objective,
            ),
        )


def judged_fields(judged: Judged) -> dict[str, Any]:
    """The fields of a record that one look at validation fills."""
    return {
        "metrics": judged.metrics,
        "strategy": judged.strategy,
        "thresholds": {name: values_C.tolist() for name, values_C in judged.thresholds.items()},
        "few": judged.few_C.tolist(),
        "multiclass": judged.multiclass,
    }


def fold_objectives(objective_name: str, held_out_MC: np.ndarray, data: TrialData) -> list[float]:
    """The objective on each fold alone, of logits of `data.judged_N()`; NaN where a fold lacks both classes
    of every label that counts; empty for a single split."""
    if data.folds == 1:
        return []
    fold_M = data.fold_N[data.judged_N()]
    found = []
    for fold in range(data.folds):
        rows = data.judged(fold)
        own = rows.some(np.ones(len(rows.targets_NC), dtype=bool))
        value = math.nan
        if own.averaged_C.any():
            scores_1MC = held_out_MC[None, fold_M == fold]
            value = float(objective(objective_name, scores_1MC, own, [SHRINKAGE])[0])
        found.append(value)
    return found


def as_on_given_split(record: TrialRecord) -> TrialRecord:
    """The record of a published configuration in a study that judges all others by folds."""
    metrics = {f"given_split.{name.removeprefix('val.')}": value for name, value in record.metrics.items()}
    return replace(record, metrics=metrics, on_given_split=True)
