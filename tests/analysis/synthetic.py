"""A finished study made up in memory: cohort, encoder, trials. No images, and hardly any training.

`python -m tests.analysis.synthetic FOLDER [multiclass]` writes its whole analysis there, to be looked at.
"""

import sys
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from analysis.analyze import write_analysis
from analysis.inside.models import Models
from analysis.judging.judgement import Judgement, StudyFacts, judge_test_split
from analysis.judging.scored_row import ScoredRow
from cohort.errors import InputError
from cohort.geometry import Geometry
from cohort.labels import CHEXPERT_14, LabelPolicy
from cohort.ledger import Ledger
from cohort.manifest import Cohort
from scoring.judging import SHRINKAGE, judge
from scoring.predictions import ANSWER, PUBLISHED, TRIAL, Predictions
from study.inputs import development_data
from study.predictions import beside_another_study
from study.study_rows import all_baselines, table_of
from trainables.baselines.base import BaselineInputs, chosen
from trainables.baselines.logistic import train_logistic
from trainables.candidates import Candidate
from trainables.records import TrialRecord, judged_fields
from trainables.trial_data import ProbeData
from vlm.encoders.pixels import SIDE
from vlm.feature_kinds import FeatureKind, side_by_side
from vlm.image_views import ImageViews
from vlm.linear_head import LinearHead
from vlm.predictor import Predictor

PREVALENCES = (0.03, 0.11, 0.14, 0.05, 0.02, 0.012, 0.03, 0.09, 0.008, 0.05, 0.02, 0.04, 0.05, 0.55)
CLASSES = ("normal", "bacterial", "viral", "other")
CLASS_SHARES = (0.6, 0.25, 0.1, 0.05)
WIDTH = 32


@dataclass(frozen=True)
class SyntheticEncoder:
    """What the analysis asks of an encoder; its text features point along the labels' directions."""

    direction_CD: np.ndarray
    labels: tuple[str, ...] = CHEXPERT_14
    has_text: bool = True
    name: str = "synthetic"
    width: int = WIDTH
    fingerprint: str = "f" * 64
    logit_scale: float = 10.0
    geometry: Geometry = field(default_factory=lambda: Geometry(size=64))
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.25, 0.25, 0.25)
    image_views: ImageViews = field(default_factory=ImageViews)

    @property
    def blocks(self) -> dict[str, tuple[int, ...]]:
        return {"projected": (self.width,)}

    @property
    def kinds(self) -> dict[str, FeatureKind]:
        return side_by_side({"projected": (self.width,)})

    @property
    def features(self) -> tuple[str, ...]:
        return ("projected",)

    @property
    def text_refusal(self) -> str:
        return "" if self.has_text else "encoder synthetic has no text tower; zero-shot needs a CLIP model"

    def text_features(self, prompts: list[str]) -> torch.Tensor:
        if self.text_refusal:
            raise InputError(self.text_refusal)
        rng = np.random.default_rng(1)
        rows = [
            self.direction_CD[self.labels.index(prompt)] if prompt in self.labels else rng.normal(size=WIDTH)
            for prompt in prompts
        ]
        return torch.tensor(np.stack(rows), dtype=torch.float32)


