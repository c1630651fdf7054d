"""A finished study made up in memory: cohort, encoder, trials. No images, no training.

`python -m tests.analysis.synthetic FOLDER` writes its whole analysis there, to be looked at.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from analysis.floors import logreg_floor
from analysis.scores import validation_rows
from analysis.settings import FinishedTrial
from cohort.errors import InputError
from cohort.labels import CHEXPERT_14, LabelPolicy
from cohort.manifest import Cohort
from scoring.judging import SHRINKAGE, judge
from vlm.linear_head import LinearHead

PREVALENCES = (0.03, 0.11, 0.14, 0.05, 0.02, 0.012, 0.03, 0.09, 0.008, 0.05, 0.02, 0.04, 0.05, 0.55)
WIDTH = 32


@dataclass(frozen=True)
class SyntheticEncoder:
    """What the analysis asks of an encoder; its text features point along the labels' directions."""

    direction_CD: np.ndarray
    has_text: bool = True
    name: str = "synthetic"
    features: str = "projected"
    width: int = WIDTH
    fingerprint: str = "f" * 64
    logit_scale: float = 10.0

    @property
    def text_refusal(self) -> str:
        return "" if self.has_text else "encoder synthetic has no text tower; zero-shot needs a CLIP model"

    def text_features(self, prompts: list[str]) -> torch.Tensor:
        if self.text_refusal:
            raise InputError(self.text_refusal)
        rng = np.random.default_rng(1)
        rows = [
            self.direction_CD[CHEXPERT_14.index(prompt)] if prompt in CHEXPERT_14 else rng.normal(size=WIDTH)
            for prompt in prompts
        ]
        return torch.tensor(np.stack(rows), dtype=torch.float32)


def made_up_cohort(images: int, seed: int, masked: float = 0.02) -> Cohort:
    """Labels as skewed as IU-Xray's, a tenth of the patients with two images, some cells masked."""
    rng = np.random.default_rng(seed)
    patients_N = np.sort(rng.integers(0, int(images / 1.1), images))
    sick_P = rng.random((patients_N.max() + 1, len(CHEXPERT_14))) < np.array(PREVALENCES)
    targets_NC = sick_P[patients_N].astype(object)
    targets_NC[rng.random(targets_NC.shape) < masked] = None
    split_P = rng.choice(["train", "val", "test"], p=[0.6, 0.2, 0.2], size=patients_N.max() + 1)
    columns = {
        "image": [f"image-{n}" for n in range(images)],
        "present": [True] * images,
        "patient": [f"p{p}" for p in patients_N],
        "split": split_P[patients_N].tolist(),
    }
    table = pa.table(columns)
    for c, label in enumerate(CHEXPERT_14):
        cells = [None if cell is None else int(cell) for cell in targets_NC[:, c]]
        table = table.append_column(f"label.{label}", pa.array(cells, type=pa.int8()))
    return Cohort(
        folder=Path("cohorts/synthetic"),
        table=table,
        labels=CHEXPERT_14,
        source="made up for tests",
        reader="",
        drawn=False,
        modality="chest radiograph",
        licence="",
        policy=LabelPolicy(),
        images_root=Path("."),
        channels=1,
        flow=(("rows read", images + 12), ("frontal views", images)),
        warnings=("no negative in val: nothing",),
        contradictions=(),
        uncertain={},
        content_hash="c" * 64,
    )


@dataclass(frozen=True)
class Finished:
    """Arguments of `analysis.scores.analyze`, but for the folder."""

    cohort: Cohort
    encoder: SyntheticEncoder
    features_ND: np.ndarray
    pixel_features_ND: np.ndarray
    trials: list[FinishedTrial]
    trials_table: pd.DataFrame
    objective: str
    objective_labels_C: np.ndarray


