"""The nodes of a Ray that a study joins: what they have, waiting for more, and whether they can take part."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from cohort.errors import InputError
from study.config import Resources

NODES_SECONDS = 900
"""For which nodes are waited for that a joined Ray still lacks: an autoscaler takes minutes to start one."""
VISIBLE_SECONDS = 60
"""In which a node must say what it sees."""


def resources_there() -> tuple[int, float]:
    """Cpus and GPUs of all nodes that are there."""
    import ray

    have = ray.cluster_resources()
    return int(have.get("CPU", 1)), float(have.get("GPU", 0))


def wait_for_nodes(resources: Resources, echo: Callable[[str], None]) -> tuple[int, float]:
    """Ask a cluster's autoscaler for what a study wants, and wait for it, `NODES_SECONDS` at most.

    Args:
        echo: told, every half minute, how far that is.

    Returns:
        cpus and GPUs then, which may be fewer.
    """
    from ray.autoscaler.sdk import request_resources

    wanted_cpus, wanted_gpus = resources.cpus or 0, resources.gpus or 0
    request_resources(num_cpus=wanted_cpus or None, bundles=[{"GPU": 1}] * math.ceil(wanted_gpus))
    started = said = time.monotonic()
    cpus, gpus = resources_there()
    while (cpus < wanted_cpus or gpus < wanted_gpus) and time.monotonic() < started + NODES_SECONDS:
        if time.monotonic() >= said:
            echo(
                f"waiting for nodes: {cpus} of {max(wanted_cpus, cpus)} cpus and {gpus:g} of "
                f"{max(wanted_gpus, gpus):g} gpus are there"
            )
            said += 30
        time.sleep(1)
        cpus, gpus = resources_there()
    request_resources(num_cpus=0, bundles=[])  # what trials ask for keeps the nodes from now on
    return cpus, gpus


def check_visible(folders: Mapping[str, Path], *, on_gpus: bool) -> None:
    """Find out whether the nodes on which trials run have radtune, and see the folders of this machine that
    these read or write.

    Args:
        folders: by what they are, as the message names them; each exists.
        on_gpus: trials run on nodes with a GPU only.

    Raises:
        InputError: naming the first node, and the folder that it does not see.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = ray.get_runtime_context().get_node_id()
    others = [
        node
        for node in ray.nodes()
        if node["Alive"] and node["NodeID"] != here and node["Resources"].get("GPU" if on_gpus else "CPU")
    ]
    # A folder of the same name that another disk holds would pass for ours without it.
    notes = {what: folder / f".radtune-{secrets.token_hex(8)}" for what, folder in folders.items()}
    try:
        for note in notes.values():
            note.touch()
        asked = {
            ray.remote(num_cpus=0, max_retries=0)(_unseen)
            .options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
            .remote(notes): node
            for node in others
        }
        for answer, node in asked.items():
            name = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
            try:
                unseen = ray.get(answer, timeout=VISIBLE_SECONDS)
            except (ray.exceptions.RayTaskError, ray.exceptions.RaySystemError) as error:
                reason = str(error).strip().splitlines()[-1][:300]
                raise InputError(
                    f"node {name} cannot run radtune ({reason}); install it there, or submit the study with "
                    "`ray job submit --working-dir .`"
                ) from None
            except (ray.exceptions.RayError, TimeoutError):
                continue  # a node that has just gone is no loss
            if unseen:
                raise InputError(
                    f"node {name} does not see {folders[unseen]} of this machine ({unseen}); put it on a "
                    "disk that all nodes share, or at a URI such as s3://bucket/folder"
                )
    finally:
        for note in notes.values():
            note.unlink(missing_ok=True)


def _unseen(notes: Mapping[str, Path]) -> str:
    """What of `notes` the node that this runs on does not see; empty where it sees all."""
    return next((what for what, note in notes.items() if not note.exists()), "")
