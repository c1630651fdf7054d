"""A machine of the test's own, since `ray up` and `ray symmetric-run` end every Ray that they see."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

PLAIN = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
"""As a user's shell has it: the other tests refuse whatever Ray runs on the machine."""


class Machine:
    """Process and network namespaces of their own: no process of this machine is seen from within, nothing
    but its own 127.0.0.1 is reached, and with its first process all others end."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ray"))
        """Its path is short, as Ray's sockets want it."""
        first = (
            "ip link set lo up && echo up; while true; do sleep 3600 & wait; done"  # a shell reaps orphans
        )
        self._unshare = subprocess.Popen(
            ["unshare", "--pid", "--net", "--fork", "--kill-child", "--mount-proc", "bash", "-c", first],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if self._unshare.stdout.readline() != "up\n":
            self.stop()
            pytest.skip("this user may make no namespaces of its own")
        (shell,) = psutil.Process(self._unshare.pid).children()
        self.pid = shell.pid
        self._enter = ["nsenter", "--target", str(self.pid), "--pid", "--net", "--mount"]

    def start(self, command: Sequence[str], **options) -> subprocess.Popen:
        return subprocess.Popen([*self._enter, "--", *command], **options)

    def run(
        self, command: Sequence[str], *, cwd: Path, environment: dict[str, str], timeout: float, code: int = 0
    ) -> str:
        """What a command prints, both streams together; a failure where it ends with another code."""
        done = subprocess.run(
            [*self._enter, f"--wd={cwd}", "--", *command],  # another mount namespace begins at /
            env=PLAIN | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )
        assert done.returncode == code, f"{' '.join(command)}: {done.returncode}\n{done.stdout}"
        return done.stdout

    def stop(self) -> None:
        self._unshare.kill()
        self._unshare.communicate(timeout=30)
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture
def machine() -> Iterator[Machine]:
    """One; skips where this user may make none."""
    if lacking := [tool for tool in ("unshare", "nsenter", "ip") if not shutil.which(tool)]:
        pytest.skip(f"{', '.join(lacking)} is not installed")
    machine = Machine()
    yield machine
    machine.stop()


@pytest.fixture
def pair(machine: Machine) -> Iterator[dict[str, Machine]]:
    """Two by address, joined by a cable; each takes the other for its way out, where Ray looks."""
    other = Machine()
    cable = f"ip link add eth0 netns {machine.pid} type veth peer name eth0 netns {other.pid}"
    joined = subprocess.run(cable.split(), capture_output=True, text=True, timeout=30)
    if joined.returncode:
        other.stop()
        pytest.skip(f"no cable between two namespaces: {joined.stderr.strip()}")
    pair = {"10.9.0.1": machine, "10.9.0.2": other}
    for (address, one), towards in zip(pair.items(), reversed(pair), strict=True):
        plugged = (
            f"ip addr add {address}/24 dev eth0 && ip link set eth0 up && ip route add default via {towards}"
        )
        one.run(["bash", "-c", plugged], cwd=Path("/"), environment={}, timeout=30)
    yield pair
    other.stop()