def finished_study(
    images: int = 1500,
    seed: int = 0,
    has_text: bool = True,
    masked: float = 0.02,
    objective: str = "macro_ap",
) -> Finished:
    rng = np.random.default_rng([seed, 1])
    made_up = made_up_cohort(images, seed, masked)
    direction_CD = rng.normal(size=(len(CHEXPERT_14), WIDTH)) / np.sqrt(WIDTH)
    strength_C = np.linspace(0.3, 1.6, len(CHEXPERT_14))[rng.permutation(len(CHEXPERT_14))]
    known_NC = np.nan_to_num(made_up.targets_NC(), nan=0.0)
    x_ND = known_NC @ (strength_C[:, None] * direction_CD) * 2 + rng.normal(size=(images, WIDTH))
    pixels_ND = 0.35 * x_ND @ rng.normal(size=(WIDTH, 48)) + rng.normal(size=(images, 48)) * 3
    features_ND, pixels_ND = x_ND.astype(np.float32), pixels_ND.astype(np.float32)

    train_N, val_N = made_up.indices("train"), made_up.indices("val")
    counted_C = (made_up.targets_NC(val_N) == 1).sum(0) >= 5
    rows = validation_rows(made_up, counted_C, seed=0)
    plain = logreg_floor(
        features_ND[train_N],
        made_up.targets_NC(train_N),
        features_ND[val_N],
        rows,
        objective=objective,
        strengths=(1e-2,),
    ).head

    trials = []
    for name, number, noise in (
        ("paper", 0, 0.6),
        ("best-1", 41, 0.02),
        ("best-2", 57, 0.1),
        ("best-3", 12, 0.15),
    ):
        weight_DC = plain.weight_DC + rng.normal(size=plain.weight_DC.shape).astype(np.float32) * noise
        head = LinearHead(
            weight_DC=weight_DC.astype(np.float32),
            bias_C=plain.bias_C,
            mean_D=plain.mean_D,
            scale_D=plain.scale_D,
        )
        logits_NC = head.logits(features_ND[val_N])
        (judged,) = judge(logits_NC[None], rows, [SHRINKAGE])
        value = judged.metrics[f"val.{objective}"]
        epochs = np.array([1, 2, 5, 10, 20, 40])
        trials.append(
            FinishedTrial(
                name=name,
                number=number,
                head=head,
                strategy=judged.strategy,
                thresholds_C=judged.thresholds[judged.strategy],
                few_C=judged.few_C,
                objective=value,
                params={
                    "learning_rate": 10.0 ** rng.uniform(-4, -1),
                    "loss": "bce",
                    "epochs": 40,
                    "threshold_shrinkage": SHRINKAGE,
                },
                curve=[
                    {
                        "epoch": e,
                        "train_loss": 0.2 + 0.5 / e,
                        "val_loss": 0.25 + 0.45 / e,
                        "objective": value * (1 - 0.6 / e),
                    }
                    for e in epochs.tolist()
                ],
                seeds=(value + rng.normal(0, 0.004, 5)).tolist() if name != "paper" else (),
                splits=(value - 0.02 + rng.normal(0, 0.02, 5)).tolist() if name != "paper" else (),
            )
        )

    count = 64
    rate, decay = 10 ** rng.uniform(-4, -1, count), 10 ** rng.uniform(-4, 1, count)
    best = max(trial.objective for trial in trials)
    objective_T = best - 0.02 * np.abs(np.log10(rate) + 2.3) - rng.exponential(0.01, count)
    state_T = np.where(rng.random(count) < 0.2, "PRUNED", "COMPLETE")
    state_T[7] = "FAIL"
    objective_T[7] = np.nan
    table = pd.DataFrame(
        {
            "number": np.arange(count),
            "state": state_T,
            "params.learning_rate": rate,
            "params.weight_decay": decay,
            "params.epochs": rng.integers(10, 80, count),
            "params.loss": rng.choice(["bce", "focal", "asymmetric"], count),
            "params.positive_weight": rng.random(count),
            "params.normalisation": rng.choice(["none", "l2", "standardize"], count),
            f"val.{objective}": objective_T,
        }
    )
    return Finished(
        cohort=made_up,
        encoder=SyntheticEncoder(direction_CD, has_text),
        features_ND=features_ND,
        pixel_features_ND=pixels_ND,
        trials=trials,
        trials_table=table,
        objective=objective,
        objective_labels_C=counted_C,
    )


def targets_of(study: Finished) -> np.ndarray:
    """Of the test split, (N, C)."""
    return study.cohort.targets_NC(study.cohort.indices("test"))


def logits_of(study: Finished, name: str) -> tuple[FinishedTrial, np.ndarray]:
    """A trial and its float64 logits on test, (N, C)."""
    trial = next(trial for trial in study.trials if trial.name == name)
    return trial, trial.head.logits(study.features_ND[study.cohort.indices("test")]).astype(np.float64)


if __name__ == "__main__":
    from analysis.scores import analyze

    result = analyze(**vars(finished_study(2800)), folder=Path(sys.argv[1]), title="synthetic-probe")
    print(result.text)
