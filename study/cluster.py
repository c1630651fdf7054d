"""Ray for the length of a study: a private one on this machine, or the cluster that is already there."""

from __future__ import annotations

import gc
import logging
import math
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib

from cohort.errors import InputError
from study.config import Resources
from study.interrupts import held_back
from study.nodes import resources_there, wait_for_nodes
from study.ray_place import ray_place
from study.ray_private import (
    enable_token,
    on_loopback,
    running_address,
    wants_token,
    without_sigterm_handler,
)
from study.ray_watch import RayDied, RayWatch, Silence, dead_part, kill_own_ray, unreachable
from study.rooms import REPOSITORY, ROOMS, shadowing


@dataclass(frozen=True)
class Capacity:
    """What the study may use."""

    cpus: int
    gpus: float
    cpus_a_node: int
    """Of the smallest node that has any; a trial lies on one node."""
    cpus_a_gpu: float
    """Of the node that has the fewest for each of its GPUs; infinite without GPUs."""

    def threads(self, concurrent: int, trials_per_gpu: int = 1) -> int:
        """Cpus that each of so many trials may ask for and be sure to get."""
        here = min(self.cpus // concurrent, self.cpus_a_node)
        return max(1, int(min(here, self.cpus_a_gpu / trials_per_gpu)) if self.gpus else here)


PRIVATE = "local"
"""Value of RAY_ADDRESS, Ray's own, for a private Ray whatever else runs on this machine."""


def running_ray() -> str:
    """Address of the Ray that a study joins: that of RAY_ADDRESS, or the one that `ray start` left running on
    this machine, as on the nodes of a cluster; empty where it starts a private one."""
    address = os.environ.get("RAY_ADDRESS", "")
    if address not in ("", "auto"):
        return "" if address == PRIVATE else address
    return running_address()


def check_cluster(resources: Resources) -> None:
    """Find out, before anything is computed, what `ray_cluster` could not do.

    Raises:
        InputError: the study file asks for more than this machine has, where Ray is to start on it; nothing
            answers where Ray is to be joined; or a file of the working directory would be imported in place
            of a package, where Ray runs in this process.
    """
    import ray

    if ray.is_initialized():
        if file := shadowing(Path.cwd()):
            raise InputError(
                f"{file}: has the name of a package of radtune, and workers of the Ray that runs already "
                "import it in its place; rename it, or call ray.shutdown() first"
            )
        return
    if address := running_ray():
        _check_answers(address)
        return
    # Ray believes any number that it is told.
    there = {"cpus": joblib.cpu_count()}
    if resources.gpus:
        import torch

        there["gpus"] = torch.cuda.device_count()
    for name, count in there.items():
        wanted = getattr(resources, name)
        if wanted is not None and wanted > count:
            raise InputError(
                f"resources.{name}: {wanted:g} asked for, but this machine has {count}; "
                f"set it to {count} or leave it out"
            )


def _check_answers(address: str) -> None:
    """InputError where an address is none, or nothing listens there: `ray.init` would try for minutes."""
    host, _, port = address.rpartition("//")[2].rpartition(":")
    if not (host and port.isdigit()):
        raise InputError(
            f"RAY_ADDRESS {address!r}: must be HOST:PORT of a running Ray, or {PRIVATE} for a private one"
        )
    if error := unreachable(address):
        raise InputError(
            f"RAY_ADDRESS {address}: no Ray answers there ({error}); start it, or say RAY_ADDRESS={PRIVATE} "
            "for a private one"
        )


@contextmanager
def joined_ray(resources: Resources, echo: Callable[[str], None]) -> Iterator[Capacity | None]:
    """Join a Ray that is there already, before a study's inputs are prepared, so that its nodes do their
    part; None where the study starts one of its own, later. InputError as `ray_cluster`."""
    import ray

    if ray.is_initialized() or running_ray():
        with ray_cluster(resources, echo) as capacity:
            yield capacity
    else:
        yield None


@contextmanager
def ray_cluster(resources: Resources, echo: Callable[[str], None]) -> Iterator[Capacity]:
    """Join the Ray of `running_ray`, or that of this process, or start one.

    A private Ray listens on this machine only, behind a token of its own that is never written to disk, and
    ends with the block. Its workers import radtune from this driver's own source folder, installed or not.

    Args:
        echo: told, in a line, which running Ray is joined.

    Raises:
        InputError: the study file asks for more than there is.
        RayDied: a part of the Ray that was started here has died meanwhile, or the one that was joined is
            gone.
    """
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # a bank's result is a file, not a JSON line
    os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = "3600"  # bank files are the state; Tune's is never read
    os.environ["TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S"] = "0"
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Tune's own would call an interrupted study finished
    os.environ["TUNE_PRINT_ALL_TRIAL_ERRORS"] = "0"  # `study.tune_callbacks.WorkerDeaths` says them in a line
    logging.getLogger("ray.tune.tune").setLevel(logging.CRITICAL)
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    ours = not ray.is_initialized()
    joined = ours and running_ray()
    if joined:
        named = "RAY_ADDRESS" if os.environ.get("RAY_ADDRESS") else "it runs on this machine"
        echo(f"on the Ray at {joined} ({named}); RAY_ADDRESS={PRIVATE} starts a private one")
        _take_token(joined)
        _init(address=joined, runtime_env={"worker_process_setup_hook": _importing_rooms()})
    elif ours:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
        place = ray_place()
        with on_loopback():
            _init(
                address=PRIVATE,
                num_cpus=resources.cpus,
                num_gpus=resources.gpus,
                include_dashboard=False,
                _temp_dir=place,
                runtime_env={
                    "env_vars": {"PYTHONPATH": path},
                    "worker_process_setup_hook": _importing_rooms(),
                },
            )
    watch = RayWatch(Silence(joined, echo) if joined else dead_part) if ours else None
    try:
        cpus, gpus = resources_there()
        if joined and (cpus < (resources.cpus or 0) or gpus < (resources.gpus or 0)):
            cpus, gpus = wait_for_nodes(resources, echo)
        for name, wanted, there in (("cpus", resources.cpus, cpus), ("gpus", resources.gpus, gpus)):
            if wanted is not None and wanted > there:
                raise InputError(
                    f"resources.{name}: {wanted:g} asked for, but Ray has {there:g}; lower it or add nodes"
                )
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
        yield Capacity(
            cpus=resources.cpus or cpus,
            gpus=gpus if resources.gpus is None else resources.gpus,
            cpus_a_node=int(min((node["CPU"] for node in nodes), default=1)),
            cpus_a_gpu=min(
                (node["CPU"] / node["GPU"] for node in nodes if node.get("GPU")), default=math.inf
            ),
        )
    except BaseException:
        if watch and watch.died:
            raise RayDied(watch.died) from None
        raise
    finally:
        if watch:
            watch.end()
            if watch.died:
                kill_own_ray()
            else:
                _shut_down()


def _init(**settings: Any) -> None:
    """`ray.init`, which is not left halfway: what it had started would hang, or abort this process."""
    import ray

    try:
        with without_sigterm_handler(), held_back():
            ray.init(log_to_driver=False, logging_level="ERROR", **settings)
    except KeyboardInterrupt:
        _shut_down()
        raise


def _take_token(address: str) -> None:
    """Show a running Ray this user's token, which `ray.init` does not, where that Ray wants one; this process
    would want it too otherwise, of workers that have none where Ray was started without."""
    if "RAY_AUTH_MODE" not in os.environ and wants_token(address):
        enable_token()


def _importing_rooms() -> Callable[[], None]:
    """What a worker does before Ray puts the working directory first on its path; see `study.rooms`."""
    rooms = ROOMS

    def import_rooms() -> None:  # within a function: Ray sends it whole, to nodes that may lack this file
        import importlib
        from contextlib import suppress

        for room in rooms:
            with suppress(ImportError):  # it lies in the working directory alone, as an uninstalled checkout
                importlib.import_module(room)

    return import_rooms


def _shut_down() -> None:
    """End Ray while no other thread can touch it.

    A garbage collection that starts in MLflow's thread, say, and meets a Ray reference while the core worker
    goes away ends the whole process without a word (`core_worker_process.cc`, Ray 2.60).
    """
    import ray

    gc.collect()
    gc.disable()
    try:
        ray.shutdown()
    finally:
        gc.enable()
