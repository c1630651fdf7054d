"""Whoever asks gets a cohort's features under any encoder, each computed once.

Shape legend: N images, V alterations, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cohort.manifest import Cohort
from vlm.altered_images import Alteration, embed_altered
from vlm.embeddings import Embeddings, embed
from vlm.encoders import Encoder


@dataclass(frozen=True, eq=False)
class CohortFeatures:
    """One cohort and one cache."""

    cohort: Cohort
    cache: Path | str
    known: tuple[str, Embeddings] | None = None
    """Fingerprint of an encoder, and its features, that need not be looked up."""

    def __call__(self, encoder: Encoder, precision: str) -> np.ndarray:
        """float32 (N, D): all present rows. fp16, in which only training computes, is rounded like fp32
        best."""
        if self.known and (encoder.fingerprint, precision) == (self.known[0], self.known[1].precision):
            return self.known[1].features_ND
        return embed(self.cohort, encoder, cache=self.cache, precision=_asked(precision)).features_ND

    def altered(
        self, encoder: Encoder, precision: str, rows_N: np.ndarray, alterations: Sequence[Alteration]
    ) -> np.ndarray:
        """float32 (N, V, D): see `vlm.altered_images.embed_altered`."""
        return embed_altered(
            self.cohort, encoder, rows_N, alterations, cache=self.cache, precision=_asked(precision)
        )


def _asked(precision: str) -> str:
    return "fp32" if precision == "fp16" else precision
