"""Whether DICOM files come through the decoded-image store as fast as pydicom alone reads them.

    python -m benchmarks.decode_dicom [--images 24] [--side 2048]

For each transfer syntax so many radiograph-like images are drawn, 12 bits with a window. The store reads,
checks the digest, decodes, applies the window, resizes to 224 pixels and writes, by a thread per core.
pydicom alone is `pixel_array`, `apply_modality_lut`, `apply_voi_lut` and the scaling to 8 bits, by a process
per core, with its own choice of decoders and without resizing. Printed are images per second of both.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
from pydicom import uid
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from benchmarks import dicom_agreement
from benchmarks.machine import processor
from cohort.geometry import Geometry
from cohort.image_store import image_store
from cohort.readers.table import TableOptions, read_table

SYNTAXES = (
    *(uid.ExplicitVRLittleEndian, uid.RLELossless, uid.JPEGLosslessSV1, uid.JPEGLSLossless),
    *(uid.JPEG2000Lossless, uid.JPEG2000),
)
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def draw(folder: Path, images: int, syntax: uid.UID) -> None:
    """`images/` and `labels.csv`; the images differ in a mark."""
    (folder / "images").mkdir()
    data = bytearray(dicom_agreement.made(syntax, "MONOCHROME1", 12).data)
    names = [f"{i:04d}.dcm" for i in range(images)]
    for i, name in enumerate(names):
        (folder / "images" / name).write_bytes(i.to_bytes(4, "big") + data[4:])  # in the preamble
    table = {"image": names, "patient": names, "label": [i % 2 for i in range(images)]}
    pd.DataFrame(table).to_csv(folder / "labels.csv", index=False)


def by_pydicom(path: Path) -> tuple[int, ...]:
    """The shape of the image that pydicom alone reads, 8 bits."""
    warnings.simplefilter("ignore")
    ds = pydicom.dcmread(path)
    shown = apply_voi_lut(apply_modality_lut(ds.pixel_array, ds), ds)
    low, high = shown.min(), shown.max()
    return (255 - (shown - low) * (255 / max(1, high - low))).astype(np.uint8).shape


def measure(images: int, syntax: uid.UID) -> tuple[float, float]:
    """Images per second of the store and of pydicom alone."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        draw(folder, images, syntax)
        cohort = read_table(
            folder / "labels.csv",
            folder / "images",
            folder / "cohort",
            TableOptions(
                image_column="image", patient_column="patient", labels=["label"], allow_duplicates=True
            ),
        )
        start = time.perf_counter()
        image_store(cohort, Geometry(224, "squash", channels=1), folder / "cache")
        ours = images / (time.perf_counter() - start)
        paths = sorted((folder / "images").iterdir())
        with ProcessPoolExecutor(CORES, mp_context=get_context("forkserver")) as pool:
            list(pool.map(by_pydicom, paths[:CORES]))  # its imports are not counted
            start = time.perf_counter()
            list(pool.map(by_pydicom, paths))
            theirs = images / (time.perf_counter() - start)
    return ours, theirs


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=24, help="per transfer syntax (default: %(default)s)")
    parser.add_argument("--side", type=int, default=2048, help="pixels (default: %(default)s)")
    asked = parser.parse_args(arguments)
    dicom_agreement.SIZE = (asked.side, asked.side)
    print(f"{processor()}, {CORES} cores, {asked.images} images of {asked.side} x {asked.side} pixels")
    print(f"{'transfer syntax':<48} {'store':>8} {'pydicom':>8} images per second")
    for syntax in SYNTAXES:
        ours, theirs = measure(asked.images, syntax)
        print(f"{syntax.name[:48]:<48} {ours:>8.2f} {theirs:>8.2f}", flush=True)


if __name__ == "__main__":
    main()
