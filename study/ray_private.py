"""All that this project takes from Ray's private modules, which any release may change; read in Ray 2.60.

Nothing is imported from Ray before a function is called.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


def running_address() -> str:
    """Address of the Ray that `ray start` left running on this machine, or "".

    What `ray.init` looks up as well; nothing public answers without joining. The file that notes it outlives
    a crash.
    """
    from ray._private.services import find_bootstrap_address, find_gcs_addresses

    noted = find_bootstrap_address(None)
    return noted if noted in find_gcs_addresses() else ""


@contextmanager
def on_loopback() -> Iterator[None]:
    """Start Ray as where it knows no clusters, on macOS: at 127.0.0.1. Elsewhere it turns that address, when
    it is given it, into the machine's own, and its processes listen on every interface."""
    from ray._private import ray_constants

    before, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextmanager
def without_sigterm_handler() -> Iterator[None]:
    """`ray.init` leaves this process's handler of SIGTERM as it is."""
    from ray._private import utils

    taken, utils.set_sigterm_handler = utils.set_sigterm_handler, lambda handler: None
    try:
        yield
    finally:
        utils.set_sigterm_handler = taken


_ASK_WITHOUT_TOKEN = "import sys; from ray._raylet import GcsClient; GcsClient(address=sys.argv[1])"


def wants_token(address: str) -> bool:
    """Whether the Ray at HOST:PORT refuses a process that shows no token."""
    asked = subprocess.run(
        [sys.executable, "-c", _ASK_WITHOUT_TOKEN, address],
        env=os.environ | {"RAY_AUTH_MODE": "disabled"},
        capture_output=True,
    )
    return b"AuthenticationError" in asked.stderr


def enable_token() -> None:
    """Show this user's token, if there is one, to the Ray that is joined."""
    from ray._private.authentication import authentication_token_setup as tokens

    tokens.logger.setLevel("ERROR")  # it would warn of having found one
    tokens.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


def dead_processes() -> list[str]:
    """Names of those parts of the Ray that this process started that have died."""
    from ray._private.worker import _global_node

    return [name for name, _ in _global_node.dead_processes()]


def kill_own_processes() -> None:
    """End what is left of a Ray that this process started, if it did, without any order."""
    from ray._private.worker import _global_node

    if _global_node and _global_node.head:
        _global_node.kill_all_processes(check_alive=False, allow_graceful=False)


def keep_from_actors(names: Iterable[str]) -> None:
    """Have Ray Tune hand its actors none of these variables of the environment."""
    from ray.tune.execution.class_cache import ENV_VARS_TO_PROPAGATE

    ENV_VARS_TO_PROPAGATE.difference_update(names)
