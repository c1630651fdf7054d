"""A cohort's image features, computed once by an encoder and memory-mapped ever after.

Features lie in `CACHE/embeddings-KEY/features.arrow`: an Arrow IPC file of one record batch with the columns
`digest` (sha256 of the image file) and `features` (fixed-size list of D float32). KEY is a hash of
everything that decides about the numbers: the encoder's fingerprint, the precision, and the pixels that it
sees (`cohort.image_store.pixels_key`). The same KEY stands inside the file, so that features that came from
other weights are recognised under any name, and so does a checksum, so that a flipped byte is.

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from tqdm import tqdm

from cohort.cache import filled
from cohort.errors import InputError
from cohort.files import replacing_file
from cohort.image_store import image_store, pixels_key
from cohort.manifest import Cohort
from vlm.encoders import Encoder
from vlm.precision import resolve_precision

FORMAT = 2
SHARD_IMAGES = 512
FEATURES = "features.arrow"


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
    run_shards: RunShards | None = None,
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
    cached = True

    def fill(folder: Path) -> None:
        nonlocal cached
        cached = False
        _embed_missing(cohort, encoder, cache, folder, key, run_shards or shards_here, batch_size, precision)

    folder = filled(cache, f"embeddings-{key}", (FEATURES,), fill)
    path = folder / FEATURES
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


RunShards = Callable[..., Iterator[tuple[Shard, np.ndarray]]]
"""Called as `shards_here`: gives each shard with its features, float32 (N, D), in any order. Another one may
have them computed on other machines."""


def shards_here(
    encoder: Encoder,
    images_NHWC: np.ndarray,
    shards: Sequence[Shard],
    *,
    batch_size: int,
    precision: str,
    progress: Callable[[int], object],
) -> Iterator[tuple[Shard, np.ndarray]]:
    """Embed shards of a decoded-image store one after the other, in this process.

    Args:
        progress: told the size of each batch that is done.

    Raises:
        InputError: as `shard_features`.
    """
    for shard in shards:
        rows_NHWC = images_NHWC[shard.rows.start : shard.rows.stop]
        yield (
            shard,
            shard_features(
                encoder,
                rows_NHWC,
                shard.digests,
                batch_size=batch_size,
                precision=precision,
                progress=progress,
            ),
        )


def shard_features(
    encoder: Encoder,
    images_NHWC: np.ndarray,
    digests: Sequence[str],
    *,
    batch_size: int = 64,
    precision: str = "fp32",
    progress: Callable[[int], object] = lambda count: None,
) -> np.ndarray:
    """float32 (N, D): the features of some images, a batch at a time; InputError for one that is not finite,
    named by its digest."""
    features_ND = np.empty((len(images_NHWC), encoder.width), dtype=np.float32)
    for start in range(0, len(images_NHWC), batch_size):
        batch_BHWC = images_NHWC[start : start + batch_size]
        features_ND[start : start + len(batch_BHWC)] = embed_images(encoder, batch_BHWC, precision)
        progress(len(batch_BHWC))
    finite_N = np.isfinite(features_ND).all(axis=1)
    if not finite_N.all():
        i = int(np.flatnonzero(~finite_N)[0])
        raise InputError(
            f"encoder {encoder.name}: features of the image with sha256 {digests[i][:12]}... are not finite "
            f"in {precision}; check the weights, or embed with precision fp32"
        )
    return features_ND


def embed_images(encoder: Encoder, images_BHWC: np.ndarray, precision: str) -> np.ndarray:
    """float32 (B, D) on the host, with the tower's products in `precision` (`fp32` or `bf16`)."""
    with torch.autocast(encoder.device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
        return encoder.image_features(images_BHWC).cpu().numpy()


def _embed_missing(
    cohort: Cohort,
    encoder: Encoder,
    cache: Path | str,
    folder: Path,
    key: str,
    run_shards: RunShards,
    batch_size: int,
    precision: str,
) -> None:
    digests = cohort.column("digest")
    store = image_store(cohort, encoder.geometry, cache)
    shards = []
    for start in range(0, len(digests), SHARD_IMAGES):
        rows = range(start, min(start + SHARD_IMAGES, len(digests)))
        path = folder / f"shard-{start:08d}.arrow"
        shards.append(Shard(path, rows, digests[rows.start : rows.stop]))
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
        for shard, features_ND in run_shards(
            encoder,
            store.images_NHWC,
            missing,
            batch_size=batch_size,
            precision=precision,
            progress=bar.update,
        ):
            write_features(shard.path, features_ND, shard.digests, key)
        seconds = time.perf_counter() - started
    speed = sum(len(shard.rows) for shard in missing) / seconds if missing else math.nan
    parts = [read_features(shard.path, key, shard.digests, encoder.width) for shard in shards]
    write_features(folder / FEATURES, np.concatenate(parts), digests, key, speed)
    for shard in shards:
        shard.path.unlink()


def write_features(
    path: Path, features_ND: np.ndarray, digests: Sequence[str], key: str, images_per_second: float = math.nan
) -> None:
    """Write features as `read_features` reads them, atomically."""
    features = pa.FixedSizeListArray.from_arrays(pa.array(features_ND.reshape(-1)), features_ND.shape[1])
    table = pa.table({"digest": pa.array(digests, pa.string()), "features": features})
    noted: dict[str, Any] = {"format": FORMAT, "key": key}
    if math.isfinite(images_per_second):
        noted["images_per_second"] = images_per_second
    noted["checksum"] = _checksum(noted, digests, features_ND)
    table = table.replace_schema_metadata({"radtune": json.dumps(noted)})
    with replacing_file(path) as temporary, pa.ipc.new_file(str(temporary), table.schema) as writer:
        writer.write_table(table)


def _checksum(noted: Mapping[str, Any], digests: Sequence[str], features_ND: np.ndarray) -> str:
    """sha256 over all that a file of features says but this checksum itself."""
    said = {name: value for name, value in noted.items() if name != "checksum"}
    digest = hashlib.sha256(json.dumps([said, list(digests)], sort_keys=True).encode())
    digest.update(np.ascontiguousarray(features_ND, dtype=np.float32))
    return digest.hexdigest()


def _speed(path: Path) -> float:
    """What `write_features` noted of a file that `read_features` has read."""
    metadata = pa.ipc.open_file(pa.memory_map(str(path))).schema.metadata
    return float(json.loads(metadata[b"radtune"]).get("images_per_second", math.nan))


def read_features(path: Path, key: str, digests: Sequence[str], width: int) -> np.ndarray:
    """The features in one file, zero-copy; InputError where they are not what `key` promises, or not what was
    written."""

    def refuse(reason: str) -> InputError:
        return InputError(f"{path}: {reason}; delete the folder {path.parent} and embed again")

    try:
        metadata, found, features_ND = _read(path)
        if metadata.get("key") != key:
            raise refuse(
                "holds features of another encoder, other images or another precision "
                f"(key {metadata.get('key')}, not {key})"
            )
        if found != list(digests):
            raise refuse(f"must hold the cohort's {len(digests)} images in order, and does not")
        if features_ND.shape[1] != width:
            raise refuse(f"must hold {width} features an image, not {features_ND.shape[1]}")
        if metadata.get("checksum") != _checksum(metadata, found, features_ND):
            raise refuse("its features are no longer those that were written")
        return features_ND
    except InputError:
        raise
    except _DAMAGE as error:
        raise refuse(f"damaged ({' '.join(str(error).split())})") from error


_DAMAGE = (OSError, pa.ArrowException, KeyError, IndexError, TypeError, ValueError, AttributeError)


def _read(path: Path) -> tuple[dict[str, Any], list[str], np.ndarray]:
    """What a file of features notes, the digests of its images, and float32 (N, D), zero-copy; one of
    `_DAMAGE` where it is none."""
    file = pa.ipc.open_file(pa.memory_map(str(path)))
    noted = json.loads((file.schema.metadata or {}).get(b"radtune", b"{}"))
    batch = file.get_batch(0)
    batch.validate(full=True)
    kind = batch["features"].type
    if not pa.types.is_fixed_size_list(kind) or kind.value_type != pa.float32():
        raise ValueError(f"features must be float32, so many an image, not {kind}")
    features = batch["features"].values.to_numpy(zero_copy_only=True)
    return noted, batch["digest"].to_pylist(), features.reshape(-1, kind.list_size)


def verify(folder: Path | str) -> list[str]:
    """What is wrong, a line each, with the features in a folder of the cache, `embeddings-KEY` or
    `altered-KEY`: files that are damaged, of another key, or no longer what was written."""
    folder = Path(folder)
    complaints = []
    for path in sorted(folder.glob("*.arrow")):
        try:
            noted, digests, features_ND = _read(path)
            if noted.get("key") != folder.name.rpartition("-")[2]:
                complaints.append(f"{path}: holds features of the key {noted.get('key')}, not its folder's")
            elif noted.get("checksum") != _checksum(noted, digests, features_ND):
                complaints.append(f"{path}: its features are no longer those that were written")
        except _DAMAGE as error:
            complaints.append(f"{path}: damaged ({' '.join(str(error).split())})")
    return [f"{complaint}; delete the folder {folder} and embed again" for complaint in complaints]