def made_up_cohort(
    images: int,
    seed: int,
    masked: float = 0.02,
    labels: tuple[str, ...] = CHEXPERT_14,
    multiclass: bool = False,
) -> Cohort:
    """Labels as skewed as IU-Xray's, a tenth of the patients with two images, some cells masked. Multiclass
    ones are as frequent as `CLASS_SHARES` says, and whole images are masked."""
    rng = np.random.default_rng(seed)
    patients_N = np.sort(rng.integers(0, int(images / 1.1), images))
    sick_P = rng.random((patients_N.max() + 1, len(labels))) < np.resize(PREVALENCES, len(labels))
    if multiclass:
        shares_C = np.resize(CLASS_SHARES, len(labels))
        class_P = rng.choice(len(labels), len(sick_P), p=shares_C / shares_C.sum())
        sick_P = np.eye(len(labels), dtype=bool)[class_P]
    targets_NC = sick_P[patients_N].astype(object)
    targets_NC[rng.random(images if multiclass else targets_NC.shape) < masked] = None
    split_P = rng.choice(["train", "val", "test"], p=[0.6, 0.2, 0.2], size=patients_N.max() + 1)
    columns = {
        "image": [f"image-{n}" for n in range(images)],
        "present": [True] * images,
        "patient": [f"p{p}" for p in patients_N],
        "split": split_P[patients_N].tolist(),
        "keep.age": rng.integers(20, 90, images).tolist(),
    }
    table = pa.table(columns)
    for c, label in enumerate(labels):
        cells = [None if cell is None else int(cell) for cell in targets_NC[:, c]]
        table = table.append_column(f"label.{label}", pa.array(cells, type=pa.int8()))
    return Cohort(
        folder=Path("cohorts/synthetic"),
        table=table,
        labels=labels,
        source="made up for tests",
        reader="",
        drawn=False,
        modality="chest radiograph",
        licence="",
        multiclass=multiclass,
        intensity=None,
        label_names={},
        label_prompts={},
        policy=LabelPolicy(),
        images_root=Path("."),
        channels=1,
        flow=(("rows read", images + 12), ("frontal views", images)),
        warnings=("no negative in val: nothing",),
        contradictions=(),
        duplicates=(),
        uncertain={},
        content_hash="c" * 64,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Finished:
    """What a judgement and its models are made of."""

    facts: StudyFacts
    cohort: Cohort
    data: ProbeData
    encoder: SyntheticEncoder
    trials: list[Predictor]
    """Trained on training alone, so that their own scores on validation are honest."""
    compared_with: Predictor | None = None
    features_of: dict[str, np.ndarray]
    """Encoder -> features of all images."""

    @cached_property
    def inputs(self) -> BaselineInputs:
        return BaselineInputs(
            cohort=self.cohort,
            data=self.data,
            encoder=self.encoder,
            features=self.features,
            objective=self.facts.objective,
            seed=self.facts.seed,
        )

    @cached_property
    def candidates(self) -> dict[str, Candidate]:
        found = {}
        for trial in self.trials:
            published = bool(trial.origin.preset)
            role = PUBLISHED if published else ANSWER if trial.name == "best-1" else TRIAL
            id = "published/paper" if published else f"trial/{trial.origin.trial}"
            found[id] = Candidate(id=id, role=role, predictor=trial, out_of_fold=None)
        return found

    @cached_property
    def predictions(self) -> Predictions:
        """Every row, with another study's best as one more where there is one."""
        rows = [one.prediction_row(self.inputs) for one in all_baselines(self.inputs).values()]
        rows += [one.row(self.features, self.data.rows_N) for one in self.candidates.values()]
        facts = {"study": self.facts.name}
        predictions = table_of(self.inputs, rows, facts)
        if self.compared_with:
            other = Candidate(id="answer", role=ANSWER, predictor=self.compared_with, out_of_fold=None)
            row = other.row(self.features, self.data.rows_N)
            facts = facts | {"study": self.compared_with.name}
            predictions = beside_another_study(predictions, table_of(self.inputs, [row], facts))
        return predictions

    def judgement(self, folder: Path) -> Judgement:
        """Opens the test split, as the cohort's ledger under `folder` then says."""
        return judge_test_split(
            self.predictions, self.cohort, self.facts, ledger_in(folder, self.cohort), "analyze synthetic"
        )

    def models(self, judgement: Judgement) -> Models:
        baselines = all_baselines(self.inputs)
        openers = {id: (lambda id=id: self.candidates[id].predictor) for id in self.candidates}
        for id, baseline in baselines.items():
            if baseline.records:
                openers[id] = lambda baseline=baseline: baseline.candidate(self.data).predictor
        if judgement.compared_with:
            name = judgement.names[judgement.compared_with]
            openers[judgement.compared_with] = lambda: replace(self.compared_with, name=name)
        return Models(
            judgement=judgement,
            encoder=self.encoder,
            data=self.data,
            features=self.features,
            openers=openers,
        )

    def features(self, encoder, precision: str) -> np.ndarray:
        """Those of `pixels` are the image itself, of which its smaller sides take the means."""
        if not encoder.name.startswith("pixels"):
            return self.features_of[encoder.name]
        x_NCHW = torch.from_numpy(self.features_of["pixels"]).reshape(-1, self.cohort.channels, SIDE, SIDE)
        return encoder.tower.visual(x_NCHW).numpy()


def finished_study(
    images: int = 1500,
    seed: int = 0,
    has_text: bool = True,
    masked: float = 0.02,
    *,
    labels: tuple[str, ...] = CHEXPERT_14,
    multiclass: bool = False,
    objective: str = "macro_ap",
    name: str = "synthetic-probe",
    bootstrap: int = 1000,
) -> Finished:
    rng = np.random.default_rng([seed, 1])
    made_up = made_up_cohort(images, seed, masked, labels, multiclass)
    direction_CD = rng.normal(size=(len(labels), WIDTH)) / np.sqrt(WIDTH)
    strength_C = np.linspace(0.3, 1.6, len(labels))[rng.permutation(len(labels))]
    known_NC = np.nan_to_num(made_up.targets_NC(), nan=0.0)
    x_ND = known_NC @ (strength_C[:, None] * direction_CD) * 2 + rng.normal(size=(images, WIDTH))
    pixels_ND = 0.35 * x_ND @ rng.normal(size=(WIDTH, 48)) + rng.normal(size=(images, 48)) * 3
    pixels_ND = np.pad(pixels_ND, ((0, 0), (0, SIDE**2 - 48)))  # a black border
    features_ND, pixels_ND = x_ND.astype(np.float32), pixels_ND.astype(np.float32)

    data = development_data(made_up, SimpleNamespace(features_ND=features_ND, precision="fp32"), seed=0)
    if has_text:
        data = replace(data, text_CD=direction_CD.astype(np.float32))
    plain = chosen(train_logistic(data, objective_name=objective, strengths=(1e-2,))).head
    records, repeats = {}, {}
    for row, number, noise in (
        ("paper", 0, 0.6),
        ("best-1", 41, 0.02),
        ("best-2", 57, 0.1),
        ("best-3", 12, 0.15),
    ):
        shift_DC = rng.normal(size=plain.weight_DC.shape).astype(np.float32) * noise
        head = replace(plain, weight_DC=(plain.weight_DC + shift_DC).astype(np.float32))
        preset = "paper" if row == "paper" else ""
        record = records[row] = finished_record(
            number, preset, head, data, objective, 10.0 ** rng.uniform(-4, -1)
        )
        if not preset:
            repeats[number] = {
                "seeds": (record.objective + rng.normal(0, 0.004, 5)).tolist(),
                "splits": (record.objective - 0.02 + rng.normal(0, 0.02, 5)).tolist(),
            }

    encoder = SyntheticEncoder(direction_CD, labels, has_text)
    ids = {
        row: "published/paper" if row == "paper" else f"trial/{one.number}" for row, one in records.items()
    }
    return Finished(
        facts=StudyFacts(
            name=name,
            objective=objective,
            seed=0,
            bootstrap=bootstrap,
            permutations=bootstrap,
            records={ids[row]: record for row, record in records.items()},
            published=0,
            repeats=repeats,
            trials=trials_table(objective, max(record.objective for record in records.values()), rng),
            provenance={"revision": "abc123"},
        ),
        cohort=made_up,
        data=data,
        encoder=encoder,
        trials=[
            record.predictor(
                row,
                labels,
                encoder,
                note=f"trial {record.number}, {why(row)}",
                study=name,
                trainable="linear_probe",
            )
            for row, record in records.items()
        ],
        features_of={encoder.name: features_ND, "pixels": pixels_ND},
    )


def why(row: str) -> str:
    return (
        "the published configuration, thresholds as published" if row == "paper" else "chosen on validation"
    )


def finished_record(
    number: int, preset: str, head: LinearHead, data: ProbeData, objective: str, learning_rate: float
) -> TrialRecord:
    """What a trial would have left behind that ended with this head."""
    logits_1NC = head.logits(data.features_ND[data.judged_N()])[None]
    (judged,) = judge(logits_1NC, data.judged(), [SHRINKAGE])
    value = judged.metrics[f"val.{objective}"]
    return TrialRecord(
        number=number,
        preset=preset,
        params={
            "learning_rate": learning_rate,
            "loss": "bce",
            "epochs": 40,
            "threshold_shrinkage": SHRINKAGE,
        },
        state="COMPLETE",
        objective=value,
        curve=[
            {
                "epoch": epoch,
                "train_loss": 0.2 + 0.5 / epoch,
                "val_loss": 0.25 + 0.45 / epoch,
                "objective": value * (1 - 0.6 / epoch),
            }
            for epoch in (1, 2, 5, 10, 20, 40)
        ],
        precision=data.precision,
        arrays=head.tensors(),
        **judged_fields(judged),
    )


def trials_table(objective: str, best: float, rng: np.random.Generator, count: int = 64) -> pd.DataFrame:
    """A `trials.parquet`: some stopped early, one failed."""
    rate, decay = 10 ** rng.uniform(-4, -1, count), 10 ** rng.uniform(-4, 1, count)
    objective_T = best - 0.02 * np.abs(np.log10(rate) + 2.3) - rng.exponential(0.01, count)
    state_T = np.where(rng.random(count) < 0.2, "PRUNED", "COMPLETE")
    state_T[7] = "FAIL"
    objective_T[7] = np.nan
    return pd.DataFrame(
        {
            "number": np.arange(count),
            "state": state_T,
            "params.learning_rate": rate,
            "params.weight_decay": decay,
            "params.epochs": rng.integers(10, 80, count),
            "params.loss": rng.choice(["bce", "focal", "asymmetric"], count),
            "params.pos_weight_power": rng.random(count),
            "params.normalisation": rng.choice(["none", "l2", "standardize"], count),
            f"val.{objective}": objective_T,
        }
    )


def ledger_in(folder: Path, cohort: Cohort) -> Ledger:
    """That of a made-up cohort, which has no folder of its own."""
    return Ledger(replace(cohort, folder=folder / "cohort"), folder)


def named(judgement: Judgement, name: str) -> ScoredRow:
    """The row of a name."""
    return next(row for row in judgement.rows if row.name == name)


def targets_of(study: Finished) -> np.ndarray:
    """Of the test split, (N, C)."""
    return study.cohort.targets_NC(study.cohort.indices("test"))


def logits_of(study: Finished, name: str) -> tuple[Predictor, np.ndarray]:
    """A trial and its float64 logits on test, (N, C)."""
    trial = next(trial for trial in study.trials if name in (trial.name, f"trial/{trial.origin.trial}"))
    features_ND = study.features_of[study.encoder.name]
    return trial, trial.scores(features_ND[study.cohort.indices("test")])


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    of_classes = {"labels": CLASSES, "multiclass": True} if "multiclass" in sys.argv else {}
    study = finished_study(2800, bootstrap=10_000, **of_classes)
    judgement = study.judgement(folder)
    print(write_analysis(judgement, folder, models=lambda: study.models(judgement)).text)
