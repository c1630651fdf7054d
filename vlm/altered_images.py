"""Features of images that something was done to before the encoder saw them, such as text burned into them.

Images go the way of every prediction: decoded from their files, altered at full size, brought to the
encoder's geometry. What was embedded once lies in `CACHE/altered-KEY/`, as `vlm.embeddings` writes features,
in shards of some images with all their alterations, so that an interrupted pass is taken up again.

Shape legend: N images, V alterations, H height, W width, C channels, D features.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from filelock import FileLock
from tqdm import tqdm

from cohort.geometry import apply_geometry
from cohort.image_store import decoded, pixels_key
from cohort.manifest import Cohort
from cohort.remote_files import fetch, inside, is_remote, mirror, publish
from cohort.threads import in_threads
from vlm.embeddings import FORMAT, embed_images, read_features, write_features
from vlm.encoders import Encoder

SHARD_IMAGES = 16


class Alteration(Protocol):
    """What is done to an image between decoding and the encoder's geometry."""

    def described(self) -> Mapping[str, Any]:
        """As JSON: everything that decides about the pixels."""

    def applied(self, image: np.ndarray) -> np.ndarray:
        """An altered copy of a uint8 image, (H, W) or (H, W, 3)."""


def embed_altered(
    cohort: Cohort,
    encoder: Encoder,
    rows_N: np.ndarray,
    alterations: Sequence[Alteration],
    *,
    cache: Path | str = "cache",
    precision: str = "fp32",
    batch_size: int = 64,
) -> np.ndarray:
    """float32 (N, V, D): the features of each image under each alteration, from the cache or computed now.

    Args:
        rows_N: places of the images in the cohort.
        precision: `fp32` or `bf16`, that of the features they are held against.

    Raises:
        InputError: an image that cannot be decoded or is not the file the cohort was built from, or a damaged
            cache.
    """
    digests = [cohort.column("digest")[row] for row in rows_N]
    description = {
        "format": FORMAT,
        "encoder": encoder.fingerprint,
        "precision": precision,
        "pixels": pixels_key(cohort, encoder.geometry),
        "images": digests,
        "alterations": [dict(one.described()) for one in alterations],
    }
    key = hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()[:32]
    name = f"altered-{key}"
    folder = mirror(cache) / name
    folder.mkdir(parents=True, exist_ok=True)
    starts = range(0, len(rows_N), SHARD_IMAGES)
    paths = {start: folder / f"shard-{start:06d}.arrow" for start in starts}
    names = {
        start: [
            f"{digest} {number}"
            for digest in digests[start : start + SHARD_IMAGES]
            for number in range(len(alterations))
        ]
        for start in starts
    }
    with FileLock(folder / "lock"):
        missing = [start for start in starts if not paths[start].exists()]
        if is_remote(cache):
            places = {start: inside(str(cache), f"{name}/{paths[start].name}") for start in missing}
            missing = [start for start in missing if not fetch(places[start], paths[start])]
        with tqdm(
            total=len(rows_N) * len(alterations),
            initial=sum(len(names[start]) for start in starts if start not in missing),
            desc=f"embedding altered images with {encoder.name}",
            unit="image",
            mininterval=0.5 if sys.stderr.isatty() else 20.0,
            delay=2.0,
        ) as bar:
            for start in missing:
                images = _altered(cohort, encoder, rows_N[start : start + SHARD_IMAGES], alterations)
                parts = []
                for at in range(0, len(images), batch_size):
                    parts.append(embed_images(encoder, images[at : at + batch_size], precision))
                    bar.update(len(parts[-1]))
                write_features(paths[start], np.concatenate(parts), names[start], key)
                if is_remote(cache):
                    publish(paths[start], places[start])
    features = [read_features(paths[start], key, names[start], encoder.width) for start in starts]
    return np.concatenate(features).reshape(len(rows_N), len(alterations), encoder.width)


def _altered(
    cohort: Cohort, encoder: Encoder, rows: np.ndarray, alterations: Sequence[Alteration]
) -> np.ndarray:
    """uint8 (images x alterations, H, W, C) as the encoder takes them; an image's alterations follow each
    other."""
    files, digests = cohort.files(), cohort.column("digest")

    def altered(k: int) -> list[np.ndarray]:
        with decoded(files, int(rows[k]), digests[rows[k]]) as image:
            return [seen_image(one.applied(image), cohort, encoder) for one in alterations]

    return np.stack([one for each in in_threads(altered, len(rows), "altering images") for one in each])


def seen_image(image: np.ndarray, cohort: Cohort, encoder: Encoder) -> np.ndarray:
    """uint8 (H, W, C): a decoded image as the encoder takes it, channels as in the cohort's image store."""
    seen = apply_geometry(image, encoder.geometry)
    channels = encoder.geometry.channels or cohort.channels
    return np.broadcast_to(seen[:, :, None] if seen.ndim == 2 else seen, (*seen.shape[:2], channels))
