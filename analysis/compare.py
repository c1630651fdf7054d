"""Encoders side by side on cohorts: how far findings, overlaid text and the kind of image lie apart in their
features, and what a probe on them scores on patients that it was not trained on.

Shape legend: N images, D features, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd

from analysis.inside.overlay_effects import (
    OverlaySample,
    decision_effects,
    feature_effects,
    labels_to_name,
    with_controls,
)
from analysis.inside.overlays import Overlay, overlays
from analysis.inside.separability import Points, separability
from analysis.judging.comparisons import compare_averages
from analysis.judging.evaluation_set import EvaluationSet
from analysis.judging.score_table import score_setting
from analysis.judging.scored_row import ScoredRow
from cohort.manifest import Cohort
from scoring.predictions import BASELINE
from scoring.resampling import patient_weights
from trainables.baselines import ZERO_SHOT
from trainables.baselines.base import BaselineInputs, chosen
from trainables.baselines.base import name_of as name_of_baseline
from trainables.baselines.logistic import train_logistic
from trainables.baselines.zero_shot import BARE, zero_shot_record
from trainables.candidates import Candidate, OutOfFold
from trainables.trial_data import ProbeData
from vlm.cohort_features import CohortFeatures
from vlm.encoders import Encoder
from vlm.feature_kinds import FeatureKind
from vlm.predictor import Predictor

OBJECTIVE = "macro_auroc"
"""By which a probe's C is chosen, and encoders are compared."""
PROBE = "probe"
EVERYWHERE, OF_KINDS = "all cohorts", "kind_of_image."
"""What stands in the columns cohort and metric where the cohorts themselves are discriminated."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidates:
    """One cohort under one encoder."""

    cohort: Cohort
    name: str
    """The cohort's folder, as a person knows it."""
    encoder_name: str
    """As the tables have it, see `vlm.encoder_names.shown_apart`."""
    split: EvaluationSet
    data: ProbeData
    """Development rows in the study's own folds."""
    encoder: Encoder
    kinds: Sequence[FeatureKind]
    features: CohortFeatures
    images_per_second: float
    """Of a pass in this comparison; NaN where the cache held the features, or a part of them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """What one kind of features of one encoder holds of one cohort."""

    encoder: str
    kind: str
    cohort: str
    table: pd.DataFrame
    """Rows of `comparison.csv`."""
    probe: ScoredRow
    """Its id is that of the line."""
    held_ND: np.ndarray
    """Features of the images compared on."""
    images_per_second: float


@dataclass(frozen=True, kw_only=True, eq=False)
class _Overlaid:
    """Test images with text burned in."""

    sample: OverlaySample
    texts: list[Overlay]
    clean_ND: np.ndarray
    altered_NV2D: np.ndarray


def measure(of: Candidates, *, resamples: int, seed: int) -> list[Measured]:
    """Separability with its chance, the probe and its fall under overlaid text, of every kind of features.

    The overlaid images are embedded once, whatever the number of kinds.
    """
    overlaid = _overlay(of, seed)
    weights_PB = patient_weights(of.split.patients, resamples, seed)
    return [_of_kind(of, kind, overlaid, weights_PB, seed) for kind in of.kinds]


def _overlay(of: Candidates, seed: int) -> _Overlaid:
    split, precision = of.split, of.data.precision
    texts = overlays(labels_to_name(of.cohort, split))
    sample = OverlaySample.draw(split.patients_N, seed)
    rows_N = split.rows_N[sample.places_N]
    altered = of.features.altered(of.encoder, precision, rows_N, with_controls(texts))
    return _Overlaid(
        sample=sample,
        texts=texts,
        clean_ND=of.features(of.encoder, precision)[rows_N],
        altered_NV2D=altered.reshape(len(rows_N), len(texts), 2, -1),
    )


def _of_kind(
    of: Candidates, kind: FeatureKind, overlaid: _Overlaid, weights_PB: np.ndarray, seed: int
) -> Measured:
    split, columns = of.split, kind.columns
    features_ND = of.features(of.encoder, of.data.precision)
    points = Points(
        features_ND=np.ascontiguousarray(features_ND[split.rows_N][:, columns]),
        targets_NC=split.targets_NC,
        patients_N=split.patients_N,
        labels=split.labels,
        seed=seed,
    )
    held = points.features_ND, split.patients_N
    altered, clean = overlaid.altered_NV2D[..., columns], overlaid.clean_ND[:, columns]
    speed = (kind.name, "images_per_second", "", of.images_per_second)
    tables = [
        separability(points, kind.name),
        feature_effects(overlaid.sample, overlaid.texts, kind.name, clean, altered, held),
        pd.DataFrame([speed], columns=["setting", "metric", "label", "value"]),
    ]
    answers = _answers(of, kind)
    for row, predictor in answers:
        own = [
            _scores(split, row, weights_PB, seed),
            decision_effects(
                overlaid.sample, overlaid.texts, predictor, overlaid.clean_ND, overlaid.altered_NV2D
            ),
        ]
        # They stand under the kind of features, apart from what these hold by their metric.
        tables += [one.assign(metric=f"{predictor.name}." + one["metric"]) for one in own]
    table = pd.concat(tables, ignore_index=True).assign(setting=kind.name)
    table.insert(0, "cohort", of.name)
    table.insert(0, "encoder", of.encoder_name)
    return Measured(
        encoder=of.encoder_name,
        kind=kind.name,
        cohort=of.name,
        table=table,
        probe=_as_line(answers[0][0], name_of((of.encoder_name, kind.name))),
        held_ND=points.features_ND,
        images_per_second=of.images_per_second,
    )


def _as_line(row: ScoredRow, name: str) -> ScoredRow:
    """The row under the name of its line, which no other has."""
    return replace(row, id=name, name=name)


def _answers(of: Candidates, kind: FeatureKind) -> list[tuple[ScoredRow, Predictor]]:
    """The probe, and beside the first kind of an encoder with a text tower zero-shot with bare names."""
    data = of.data
    record = chosen(train_logistic(data, objective_name=OBJECTIVE, kind=kind.name))
    note = f"logistic regression on {kind.name} features, C = {record.params['C']:g}"
    probe = record.predictor(PROBE, data.labels, of.encoder, note=note)
    judged_N = data.rows_N[data.judged_N()]
    found = [
        Candidate(
            id=PROBE, role=BASELINE, predictor=probe, out_of_fold=OutOfFold(judged_N, record.held_out_MC)
        )
    ]
    if not of.encoder.text_refusal and kind is of.kinds[0]:
        inputs = BaselineInputs(
            cohort=of.cohort, data=data, encoder=of.encoder, features=of.features, objective=OBJECTIVE
        )
        note = "image · text product with the bare label name"
        bare = zero_shot_record(inputs, BARE).predictor(
            name_of_baseline(ZERO_SHOT), data.labels, of.encoder, note=note
        )
        found.append(Candidate(id=ZERO_SHOT, role=BASELINE, predictor=bare, out_of_fold=None))
    rows = [one.row(of.features, data.rows_N) for one in found]
    return [
        (ScoredRow.of(row, judged_N, of.split.rows_N), one.predictor)
        for row, one in zip(rows, found, strict=True)
    ]


def _scores(split: EvaluationSet, row: ScoredRow, weights_PB: np.ndarray, seed: int) -> pd.DataFrame:
    """AUROC and average precision of an answer, of each label and on average."""
    frame, _ = score_setting(split, row, weights_PB, seed)
    wanted = frame["metric"].isin(("macro_auroc", "macro_ap", "auroc", "average_precision"))
    return frame[wanted & ~frame["label"].str.startswith("domain:")].drop(columns="labels_averaged")


def kinds_of_image(measured: Sequence[Measured], splits: dict[str, EvaluationSet], seed: int) -> pd.DataFrame:
    """How far the cohorts themselves lie apart in each encoder's features, rows of `comparison.csv`; each
    cohort against the others, as a label of one question. Nothing of a single cohort."""
    frames = []
    for encoder, kind in dict.fromkeys((one.encoder, one.kind) for one in measured):
        mine = [one for one in measured if (one.encoder, one.kind) == (encoder, kind)]
        if len(mine) < 2 or len({one.held_ND.shape[1] for one in mine}) > 1:
            continue
        names = [one.cohort for one in mine]
        which_N = np.concatenate([np.full(len(one.held_ND), n) for n, one in enumerate(mine)])
        patients_N = np.concatenate([splits[one.cohort].patients_N for one in mine])
        both_N = np.unique(np.stack([which_N, patients_N]), axis=1, return_inverse=True)[1]
        points = Points(
            features_ND=np.concatenate([one.held_ND for one in mine]),
            targets_NC=np.eye(len(mine))[which_N],
            patients_N=both_N.astype(np.int64),
            labels=tuple(names),
            seed=seed,
        )
        table = separability(points, kind)
        table.insert(0, "cohort", EVERYWHERE)
        table.insert(0, "encoder", encoder)
        table["metric"] = OF_KINDS + table["metric"]
        frames.append(table)
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def paired(
    measured: Sequence[Measured], splits: dict[str, EvaluationSet], *, resamples: int, draws: int, seed: int
) -> pd.DataFrame:
    """`paired.csv`, whose columns after cohort are those of `analysis.judging.comparisons.compare` less
    family and label: the probes of every two encoders on the same patients, Holm within a cohort."""
    frames = []
    for cohort, split in splits.items():
        rows = [one.probe for one in measured if one.cohort == cohort]
        if len(rows) < 2:
            continue
        weights_PB = patient_weights(split.patients, resamples, seed)
        resampled = {row.name: score_setting(split, row, weights_PB, seed)[1] for row in rows}
        pairs = list(combinations(rows, 2))
        frame = compare_averages(split, pairs, resampled, objective=OBJECTIVE, draws=draws, seed=seed)
        frame = frame.drop(columns=["family", "label"])
        frame.insert(0, "cohort", cohort)
        frames.append(frame)
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """Everything that was measured."""

    cohorts: dict[str, Cohort]
    splits: dict[str, EvaluationSet]
    table: pd.DataFrame
    """`comparison.csv`."""
    paired: pd.DataFrame

    def value(self, line: tuple[str, str], cohort: str, metric: str, overlay: str = "") -> pd.Series | None:
        """The row of an average; None where it is not there."""
        table = self.table
        mine = (
            (table["encoder"] == line[0])
            & (table["setting"] == line[1])
            & (table["cohort"] == cohort)
            & (table["metric"] == metric)
            & (table["label"] == "")
        )
        if overlay:
            mine &= (table["overlay"] == overlay) & (table["text"] == "")
        found = table[mine]
        return found.iloc[0] if len(found) else None

    @property
    def too_rare(self) -> dict[str, list[str]]:
        """Cohort -> labels that too few patients have, or have not, to be discriminated."""
        known = self.table[self.table["metric"] == "ratio"].groupby("cohort")["label"].agg(set)
        return {
            name: [label for label in cohort.labels if label not in known.get(name, set())]
            for name, cohort in self.cohorts.items()
        }

    @property
    def lines(self) -> list[tuple[str, str]]:
        """(encoder, kind of features), in the order given."""
        columns = self.table[["encoder", "setting"]].drop_duplicates()
        return list(columns.itertuples(index=False, name=None))

    @property
    def shared(self) -> list[str]:
        """Labels that all cohorts have."""
        first, *others = [cohort.labels for cohort in self.cohorts.values()]
        return [label for label in first if all(label in labels for labels in others)]


def name_of(line: tuple[str, str]) -> str:
    """(encoder, kind of features) as people read it."""
    return f"{line[0]}, {line[1]}"
