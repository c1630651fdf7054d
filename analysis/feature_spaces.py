"""The feature spaces of a study: what its rows see of an image, each named once however many rows share it.

Shape legend: N images, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.predictors import PAPER, PIXELS, Scored
from vlm.cohort_features import CohortFeatures
from vlm.encoder_names import PIXELS as PIXEL_ENCODER
from vlm.encoder_names import TUNED as TUNED_SUFFIX
from vlm.encoder_names import shown
from vlm.encoders import Encoder
from vlm.feature_kinds import DEEP, FeatureKind, base_kind

FROZEN, FROZEN_DEEP, TUNED, TUNED_AS_PUBLISHED = (
    "frozen",
    "frozen, deep",
    "fine-tuned",
    "fine-tuned as published",
)


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureSpace:
    """A kind of features of one encoder."""

    name: str
    encoder: Encoder
    kind: FeatureKind
    precision: str

    @property
    def words(self) -> str:
        return f"{self.kind.width} {self.kind.name} features of {shown(self.encoder.name)}"

    def of(self, features: CohortFeatures, rows_N: np.ndarray) -> np.ndarray:
        """float32 (N, D): of these images of the cohort."""
        return np.ascontiguousarray(features(self.encoder, self.precision)[rows_N][:, self.kind.columns])


def feature_spaces(encoder: Encoder, precision: str, rows: Sequence[Scored], best: str) -> list[FeatureSpace]:
    """The frozen tower's, which probe and zero-shot share; those of tuned towers among the rows: the best's,
    the published configuration's, and that of a study compared with; and raw pixels, the floor of them
    all."""
    base = base_kind(encoder.kinds)
    spaces = [FeatureSpace(name=FROZEN, encoder=encoder, kind=base, precision=precision)]
    if DEEP in encoder.kinds and base.name != DEEP:
        deep = encoder.kinds[DEEP]
        spaces.append(FeatureSpace(name=FROZEN_DEEP, encoder=encoder, kind=deep, precision=precision))
    titles = {best: TUNED, PAPER: TUNED_AS_PUBLISHED}
    seen = set()
    # The best before the published configuration, which may be the same tower.
    for row in sorted(rows, key=lambda row: row.name != best):
        if row.predictor is None or _is_single(row, best):
            continue
        tower = row.predictor.encoder
        if not tower.name.endswith(TUNED_SUFFIX) or tower.fingerprint in seen:
            continue
        seen.add(tower.fingerprint)
        spaces.append(
            FeatureSpace(
                name=titles.get(row.name, f"{TUNED} ({row.name})"),
                encoder=tower,
                kind=base_kind(tower.kinds),
                precision=row.predictor.precision,
            )
        )
    for row in rows:
        if row.name == PIXELS and not encoder.name.startswith(PIXEL_ENCODER):
            pixels = row.predictor.encoder
            kind = base_kind(pixels.kinds)
            spaces.append(FeatureSpace(name=PIXELS, encoder=pixels, kind=kind, precision="fp32"))
    return spaces


def _is_single(row: Scored, best: str) -> bool:
    """Whether it is one of a study's further configurations, of which the best stands for all."""
    return row.name.startswith(("best-", "split-best")) and row.name != best
