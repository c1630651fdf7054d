"""Which code and which packages a study ran with."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import distributions

from study.rooms import REPOSITORY


def revision() -> str:
    """Git revision of the source, with `-dirty` where it was changed since; empty outside a checkout."""
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def environment() -> str:
    """The interpreter, the platform and every installed package with its version, a line each."""
    packages = sorted({f"{found.name}=={found.version}" for found in distributions()}, key=str.lower)
    return "\n".join([f"# Python {platform.python_version()}, {platform.platform()}", *packages]) + "\n"
