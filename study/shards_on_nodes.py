"""Embedding on a cluster: shards of a pass are Ray tasks, wherever there is room for one.

The encoder and the images of a shard travel through Ray's object store, the encoder once a node, so that
nodes need no folder in common.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from cohort.errors import InputError
from study.cluster import Capacity
from vlm.embeddings import RunShards, Shard, shard_features
from vlm.encoders import Encoder

CPUS_BESIDE_A_GPU = 2
QUEUED = 2
"""Shards in flight for each that computes: the next one's images travel meanwhile."""
RETRIES = 3
"""How often a shard is computed again whose node died."""


def on_nodes(capacity: Capacity) -> RunShards:
    """What `vlm.embeddings.embed` runs its shards with on the Ray that this process has joined."""

    def run(
        encoder: Encoder,
        images_NHWC: np.ndarray,
        shards: Sequence[Shard],
        *,
        batch_size: int,
        precision: str,
        progress: Callable[[int], object],
    ) -> Iterator[tuple[Shard, np.ndarray]]:
        import ray

        gpus = 1 if capacity.gpus >= 1 else 0
        cpus = int(max(1, min(CPUS_BESIDE_A_GPU, capacity.cpus_a_gpu))) if gpus else capacity.cpus_a_node
        slots = int(capacity.gpus) if gpus else max(1, capacity.cpus // cpus)
        task = ray.remote(_features).options(
            num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES, scheduling_strategy="SPREAD"
        )
        device = encoder.device
        sent = ray.put(encoder.to("cpu"))
        encoder.to(device)
        waiting, running = list(reversed(shards)), {}
        try:
            while waiting or running:
                while waiting and len(running) < slots * QUEUED:
                    shard = waiting.pop()
                    rows_NHWC = np.ascontiguousarray(images_NHWC[shard.rows.start : shard.rows.stop])
                    found = task.remote(
                        sent, rows_NHWC, list(shard.digests), batch_size, precision, cpus, bool(gpus)
                    )
                    running[found] = shard
                (done, *_), _ = ray.wait(list(running), num_returns=1)
                shard = running.pop(done)
                try:
                    features_ND = ray.get(done)
                except ray.exceptions.RayTaskError as error:
                    if isinstance(error.cause, InputError):
                        raise InputError(str(error.cause)) from None
                    raise
                progress(len(shard.rows))
                yield shard, features_ND
        finally:
            for left in running:
                ray.cancel(left, force=True)

    return run


def _features(
    encoder: Encoder,
    images_NHWC: np.ndarray,
    digests: Sequence[str],
    batch_size: int,
    precision: str,
    threads: int,
    on_gpu: bool,
) -> np.ndarray:
    """A shard's features, on the node that Ray chose."""
    import torch

    torch.set_num_threads(threads)
    encoder.to("cuda" if on_gpu else "cpu")
    return shard_features(encoder, images_NHWC, digests, batch_size=batch_size, precision=precision)
