"""The prediction table: what every row says of every test image, beside the truth, so that all is checked.

Shape legend: N images, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.judging.evaluation_set import EvaluationSet
from analysis.judging.scored_row import ScoredRow
from cohort.manifest import KEEP, Cohort


def predictions(cohort: Cohort, split: EvaluationSet, rows: Sequence[ScoredRow]) -> pd.DataFrame:
    """The rows of `test_predictions.parquet`, one a setting and test image.

    row, setting                      whose, by its id and by its name
    image, patient, split             of which image
    keep.<name>                       what the cohort carries along, sex and age say
    truth.<label>                     Int8: 1, 0, or missing where masked
    score.<label>                     float64: what is ranked; logits, or of multiclass labels what only ranks
                                      on the scale of probabilities
    probability.<label>               float64 in [0, 1]; missing where the scores only rank
    decision.<label>                  int8: 1 or 0, by the setting's own thresholds

    The random baseline stands with one of its draws, whose average over many is in `test_scores.csv`.
    """
    kept = [name for name in cohort.present.column_names if name.startswith(KEEP)]
    of_images = cohort.present.select(["image", "patient", "split", *kept]).take(split.rows_N).to_pandas()
    truth = pd.DataFrame(split.targets_NC, columns=[f"truth.{label}" for label in cohort.labels])
    of_images = pd.concat([of_images, truth.astype("Int8")], axis=1)
    return pd.concat([_said(row, of_images, cohort.labels) for row in rows], ignore_index=True)


def _said(row: ScoredRow, of_images: pd.DataFrame, labels: Sequence[str]) -> pd.DataFrame:
    unit_NC = np.full_like(row.test_scores_NC, np.nan) if row.ranks_only else row.test_unit_NC
    tables = [
        pd.DataFrame(values_NC, columns=[f"{what}.{label}" for label in labels])
        for what, values_NC in (
            ("score", row.test_ranked_NC),
            ("probability", unit_NC),
            ("decision", row.test_decisions_NC.astype(np.int8)),
        )
    ]
    own = pd.DataFrame({"row": row.id, "setting": row.name}, index=of_images.index)
    return pd.concat([own, of_images, *tables], axis=1)
