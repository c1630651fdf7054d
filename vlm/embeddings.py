"""A cohort's image features, computed once by an encoder and memory-mapped ever after.

Features lie in `CACHE/embeddings-KEY/features.arrow`: an Arrow IPC file of one record batch with the columns
`digest` (sha256 of the image file) and `features` (fixed-size list of D float32). KEY is a hash of
everything that decides about the numbers: the encoder's fingerprint, the precision, and the pixels that it
sees (`cohort.image_store.pixels_key`). The same KEY stands inside the file, so that features that came from
other weights are recognised under any name.

While an embedding pass runs, finished shards lie beside it in the same format; an interrupted pass goes on
from them.

Shape legend: N images, H height, W width, C channels, D features.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from filelock import FileLock
from tqdm import tqdm

from cohort.errors import InputError
from cohort.files import replacing_file
from cohort.image_store import image_store, pixels_key
from cohort.manifest import Cohort
from vlm.encoders import Encoder
from vlm.precision import resolve_precision

FORMAT = 1
SHARD_IMAGES = 512


@dataclass(frozen=True, eq=False)
class Embeddings:
    """The features of every present image of a cohort, in manifest order."""

    features_ND: np.ndarray
    """float32, memory-mapped, read-only, not normalised."""

    key: str
    """Hash of encoder, precision and pixels."""

    precision: str
    """`fp32` or `bf16`."""

    folder: Path
    cached: bool
    """Whether the cache held them already."""
    images_per_second: float = math.nan
    """Of the pass that computed them, decoding aside; NaN where nothing was left to compute in it."""


def embed(
    cohort: Cohort,
    encoder: Encoder,
    cache: Path | str = "cache",
    batch_size: int = 64,
    precision: str = "auto",
) -> Embeddings:
    """The cohort's features, from the cache or computed now; an interrupted pass is taken up again.

    `precision` is that of the tower's products: `fp32`, `bf16` (autocast; features are float32 all the
    same), or `auto`: bf16 where the device computes in it. Two processes that need the same features
    compute them once.

    Raises InputError for a cohort without images, an image that cannot be decoded, an unknown precision, a
    feature that is not finite, and a cache whose content is damaged or is not what its key says.
    """
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}")
    precision = embedding_precision(precision, encoder)
    digests = cohort.column("digest")
    if not digests:
        raise InputError(
            f"{cohort.folder}: none of its images is present; put them in place and build it again"
        )
    key = embeddings_key(encoder, precision, cohort)
    folder = Path(cache) / f"embeddings-{key}"
    path = folder / "features.arrow"
    cached = path.exists()
    if not cached:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):
            if not path.exists():
                _embed_missing(cohort, encoder, Path(cache), folder, key, digests, batch_size, precision)
    features_ND = read_features(path, key, digests, encoder.width)
    return Embeddings(features_ND, key, precision, folder, cached, _speed(path))


def embedding_precision(precision: str, encoder: Encoder) -> str:
    """`fp32` or `bf16`: `vlm.precision.resolve_precision` on the encoder's device; without weights, as in
    `pixels`, there are no products and `auto` is `fp32`."""
    if precision == "auto" and encoder.backbone is None:
        return "fp32"
    return resolve_precision(precision, encoder.device)


def embeddings_key(encoder: Encoder, precision: str, cohort: Cohort) -> str:
    """32 hexadecimal digits that say whose features of which pixels these are."""
    description = {
        "format": FORMAT,
        "encoder": encoder.fingerprint,
        "precision": precision,
        "pixels": pixels_key(cohort, encoder.geometry),
    }
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Shard:
    """Some rows of a decoded-image store, and the file that their features go to."""

    path: Path
    rows: range
    digests: Sequence[str]
    """Of `rows`."""
    key: str
    """Of all features that the file is part of."""


def embed_shard(
    encoder: Encoder,
    images: Path,
    shard: Shard,
    *,
    batch_size: int = 64,
    precision: str = "fp32",
    progress: Callable[[int], object] = lambda count: None,
) -> Path:
    """Embed some rows of a decoded-image store into one shard file, written atomically.

    A function of its arguments alone, to be called in place or as a Ray task: `images` is the store's .npy
    file (uint8, NHWC), which is memory-mapped here. `progress` is told the size of each batch. Returns the
    shard's file. Raises InputError for a feature that is not finite.
    """
    images_NHWC, rows = np.load(images, mmap_mode="r"), shard.rows
    features_ND = np.empty((len(rows), encoder.width), dtype=np.float32)
    for start in range(0, len(rows), batch_size):
        batch = rows[start : start + batch_size]
        features_ND[start : start + len(batch)] = embed_images(
            encoder, images_NHWC[batch.start : batch.stop], precision
        )
        progress(len(batch))
    finite_N = np.isfinite(features_ND).all(axis=1)
    if not finite_N.all():
        i = int(np.flatnonzero(~finite_N)[0])
        raise InputError(
            f"encoder {encoder.name}: features of image {rows[i]} (sha256 {shard.digests[i][:12]}...) are "
            f"not finite in {precision}; check the weights, or embed with precision fp32"
        )
    write_features(shard.path, features_ND, shard.digests, shard.key)
    return shard.path


def embed_images(encoder: Encoder, images_BHWC: np.ndarray, precision: str) -> np.ndarray:
    """float32 (B, D) on the host, with the tower's products in `precision` (`fp32` or `bf16`)."""
    with torch.autocast(encoder.device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
        return encoder.image_features(images_BHWC).cpu().numpy()


def _embed_missing(
    cohort: Cohort,
    encoder: Encoder,
    cache: Path,
    folder: Path,
    key: str,
    digests: list[str],
    batch_size: int,
    precision: str,
) -> None:
    store = image_store(cohort, encoder.geometry, cache)
    shards = []
    for start in range(0, len(digests), SHARD_IMAGES):
        rows = range(start, min(start + SHARD_IMAGES, len(digests)))
        path = folder / f"shard-{start:08d}.arrow"
        shards.append(Shard(path, rows, digests[rows.start : rows.stop], key))
    missing = [shard for shard in shards if not shard.path.exists()]
    with tqdm(
        total=len(digests),
        initial=len(digests) - sum(len(shard.rows) for shard in missing),
        desc=f"embedding with {encoder.name} ({precision} on {encoder.device})",
        unit="image",
        # A log file gets a line now and then, a terminal a bar that moves.
        mininterval=0.5 if sys.stderr.isatty() else 20.0,
        delay=2.0,
    ) as bar:
        started = time.perf_counter()
        for shard in missing:
            images = Path(store.images_NHWC.filename)
            embed_shard(
                encoder, images, shard, batch_size=batch_size, precision=precision, progress=bar.update
            )
        seconds = time.perf_counter() - started
    speed = sum(len(shard.rows) for shard in missing) / seconds if missing else math.nan
    parts = [read_features(shard.path, key, shard.digests, encoder.width) for shard in shards]
    write_features(folder / "features.arrow", np.concatenate(parts), digests, key, speed)
    for shard in shards:
        shard.path.unlink()


def write_features(
    path: Path, features_ND: np.ndarray, digests: Sequence[str], key: str, images_per_second: float = math.nan
) -> None:
    """Write features as `read_features` reads them, atomically."""
    features = pa.FixedSizeListArray.from_arrays(pa.array(features_ND.reshape(-1)), features_ND.shape[1])
    table = pa.table({"digest": pa.array(digests, pa.string()), "features": features})
    noted = {"format": FORMAT, "key": key}
    if math.isfinite(images_per_second):
        noted["images_per_second"] = images_per_second
    table = table.replace_schema_metadata({"radtune": json.dumps(noted)})
    with replacing_file(path) as temporary, pa.ipc.new_file(str(temporary), table.schema) as writer:
        writer.write_table(table)


def _speed(path: Path) -> float:
    """What `write_features` noted of a file that `read_features` has read."""
    metadata = pa.ipc.open_file(pa.memory_map(str(path))).schema.metadata
    return float(json.loads(metadata[b"radtune"]).get("images_per_second", math.nan))


def read_features(path: Path, key: str, digests: Sequence[str], width: int) -> np.ndarray:
    """The features in one file, zero-copy; InputError where they are not what `key` promises."""

    def refuse(reason: str) -> InputError:
        return InputError(f"{path}: {reason}; delete the folder {path.parent} and embed again")

    try:
        file = pa.ipc.open_file(pa.memory_map(str(path)))
        metadata = json.loads((file.schema.metadata or {}).get(b"radtune", b"{}"))
        if metadata.get("key") != key:
            raise refuse(
                "holds features of another encoder, other images or another precision "
                f"(key {metadata.get('key')}, not {key})"
            )
        batch = file.get_batch(0)
        if batch["digest"].to_pylist() != list(digests):
            raise refuse(f"must hold the cohort's {len(digests)} images in order, and does not")
        if batch["features"].type != pa.list_(pa.float32(), width):
            raise refuse(f"must hold {width} float32 features an image, not {batch['features'].type}")
        return batch["features"].values.to_numpy(zero_copy_only=True).reshape(-1, width)
    except InputError:
        raise
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise refuse(f"damaged ({' '.join(str(error).split())})") from error
