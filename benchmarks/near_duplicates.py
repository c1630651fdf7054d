"""Time of the search for images that are nearly the same, in radiographs that are drawn at random.

    python -m benchmarks.near_duplicates [IMAGES] [--like FOLDER]

100,000 thumbnails (410 MB), 100 of them copies of others, brightened and with noise: 50 s of CPU.
With `--like` they are mixtures of the images in a folder (as different as its own are, and as much alike).
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.machine import processor
from cohort.image_files import ImageFiles, list_files
from cohort.near_duplicates import SIDE, near_duplicates, thumbnail

COPIES = 100
BLOCK = 2000


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("images", type=int, nargs="?", default=100_000)
    parser.add_argument("--like", metavar="FOLDER")
    asked = parser.parse_args(arguments)
    rng = np.random.default_rng(0)
    thumbnails_NHW = drawn(asked.images, originals(asked.like, rng), rng)
    of, copy = rng.choice(asked.images, (2, COPIES), replace=False)
    brighter_KHW = thumbnails_NHW[of] * 1.05 + rng.normal(0, 3, (COPIES, SIDE, SIDE))
    thumbnails_NHW[copy] = np.clip(brighter_KHW, 0, 255)
    start, cpu = time.perf_counter(), time.process_time()
    pairs = {pair[:2] for pair in near_duplicates(thumbnails_NHW, range(asked.images))}
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    copies = {tuple(sorted(map(int, pair))) for pair in zip(of, copy, strict=True)}
    print(f"{processor()}, {os.cpu_count()} cores")
    print(f"{asked.images:,} images: {seconds:.0f} s ({cpu:.0f} s CPU)")
    print(f"{len(pairs & copies)} of {COPIES} copies found, {len(pairs - copies)} other pairs")


def originals(folder: str | None, rng: np.random.Generator) -> np.ndarray:
    """float32 (M, SIDE * SIDE): the images of a folder or archive, or smooth noise."""
    if folder is None:
        coarse = rng.normal(128, 60, (400, 12, 12)).astype(np.float32)
        images = [Image.fromarray(one).resize((SIDE, SIDE), Image.Resampling.BICUBIC) for one in coarse]
        return np.stack([np.asarray(image) for image in images]).reshape(400, -1)
    names = [name for name in list_files(folder) if name.lower().endswith((".png", ".jpg", ".jpeg"))]
    files = ImageFiles(Path(folder), names)
    thumbnails = [thumbnail(files.decode(i)) for i in range(len(files))]
    return np.stack(thumbnails).reshape(len(names), -1).astype(np.float32)


def drawn(count: int, originals_MD: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """uint8 (count, SIDE, SIDE): normal with the mean and the covariance of the originals."""
    mean_D, many = originals_MD.mean(axis=0), len(originals_MD)
    thumbnails_NHW = np.empty((count, SIDE, SIDE), np.uint8)
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        mixed_BM = rng.normal(size=(size, many)).astype(np.float32) / np.sqrt(many)
        block_BD = mean_D + mixed_BM @ (originals_MD - mean_D)
        thumbnails_NHW[start : start + size] = np.clip(block_BD, 0, 255).reshape(size, SIDE, SIDE)
    return thumbnails_NHW


if __name__ == "__main__":
    main()
