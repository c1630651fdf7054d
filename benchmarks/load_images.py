"""How long a large cohort takes, and how much memory: manifest and splits, decoded images, embedding.

    python -m benchmarks.load_images [--images 2000 20000 200000] [--encoder pixels]

For each number so many gray PNGs of 64 x 64 pixels are drawn, two a patient, with five labels. Three commands
follow, each in a process of its own: `radtune cohort table` finds and opens every file and makes the splits,
the decoded-image store is filled, `radtune embed` embeds from it. Printed are the seconds of each and its
peak of resident memory; of that, what the process does not share: a store is mapped, and its pages in the
system's cache count as resident.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from benchmarks.machine import processor
from benchmarks.watched_command import RADTUNE, Watched

SIDE = 64
LABELS = ["Cardiomegaly", "Edema", "Pneumonia", "Pneumothorax", "Fracture"]
STORE = """
import sys
from cohort.image_store import image_store
from cohort.manifest import Cohort
from vlm.encoders import load_encoder
image_store(Cohort.open("cohort"), load_encoder(sys.argv[1]).geometry, "cache")
"""


def draw(folder: Path, images: int) -> None:
    """`images/` and `labels.csv`; no two images are the same."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    names = [f"{i:06d}.png" for i in range(images)]
    for name in tqdm(names, desc="drawing", disable=None):
        pixels_HW = rng.integers(0, 256, (SIDE // 8, SIDE // 8), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        Image.fromarray(pixels_HW).save(folder / "images" / name, compress_level=1)
    table = {"image": names, "patient": [f"p{i // 2}" for i in range(images)]}
    table |= {label: (rng.random(images) < 0.1).astype(int) for label in LABELS}
    pd.DataFrame(table).to_csv(folder / "labels.csv", index=False)


def measure(images: int, encoder: str) -> None:
    """Print a row a step."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        draw(folder, images)
        table = ("cohort", "table", "--table", "labels.csv", "--images", "images", "--out", "cohort")
        columns = ("--image-column", "image", "--patient-column", "patient", "--labels", ",".join(LABELS))
        for step, arguments, program in (
            ("manifest and splits", (*table, *columns), RADTUNE),
            ("decoded images", (encoder,), STORE),
            ("embedding", ("embed", "cohort", "--encoder", encoder), RADTUNE),
        ):
            command = Watched(folder, *arguments, program=program)
            seconds = command.end()
            print(
                f"{images:>7} {step:<20} {seconds:>8.1f} {command.peak:>8.0f} {command.private_peak:>12.0f}",
                flush=True,
            )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, nargs="+", default=[2000, 20_000, 200_000])
    parser.add_argument("--encoder", default="pixels", help="default: %(default)s")
    asked = parser.parse_args(arguments)
    print(f"{processor()}, {os.cpu_count()} cpus, {asked.encoder}")
    print(f"{'images':>7} {'step':<20} {'seconds':>8} {'peak MB':>8} {'of it alone':>12}")
    for images in asked.images:
        measure(images, asked.encoder)


if __name__ == "__main__":
    main()
