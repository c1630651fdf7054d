"""The rows of the score table: floors, zero-shot and the study's trials, each as scores and thresholds.

Every setting is fitted on training and validation alone and arrives at the test split finished.

Shape legend: N images, D features, C labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from analysis.floors import logreg_floor, prevalences
from analysis.zero_shot import zero_shot_scores
from cohort.manifest import Cohort
from scoring import judging
from scoring.judging import LOGITS, SHRINKAGE, JudgedRows, Scale
from scoring.thresholds import shares_global
from vlm.encoders import Encoder
from vlm.linear_head import LinearHead
from vlm.prompts import CHEST


@dataclass(frozen=True, kw_only=True, eq=False)
class FinishedTrial:
    """One configuration of a finished study, chosen on validation, to be scored on test."""

    name: str
    """Row name in every table: `paper`, `best-1`, `best-2`, ..."""
    number: int
    """Trial number in the study."""
    head: LinearHead
    """The trained head at its best epoch."""
    strategy: str
    """Threshold strategy with the best cross-fitted validation macro-F1."""
    thresholds_C: np.ndarray
    """float64 (C,): that strategy refitted on all of validation; a decision is prob >= threshold."""
    few_C: np.ndarray
    """bool (C,): labels with too few positive patients on validation for a threshold of their own."""
    objective: float
    """The study's objective on validation."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """The configuration, as in `trials.parquet` without the prefix `params.`."""
    curve: Sequence[Mapping[str, float]] = ()
    """One mapping an evaluation: epoch, train_loss, val_loss, objective."""
    seeds: Sequence[float] = ()
    """The objective when trained again with other seeds; empty where it was not."""
    splits: Sequence[float] = ()
    """The objective when trained again on other splits of the same training and validation patients."""
    features_ND: np.ndarray | None = None
    """float32, all present rows in manifest order: what its own fine-tuned tower, or another study's encoder,
    makes of the images; None: the study's frozen features."""

    @property
    def shared_C(self) -> np.ndarray:
        """bool (C,): labels that share the global threshold under its strategy."""
        return shares_global(self.strategy, self.few_C)


@dataclass(frozen=True, kw_only=True, eq=False)
class Setting:
    """One row of the tables: a predictor's scores on validation and on test, and its decision rule."""

    name: str
    val_scores_NC: np.ndarray
    """float64, as the predictor gives them: logits, image-text products, ..."""
    test_scores_NC: np.ndarray
    kind: Literal["logits", "scores"]
    """`logits` are calibrated in intent, so Brier skill means something; `scores` only rank."""
    thresholds_C: np.ndarray
    """float64 (C,), on [0, 1], fitted on validation; a decision is scale.unit(score) >= threshold."""
    strategy: str
    """How the thresholds were fitted."""
    note: str
    """What this predictor knows, for the reader of the table."""
    scale: Scale = LOGITS
    """How its scores come onto [0, 1]: as probabilities where they are logits."""
    shrinkage: float = SHRINKAGE
    """Strength of the threshold strategy `shrunk` where it is judged."""

    @property
    def test_unit_NC(self) -> np.ndarray:
        return self.scale.unit(self.test_scores_NC)

    @property
    def test_decisions_NC(self) -> np.ndarray:
        """bool (N, C)."""
        return self.test_unit_NC >= self.thresholds_C

    @property
    def constant(self) -> bool:
        """Whether every test image gets the same scores, so that no image can be told from another."""
        return bool((self.test_scores_NC == self.test_scores_NC[:1]).all())


RANDOM, PREVALENCE, ALL_POSITIVE = "random", "prevalence", "all-positive"
PIXELS, LOGREG, ZERO_SHOT, PROMPTED = "pixels", "logreg", "zero-shot", "zero-shot-prompts"
FLOORS = (RANDOM, PREVALENCE, ALL_POSITIVE, ZERO_SHOT, PROMPTED, PIXELS, LOGREG)
"""Rows that no trial stands behind."""
PAPER = "paper"


