"""What the sections of a report may read: predictors with their scores, and the tables that they share.

A shared table is computed when it is first asked for, and once.

Shape legend: N images, C labels, P patients, B resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis import (
    claims,
    comparisons,
    generalization_gap,
    label_decisions,
    operating_points,
    prediction_table,
    score_table,
)
from analysis.feature_spaces import FeatureSpace, feature_spaces
from analysis.kept_columns import kept_columns, metadata_row
from analysis.predictors import (
    BEST_TRIAL,
    LOGREG,
    LOGREG_DEEP,
    METADATA,
    PAPER,
    PIXELS,
    PREVALENCE,
    PROMPTED,
    PUBLICATION,
    PUBLISHED,
    RANDOM,
    STUDY,
    ZERO_SHOT,
    Candidate,
    Scored,
    constant_floors,
    logistic_floors,
    pixel_floor,
    random_row,
    scored,
    text_floor,
    zero_shot,
)
from analysis.separability import Points, separability
from analysis.test_split import TestSplit, open_test_split
from cohort.errors import InputError
from cohort.manifest import Cohort
from scoring.judging import JudgedRows
from scoring.metric_table import Resampled
from scoring.operating_points import OperatingPoint
from scoring.resampling import patient_weights
from trainables.logistic import LogisticGrid
from trainables.records import TrialRecord
from trainables.trial_data import ProbeData
from vlm.cohort_features import CohortFeatures
from vlm.encoders import Encoder
from vlm.prompts import Wording

OPPONENTS = (PREVALENCE, ZERO_SHOT, PROMPTED, METADATA, PIXELS, LOGREG, LOGREG_DEEP, PAPER)
"""What the study's answer is tested against, with the study that it is compared with where there is one;
fixed before any test score exists."""


@dataclass(frozen=True, kw_only=True, eq=False)
class StudyFacts:
    """What the report says of the study itself."""

    name: str
    objective: str
    """macro_ap, macro_auroc or macro_f1."""
    seed: int
    bootstrap: int
    """Resamples behind each interval."""
    permutations: int
    """Draws of each paired test at least, see `analysis.comparisons.compare`."""
    images: bool = True
    """Whether images of the cohort may be shown."""
    looked_at: Sequence[str] = ()
    """Images whose maps are shown because somebody asked."""
    records: Mapping[str, TrialRecord]
    """The chosen configurations by their names in the tables: `paper`, `best-1`, ..."""
    regressions: Mapping[str, LogisticGrid] = field(default_factory=dict)
    """Row -> the plain logistic regressions, as far as the study fitted them while it ran."""
    finalists: Sequence[TrialRecord] = ()
    """The best 20 configurations or fewer, the best first, as the search left them."""
    nested_objective: float = float("nan")
    """Of the answer, where each fold's patients are scored by what was chosen without them; NaN of a single
    trial."""
    best_nested_objective: float = float("nan")
    """The same of the best configuration alone."""
    published: int | None = None
    """Number of the published configuration; None where it has no head."""
    operating_points: Sequence[OperatingPoint] = ()
    """At which the best configuration is looked at on test."""
    repeats: Mapping[int, Mapping[str, list[float]]] = field(default_factory=dict)
    """Trial number -> `seeds` and `splits`, the objective of each repeat."""
    trials: pd.DataFrame
    """`trials.parquet`."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    """Further lines for the account of where all came from, such as the revision."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """A study's predictors on a cohort's test split."""

    cohort: Cohort
    encoder: Encoder
    split: TestSplit
    data: ProbeData
    """The study's development rows."""
    judged: JudgedRows
    """Those of `data.judged_N()`, as the study judged on them."""
    rows: tuple[Scored, ...]
    """The least informed first."""
    compared_with: str = ""
    """Name of the row that is another study's best; empty where there is none."""
    study: StudyFacts
    features: CohortFeatures
    """Of the cohort under any encoder, altered images among them."""
    no_zero_shot: str = ""
    """Why there is no zero-shot row; empty where there is one."""
    no_metadata: str = ""
    """Why there is no row of the kept columns where the cohort has some; empty otherwise."""

    @property
    def best(self) -> str:
        """The row that the claims are about: the study's answer, or where it has none of several heads the
        best configuration on validation."""
        return STUDY if self.has(STUDY) else BEST_TRIAL

    @property
    def best_is_published(self) -> bool:
        """Whether the best on validation is the published configuration itself. Its row beside the best's, if
        there is one, has the same scores and differs in its decisions alone."""
        trial = self.row(self.best).predictor.origin.trial
        return trial is not None and trial == self.study.published

    @property
    def plain(self) -> str:
        """The row of the plain logistic regression that has the better objective on validation; of equals
        that on the base features."""
        present = [name for name in (LOGREG, LOGREG_DEEP) if self.has(name)]
        return max(present, key=lambda name: self.row(name).predictor.origin.objective)

    @property
    def cross_validated(self) -> bool:
        """Whether “validation” means scores of all development images, each by what did not train on it."""
        return self.data.folds > 1

    def row(self, name: str) -> Scored:
        return next(row for row in self.rows if row.name == name)

    def has(self, name: str) -> bool:
        return any(row.name == name for row in self.rows)

    def drawn(self, name: str) -> bool:
        """Whether a row stands beside the best in figures and tests: not where it is the best itself."""
        return self.has(name) and not (name == PAPER and self.best_is_published)

    @cached_property
    def label_names(self) -> dict[str, str]:
        """Label -> how it is said to people, in the cohort's order."""
        return {label: self.cohort.label_name(label) for label in self.cohort.labels}

    @cached_property
    def weights_PB(self) -> np.ndarray:
        """Of the patients in each resample, see `scoring.resampling.patient_weights`."""
        return patient_weights(self.split.patients, self.study.bootstrap, self.study.seed)

    @cached_property
    def _scored(self) -> dict[str, tuple[pd.DataFrame, Resampled | None]]:
        return {
            row.name: score_table.score_setting(self.split, row, self.weights_PB, self.study.seed)
            for row in self.rows
        }

    @cached_property
    def scores(self) -> pd.DataFrame:
        """`test_scores.csv`: setting, metric, label, value, low, high, positives, positive_patients,
        labels_averaged. `label` is empty for an average and `domain:<name>` for a domain; metrics that start
        with `paper.` follow the paper's rules (within-image min-max, cut at 0.5, zero_division=0, all
        labels)."""
        return pd.concat([frame for frame, _ in self._scored.values()], ignore_index=True)

    @property
    def opponents(self) -> list[str]:
        """What the best is tested against."""
        return [name for name in (*OPPONENTS, self.compared_with) if self.drawn(name)]

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """`comparisons.csv`, see `analysis.comparisons.compare`."""
        return comparisons.compare(
            self.split,
            self.rows,
            self.best,
            self.opponents,
            {name: resampled for name, (_, resampled) in self._scored.items()},
            objective=self.study.objective,
            draws=self.study.permutations,
            seed=self.study.seed,
        )

    @property
    def claim_possible(self) -> bool:
        """Whether any difference, however large, could be claimed among so many tests."""
        return comparisons.claim_possible(self.split, len(self.opponents), self.study.permutations)

    @cached_property
    def gap(self) -> pd.DataFrame:
        """`generalization_gap.csv`: setting, metric, validation, test, gap, over the same labels; once where
        the published configuration is the best itself."""
        rows = [row for row in self.rows if self.drawn(row.name)]
        return generalization_gap.validation_to_test(rows, self.split, self.judged, self.study.objective)

    @cached_property
    def claims(self) -> list[claims.Claim]:
        """One a label in the cohort's order, then one on the average: what this test split supports."""
        tables = self.scores, self.comparisons, self.label_names, self.best
        found = claims.label_claims(*tables, self.split.own)
        return [*found, claims.average_claim(*tables, self.study.objective)]

    @cached_property
    def headline(self) -> str:
        """What the study's answer scores on test, how it differs from the plain method, and the strongest
        floor."""
        row = self.row(self.best)
        who = "The configuration chosen on validation"
        if self.best_is_published:
            who += f", {PUBLISHED} itself ({PUBLICATION}),"
        elif self.best == STUDY:
            who = f"The study's answer, {row.note},"
        return claims.headline(
            self.scores,
            self.comparisons,
            self.best,
            self.study.objective,
            who=who,
            plain=self.plain,
            names=self.label_names,
            test=self.split.own,
        )

    @cached_property
    def settings(self) -> pd.DataFrame:
        """`settings.csv`, a line a row: setting, trial (missing for what is none), objective on validation
        (of what was chosen by it), threshold strategy, note."""
        rows: list[tuple[Any, ...]] = []
        for row in self.rows:
            trial = row.predictor.origin.trial if row.predictor else None
            rows.append((row.name, trial, row.objective, row.rule.strategy, row.note))
        return pd.DataFrame(rows, columns=["setting", "trial", "validation", "strategy", "note"])

    @cached_property
    def operating_points(self) -> pd.DataFrame:
        """`operating_points.csv`, of the best row, see `analysis.operating_points`; empty where none is
        wanted."""
        return operating_points.at_points(
            self.study.operating_points, self.row(self.best), self.split, self.judged
        )

    @cached_property
    def label_decisions(self) -> pd.DataFrame:
        """`label_decisions.csv`, of the best row, see `analysis.label_decisions`."""
        return label_decisions.label_decisions(self.split, self.row(self.best))

    @cached_property
    def spaces(self) -> list[FeatureSpace]:
        """What the rows see of an image, see `analysis.feature_spaces`."""
        return feature_spaces(self.encoder, self.data.precision, self.rows, self.best)

    def points(self, space: FeatureSpace) -> Points:
        """The test images in one of `spaces`."""
        split = self.split
        return Points(
            features_ND=space.of(self.features, split.rows_N),
            targets_NC=split.targets_NC,
            patients_N=split.patients_N,
            labels=split.labels,
            seed=self.study.seed,
        )

    @cached_property
    def frozen_separability(self) -> pd.DataFrame:
        """The rows of `separability.csv` of the frozen features."""
        return separability(self.points(self.spaces[0]), self.spaces[0].name)

    @cached_property
    def separability(self) -> pd.DataFrame:
        """`separability.csv`, see `analysis.separability`."""
        others = [separability(self.points(space), space.name) for space in self.spaces[1:]]
        return pd.concat([self.frozen_separability, *others], ignore_index=True)

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """`test_predictions.parquet`, see `analysis.prediction_table`."""
        return prediction_table.predictions(self.cohort, self.split, self.rows)


