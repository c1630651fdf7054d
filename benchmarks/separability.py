"""How long the analyses of a feature space take: separability with its chance, and text burned into images.

    python -m benchmarks.separability [--images 25000] [--overlaid 200]

25,000 x 512 features with 14 labels and 200 permutations of them; 200 images under 12 texts and 12 boxes
through phantom-clip, decoding, drawing and embedding.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from analysis.inside.overlay_effects import with_controls
from analysis.inside.overlays import overlays
from analysis.inside.separability import PERMUTATIONS, Points, separability
from benchmarks.machine import processor
from sample.phantoms import draw_cohort
from vlm.cohort_features import CohortFeatures
from vlm.encoders import load_encoder

WIDTH, LABELS = 512, 14


def separability_seconds(images: int) -> float:
    rng = np.random.default_rng(0)
    targets_NC = (rng.random((images, LABELS)) < np.linspace(0.01, 0.3, LABELS)).astype(np.float64)
    meaning_CD = rng.normal(size=(LABELS, WIDTH)) * 0.3
    features_ND = (targets_NC @ meaning_CD + rng.normal(size=(images, WIDTH))).astype(np.float32)
    points = Points(
        features_ND=features_ND,
        targets_NC=targets_NC,
        patients_N=np.arange(images) // 2,
        labels=tuple(f"label {n}" for n in range(LABELS)),
        seed=0,
    )
    started = time.perf_counter()
    separability(points, "frozen")
    return time.perf_counter() - started


def overlay_seconds(folder: Path, images: int) -> tuple[float, int]:
    cohort = draw_cohort(folder / "cohort", images, 128, 0)
    encoder = load_encoder("phantom-clip", features=None)
    features = CohortFeatures(cohort, folder / "cache")
    alterations = with_controls(overlays([(label, label) for label in cohort.labels]))
    started = time.perf_counter()
    features.altered(encoder, "fp32", np.arange(images), alterations)
    return time.perf_counter() - started, len(alterations)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=25_000, help="default: %(default)s")
    parser.add_argument("--overlaid", type=int, default=200, help="default: %(default)s")
    asked = parser.parse_args(arguments)
    print(processor())
    seconds = separability_seconds(asked.images)
    size = f"{asked.images:,} x {WIDTH} x {LABELS}"
    print(f"separability of {size} with {PERMUTATIONS} permutations: {seconds:.1f} s")
    with tempfile.TemporaryDirectory() as folder:
        seconds, variants = overlay_seconds(Path(folder), asked.overlaid)
    speed = asked.overlaid * variants / seconds
    print(
        f"{asked.overlaid} images x {variants} variants, phantom-clip: {seconds:.1f} s, {speed:,.0f} images/s"
    )


if __name__ == "__main__":
    main()