def floors_and_trials(
    cohort: Cohort,
    encoder: Encoder,
    features_ND: np.ndarray,
    pixel_features_ND: np.ndarray,
    trials: Sequence[FinishedTrial],
    objective: str,
    rows: JudgedRows,
    seed: int,
    step: Callable[[str], None] = lambda what: None,
) -> tuple[list[Setting], str]:
    """All settings, the least informed first, and why zero-shot is missing (empty where it is not).

    Args:
        cohort: with train, val and test.
        encoder: the study's encoder.
        features_ND, pixel_features_ND: float32, all present rows in manifest order.
        trials: finished trials.
        objective: macro_ap, macro_auroc or macro_f1.
        rows: validation, on the study's folds and over its labels.
        seed: of the random scores.
        step: told what is being done, for a progress bar.
    """
    train_N, val_N, test_N = (cohort.indices(split) for split in ("train", "val", "test"))
    train_targets_NC = cohort.targets_NC(train_N)
    sides = {"val": val_N, "test": test_N}

    def fitted(name: str, scores_NC: dict[str, np.ndarray], kind: str, note: str) -> Setting:
        scale = LOGITS if kind == "logits" else Scale.standardising(scores_NC["val"])
        (judged,) = judging.judge(scores_NC["val"][None], rows, [SHRINKAGE], scale)
        return Setting(
            name=name,
            val_scores_NC=scores_NC["val"],
            test_scores_NC=scores_NC["test"],
            kind=kind,
            thresholds_C=judged.thresholds[judged.strategy],
            strategy=judged.strategy,
            note=note,
            scale=scale,
        )

    def on_validation(scores_NC: np.ndarray) -> float:
        scale = Scale.standardising(scores_NC)
        return float(judging.objective(objective, scores_NC[None], rows, [SHRINKAGE], scale)[0])

    def untrained(name: str, scores_NC: dict[str, np.ndarray], kind: str, note: str) -> Setting:
        return Setting(
            name=name,
            val_scores_NC=scores_NC["val"],
            test_scores_NC=scores_NC["test"],
            kind=kind,
            thresholds_C=np.full(len(cohort.labels), 0.5),
            strategy="fixed",
            note=note,
        )

    def logistic(name: str, x_ND: np.ndarray, what: str, common_scale: bool = False) -> Setting:
        floor = logreg_floor(
            x_ND[train_N],
            train_targets_NC,
            x_ND[val_N],
            rows,
            objective=objective,
            common_scale=common_scale,
        )
        logits = {side: floor.head.logits(x_ND[rows_N]).astype(np.float64) for side, rows_N in sides.items()}
        return fitted(name, logits, "logits", f"logistic regression on {what}, C = {floor.strength:g}")

    rng = np.random.default_rng(seed)
    shapes = {side: (len(rows_N), len(cohort.labels)) for side, rows_N in sides.items()}
    prior_C = prevalences(train_targets_NC)
    prior_logits_C = np.log(prior_C / (1 - prior_C))
    settings = [
        untrained(
            RANDOM,
            {side: rng.normal(size=shape) for side, shape in shapes.items()},
            "scores",
            "a coin a label; mean and 95 % range of luck over 100 throws",
        ),
        untrained(
            PREVALENCE,
            {side: np.broadcast_to(prior_logits_C, shape).copy() for side, shape in shapes.items()},
            "logits",
            "how common each label is in training, the same for every image",
        ),
        untrained(
            ALL_POSITIVE,
            {side: np.zeros(shape) for side, shape in shapes.items()},
            "scores",
            "every label for every image",
        ),
    ]

    reason = encoder.text_refusal
    if not reason:
        step("zero-shot")
        by_style = {
            style: {
                side: zero_shot_scores(encoder, features_ND[rows_N], cohort.labels, style, CHEST)
                for side, rows_N in sides.items()
            }
            for style in ("name", "ensemble", "pair")
        }
        prompted = max(
            ("ensemble", "pair"),
            key=lambda style: on_validation(by_style[style]["val"]),
        )
        settings += [
            fitted(ZERO_SHOT, by_style["name"], "scores", "image · text product with the bare label name"),
            fitted(
                PROMPTED,
                by_style[prompted],
                "scores",
                {"ensemble": "mean of several prompts a label", "pair": "finding against its absence"}[
                    prompted
                ]
                + ", chosen on validation",
            ),
        ]

    step("pixel floor")
    settings.append(logistic(PIXELS, pixel_features_ND, "raw pixels", common_scale=True))
    step("logistic regression")
    settings.append(logistic(LOGREG, features_ND, "the frozen features"))

    for trial in trials:
        x_ND = features_ND if trial.features_ND is None else trial.features_ND
        note = "the paper's configuration" if trial.name == PAPER else "chosen on validation"
        settings.append(
            Setting(
                name=trial.name,
                val_scores_NC=trial.head.logits(x_ND[val_N]).astype(np.float64),
                test_scores_NC=trial.head.logits(x_ND[test_N]).astype(np.float64),
                kind="logits",
                thresholds_C=trial.thresholds_C,
                strategy=trial.strategy,
                shrinkage=trial.params["threshold_shrinkage"],
                note=f"trial {trial.number}, {note}",
            )
        )
    return settings, reason
