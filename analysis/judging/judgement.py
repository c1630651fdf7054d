"""A judgement: predictions held against a cohort's labels, and the tables that sections share.

It needs a table of predictions and the labels, and neither encoder nor torch. A shared table is computed when
it is first asked for, and once.

Shape legend: N images, C labels, P patients, B resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from analysis.judging import (
    claims,
    comparisons,
    generalization_gap,
    label_decisions,
    operating_points,
    prediction_table,
    score_table,
)
from analysis.judging.evaluation_set import EvaluationSet, open_test_split
from analysis.judging.scored_row import ScoredRow
from cohort.ledger import Access, Ledger
from cohort.manifest import Cohort
from scoring.judging import JudgedRows
from scoring.model_output import Resampled
from scoring.operating_points import OperatingPoint
from scoring.predictions import ANSWER, OTHER_STUDY, PUBLISHED, Predictions
from scoring.resampling import patient_weights
from search_spaces.publication import PUBLICATION, PUBLISHED_NAME
from trainables.baselines import (
    ALL_POSITIVE,
    LOGREG,
    LOGREG_DEEP,
    METADATA,
    PIXELS,
    PREVALENCE,
    PROMPTED,
    ZERO_SHOT,
)
from trainables.records import TrialRecord

OPPONENTS = (PREVALENCE, ZERO_SHOT, PROMPTED, METADATA, PIXELS, LOGREG, LOGREG_DEEP)
"""Baselines that the answer is tested against, beside the published configuration and the study that it is
compared with where there are such; fixed before any test score exists."""


@dataclass(frozen=True, kw_only=True, eq=False)
class StudyFacts:
    """What the report says of the study itself."""

    name: str
    objective: str
    """One of `scoring.objectives.OBJECTIVES`."""
    seed: int
    bootstrap: int
    """Resamples behind each interval."""
    permutations: int
    """Draws of each paired test at least, see `analysis.judging.comparisons.compare`."""
    images: bool = True
    """Whether images of the cohort may be shown."""
    looked_at: Sequence[str] = ()
    """Images whose maps are shown because somebody asked."""
    records: Mapping[str, TrialRecord]
    """The chosen configurations by the ids of their rows, the answer's own where it is one of them."""
    baselines: Mapping[str, TrialRecord] = field(default_factory=dict)
    """Id of a baseline -> the record that was chosen of it, as far as the study kept it."""
    best: Sequence[TrialRecord] = ()
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
class Judgement:
    """The rows of a study's predictions on a cohort's test split."""

    cohort: Cohort
    predictions: Predictions
    split: EvaluationSet
    rows: tuple[ScoredRow, ...]
    """The least informed first."""
    judged: JudgedRows
    """The development images on which the study judges."""
    study: StudyFacts

    @cached_property
    def _by_id(self) -> dict[str, ScoredRow]:
        return {row.id: row for row in self.rows}

    @cached_property
    def answer(self) -> ScoredRow:
        """The row that the claims are about, by its role."""
        return next(row for row in self.rows if row.role == ANSWER)

    @property
    def best(self) -> str:
        """The id of the answer's row."""
        return self.answer.id

    @cached_property
    def names(self) -> dict[str, str]:
        """Id of a row -> its name, for people."""
        return {row.id: row.name for row in self.rows}

    @property
    def published(self) -> str:
        """The id of the published configuration's row; empty where there is none."""
        return next((row.id for row in self.rows if row.role == PUBLISHED), "")

    @property
    def compared_with(self) -> str:
        """The id of another study's answer; empty where there is none."""
        return next((row.id for row in self.rows if row.role == OTHER_STUDY), "")

    @property
    def best_is_published(self) -> bool:
        """Whether the answer is the published configuration itself. Its row beside the answer's, if there is
        one, has the same scores and differs in its decisions alone."""
        trial = self.answer.origin.trial
        return trial is not None and trial == self.study.published

    @property
    def plain(self) -> str:
        """The row of the plain logistic regression that has the better objective on validation; of equals
        that on the base features."""
        present = [id for id in (LOGREG, LOGREG_DEEP) if self.has(id)]
        return max(present, key=lambda id: self.row(id).objective)

    @property
    def cross_validated(self) -> bool:
        """Whether “validation” means scores of all development images, each by what did not train on it."""
        return self.predictions.images.folds > 1

    @property
    def absent(self) -> Mapping[str, str]:
        """Id of a baseline that is not among the rows -> why."""
        return self.predictions.facts.get("absent", {})

    def row(self, id: str) -> ScoredRow:
        return self._by_id[id]

    def has(self, id: str) -> bool:
        return id in self._by_id

    def drawn(self, id: str) -> bool:
        """Whether a row stands beside the answer in figures and tests: not where it is the answer itself."""
        return self.has(id) and not (id == self.published and self.best_is_published)

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
            row.id: score_table.score_setting(self.split, row, self.weights_PB, self.study.seed)
            for row in self.rows
        }

    @cached_property
    def scores(self) -> pd.DataFrame:
        """Rows by their ids: setting, metric, label, value, low, high, positives, positive_patients,
        labels_averaged. `label` is empty for an average and `domain:<name>` for a domain; metrics that start
        with `paper.` follow the paper's rules (within-image min-max, cut at 0.5, zero_division=0, all
        labels)."""
        return pd.concat([frame for frame, _ in self._scored.values()], ignore_index=True)

    @property
    def opponents(self) -> list[str]:
        """What the answer is tested against."""
        return [id for id in (*OPPONENTS, self.published, self.compared_with) if self.drawn(id)]

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """Rows by their ids, see `analysis.judging.comparisons.compare`."""
        return comparisons.compare(
            self.split,
            self.rows,
            self.best,
            self.opponents,
            {id: resampled for id, (_, resampled) in self._scored.items()},
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
        """Rows by their ids: setting, metric, validation, test, gap, over the same labels; once where the
        published configuration is the answer itself."""
        rows = [row for row in self.rows if self.drawn(row.id)]
        return generalization_gap.validation_to_test(rows, self.split, self.judged, self.study.objective)

    @cached_property
    def claims(self) -> list[claims.Claim]:
        """One a label in the cohort's order, then one on the average: what this test split supports."""
        tables = self.scores, self.comparisons, self.label_names, self.best
        said = claims.Said(self.names, self._phrases)
        found = claims.label_claims(*tables, self.split.own, said)
        return [*found, claims.average_claim(*tables, self.study.objective, said)]

    @property
    def _phrases(self) -> dict[str, str]:
        """Of rows that are no baselines, what they are called in a sentence."""
        found = {self.published: PUBLISHED_NAME} if self.published else {}
        if other := self.compared_with:
            found[other] = f"the {self.names[other]}"
        return found

    @property
    def who(self) -> str:
        """What the answer is, as the subject of a sentence."""
        if self.best_is_published:
            return f"The configuration chosen on validation, {PUBLISHED_NAME} itself ({PUBLICATION}),"
        if self.answer.origin.trial is None:
            return f"The final model, {self.answer.note},"
        return "The configuration chosen on validation"

    @cached_property
    def headline(self) -> str:
        """What the study's answer scores on test, how it differs from the plain method, and the strongest
        baseline."""
        return claims.headline(
            self.scores,
            self.comparisons,
            self.best,
            self.study.objective,
            who=self.who,
            plain=self.plain,
            names=self.label_names,
            test=self.split.own,
        )

    @property
    def accessed_otherwise(self) -> list[Access]:
        """Earlier readings of these test labels for anything but these very predictions."""
        own = self.predictions.content_hash
        return [access for access in self.split.accessed if access.predictions_hash != own]

    @cached_property
    def settings(self) -> pd.DataFrame:
        """One line per row, by its id: setting, trial (missing for what is none), objective on validation (of
        what was chosen by it), threshold strategy, note."""
        rows: list[tuple[Any, ...]] = [
            (row.id, row.origin.trial, row.objective, row.rule.strategy, row.note) for row in self.rows
        ]
        return pd.DataFrame(rows, columns=["setting", "trial", "validation", "strategy", "note"])

    @cached_property
    def operating_points(self) -> pd.DataFrame:
        """`operating_points.csv`, of the answer, see `analysis.judging.operating_points`; empty where none
        is wanted."""
        return operating_points.at_points(self.study.operating_points, self.answer, self.split, self.judged)

    @cached_property
    def label_decisions(self) -> pd.DataFrame:
        """`label_decisions.csv`, of the answer, see `analysis.judging.label_decisions`."""
        return label_decisions.label_decisions(self.split, self.answer)

    @cached_property
    def test_predictions(self) -> pd.DataFrame:
        """`test_predictions.parquet`, see `analysis.judging.prediction_table`."""
        return prediction_table.predictions(self.cohort, self.split, self.rows)

    def shown(self, table: pd.DataFrame) -> pd.DataFrame:
        """A table with the names of its rows in place of their ids, which stand beside them."""
        table = table.copy()
        # Decisions are held against all-positive ones, which of multiclass labels have no row.
        names = {ALL_POSITIVE: "all-positive", **self.names}
        for column, beside in (("setting", "row"), ("first", "first_row"), ("second", "second_row")):
            if column in table.columns:
                ids = table[column]
                table[column] = ids.map(names)
                table[beside] = ids.where(ids.isin(list(names)), "")
        return table


def judge_test_split(
    predictions: Predictions, cohort: Cohort, study: StudyFacts, ledger: Ledger, why: str
) -> Judgement:
    """Open the test split, and hold every row against its labels.

    Args:
        predictions: of all present images of the cohort, in the order of its manifest.
        cohort: with a test split.
        ledger: of the cohort, to which this reading is added.
        why: what it is read for.

    Raises:
        InputError: the test split is absent, or no label of the objective has enough patients there.
        ValueError: the predictions are of other images or labels.
    """
    if list(predictions.images.image) != cohort.images() or predictions.labels != cohort.labels:
        raise ValueError("predictions must be of the cohort's images and labels, in their order")
    averaged_C = np.isin(predictions.labels, predictions.averaged)
    split = open_test_split(cohort, averaged_C, ledger, why, predictions.content_hash)
    judged_N = predictions.images.judged_N
    return Judgement(
        cohort=cohort,
        predictions=predictions,
        split=split,
        rows=tuple(ScoredRow.of(row, judged_N, split.rows_N) for row in predictions.rows),
        judged=JudgedRows(
            targets_NC=cohort.targets_NC(judged_N),
            patients_N=cohort.patients_N(judged_N),
            folds_N=predictions.images.threshold_fold_N[judged_N],
            averaged_C=averaged_C,
            multiclass=cohort.multiclass,
        ),
        study=study,
    )
