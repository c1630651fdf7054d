"""The feature spaces of a study: what its rows see of an image, each named once however many rows share it.

Shape legend: N images, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vlm.cohort_features import CohortFeatures
from vlm.encoder_names import PIXELS as PIXEL_ENCODER
from vlm.encoder_names import TUNED as TUNED_SUFFIX
from vlm.encoder_names import shown
from vlm.encoders import Encoder
from vlm.feature_kinds import DEEP, FeatureKind, base_kind
from vlm.predictor import Predictor

FROZEN, FROZEN_DEEP, TUNED, TUNED_AS_PUBLISHED = (
    "frozen",
    "frozen, deep",
    "fine-tuned",
    "fine-tuned as published",
)
RAW_PIXELS = "pixels"


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


def feature_spaces(
    encoder: Encoder,
    precision: str,
    tuned: Mapping[str, Predictor],
    pixels: Encoder | None,
) -> list[FeatureSpace]:
    """The frozen tower's, which probe and zero-shot share; those of tuned towers; and raw pixels, the
    baseline of them all.

    Args:
        encoder: the study's, which is frozen.
        precision: of its products.
        tuned: title of a space -> predictor whose tower may have been tuned, the answer's first: the
            published configuration's may be the same tower.
        pixels: what sees the image itself; None: nothing does.
    """
    base = base_kind(encoder.kinds)
    spaces = [FeatureSpace(name=FROZEN, encoder=encoder, kind=base, precision=precision)]
    if DEEP in encoder.kinds and base.name != DEEP:
        deep = encoder.kinds[DEEP]
        spaces.append(FeatureSpace(name=FROZEN_DEEP, encoder=encoder, kind=deep, precision=precision))
    seen = set()
    for title, predictor in tuned.items():
        tower = predictor.encoder
        if not tower.name.endswith(TUNED_SUFFIX) or tower.fingerprint in seen:
            continue
        seen.add(tower.fingerprint)
        spaces.append(
            FeatureSpace(
                name=title,
                encoder=tower,
                kind=base_kind(tower.kinds),
                precision=predictor.precision,
            )
        )
    if pixels is not None and not encoder.name.startswith(PIXEL_ENCODER):
        kind = base_kind(pixels.kinds)
        spaces.append(FeatureSpace(name=RAW_PIXELS, encoder=pixels, kind=kind, precision="fp32"))
    return spaces
