"""The prediction table: what every row says of every test image, beside the truth, so that all is checked.

Shape legend: N images, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.predictors import Scored
from analysis.test_split import TestSplit
from cohort.manifest import KEEP, Cohort


def predictions(cohort: Cohort, split: TestSplit, rows: Sequence[Scored]) -> pd.DataFrame:
    """The rows of `test_predictions.parquet`, one a setting and test image.

    setting, image, patient, split    whose row, and of which image
    keep.<name>                       what the cohort carries along, sex and age say
    truth.<label>                     Int8: 1, 0, or missing where masked
    score.<label>                     float64: what is ranked; logits, or what only ranks, of exclusive labels
                                      on the scale of probabilities
    probability.<label>               float64 in [0, 1]; missing where the scores only rank
    decision.<label>                  int8: 1 or 0, by the setting's own thresholds

    `random` stands with one of its throws, whose average over many is in `test_scores.csv`.
    """
    kept = [name for name in cohort.present.column_names if name.startswith(KEEP)]
    of_images = cohort.present.select(["image", "patient", "split", *kept]).take(split.rows_N).to_pandas()
    truth = pd.DataFrame(split.targets_NC, columns=[f"truth.{label}" for label in cohort.labels])
    of_images = pd.concat([of_images, truth.astype("Int8")], axis=1)
    return pd.concat([_said(row, of_images, cohort.labels) for row in rows], ignore_index=True)


def _said(row: Scored, of_images: pd.DataFrame, labels: Sequence[str]) -> pd.DataFrame:
    unit_NC = np.full_like(row.test_scores_NC, np.nan) if row.ranks_only else row.test_unit_NC
    tables = [
        pd.DataFrame(values_NC, columns=[f"{what}.{label}" for label in labels])
        for what, values_NC in (
            ("score", row.test_ranked_NC),
            ("probability", unit_NC),
            ("decision", row.test_decisions_NC.astype(np.int8)),
        )
    ]
    setting = pd.Series(row.name, index=of_images.index, name="setting")
    return pd.concat([setting, of_images, *tables], axis=1)