def gather(
    facts: StudyFacts,
    *,
    cohort: Cohort,
    data: ProbeData,
    encoder: Encoder,
    trials: Sequence[Candidate],
    compared_with: Candidate | None,
    features: CohortFeatures,
    openings: Path,
) -> Evidence:
    """Fit the floors, open the test split, and score every row on it.

    Args:
        facts: of the study.
        cohort: with a test split.
        data: the study's training and validation on its frozen features, in the folds in which it judges.
        encoder: the study's: its text tower gives zero-shot.
        trials: the study's answer and its chosen configurations; never chosen on test.
        compared_with: the best of another study on the same cohort, under that study's name.
        features: of the cohort under any encoder.
        openings: the run folder's record of openings; see `analysis.test_split`.

    Raises:
        InputError: the test split is absent, no label of the objective has enough positive patients there, or
            the study compared with bears the name of another row.
    """
    val_N, test_N = data.rows_N[data.judged_N()], cohort.indices("test")
    untrained = constant_floors(data, encoder)
    no_zero_shot = encoder.text_refusal
    if not no_zero_shot:
        untrained += zero_shot(data, encoder, Wording.of(cohort), facts.objective)
    candidates = [pixel_floor(data, cohort.channels, features, facts.objective)]
    if data.text_CD is not None:
        candidates.append(text_floor(data, encoder, facts.objective))
    candidates += logistic_floors(data, encoder, facts.objective, facts.regressions)
    candidates += trials
    if compared_with:
        name = compared_with.predictor.name
        taken = {RANDOM, METADATA, *(one.name for one in untrained)}
        if name in taken | {candidate.predictor.name for candidate in candidates}:
            raise InputError(
                f"analysis.compare_with: a study named {name} cannot stand beside the row of "
                "that name; run it under another name"
            )
        candidates.append(compared_with)
    rows = [random_row(len(cohort.labels), len(val_N), len(test_N), facts.seed, exclusive=cohort.exclusive)]
    rows += [scored(Candidate(predictor, None), features, val_N, test_N) for predictor in untrained]
    kept = kept_columns(cohort, data.rows_N)
    if metadata := metadata_row(kept, data, test_N, facts.objective):
        rows.append(metadata)
    rows += [scored(candidate, features, val_N, test_N) for candidate in candidates]
    split = open_test_split(cohort, data.scored_C, openings, f"analyze {facts.name}")
    return Evidence(
        cohort=cohort,
        encoder=encoder,
        split=split,
        data=data,
        judged=data.judged(),
        rows=tuple(rows),
        compared_with=compared_with.predictor.name if compared_with else "",
        study=facts,
        features=features,
        no_zero_shot=no_zero_shot,
        no_metadata=kept.note if kept.left_out and not kept.read else "",
    )
