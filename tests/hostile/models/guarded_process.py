"""A process that reads a stranger's files under guard and says what became of it.

In it no address is looked up and nothing is connected to, no process is started, nobody is asked at a
terminal, no pickle names a class, nothing is written outside the folder for temporary files, and no more
memory is taken than `memory` bytes above what it starts with. What is tried in spite of that fails there and
is reported, even where the reader swallows the error.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import REPOSITORY

MEMORY = 2 * 2**30
TIMEOUT_S = 60.0

_FORBIDDEN = frozenset(
    (
        "socket.connect socket.bind socket.getaddrinfo socket.gethostbyname socket.sendto socket.sendmsg "
        "subprocess.Popen os.system os.exec os.posix_spawn os.fork os.forkpty pty.spawn "
        "builtins.input pickle.find_class"
    ).split()
)
# Of each event the places of what comes into being or goes, and of the open folder that its path starts from.
_CHANGES = {
    "os.mkdir": ((0, 2),),
    "os.rename": ((0, 2), (1, 3)),
    "os.remove": ((0, 1),),
    "os.rmdir": ((0, 1),),
    "os.symlink": ((1, 2),),
    "os.link": ((1, 3),),
    "os.chmod": ((0, 2),),
}


@dataclass(frozen=True)
class Outcome:
    """What became of one request."""

    result: str
    """What it gave, in short; empty where it was refused or failed."""
    refusal: str
    """The message of its InputError; empty without one."""
    failure: str
    """The traceback of any other exception, or how the process ended; empty without one."""
    forbidden: list[str]
    """What it tried that is forbidden."""

    @property
    def orderly(self) -> bool:
        """Whether it gave something or was refused in one line, for another reason than want of memory, and
        tried nothing that is forbidden."""
        refusal = self.refusal.lower()
        return (
            not self.failure
            and not self.forbidden
            and "\n" not in refusal
            and len(refusal) < 4000
            and "memory" not in refusal
        )


class GuardedProcess:
    """Answers requests one after the other; started again where one kills it or takes too long."""

    def __init__(self, temporary: Path) -> None:
        self._temporary = temporary
        self._process: subprocess.Popen | None = None

    def ask(self, what: str, *, timeout_s: float = TIMEOUT_S, **arguments: str) -> Outcome:
        """`what` is one of `_REQUESTS`."""
        if self._process is None:
            self._start()
        self._process.stdin.write(json.dumps({"what": what, "arguments": arguments}) + "\n")
        self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], timeout_s)[0]:
            self.close()
            return Outcome("", "", f"no answer within {timeout_s:g} s", [])
        if answer := self._process.stdout.readline():
            return Outcome(**json.loads(answer))
        code = self._process.wait()
        self.close()
        return Outcome("", "", f"the process ended with {code}", [])

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _start(self) -> None:
        environment = os.environ | {
            "TMPDIR": str(self._temporary),
            "HF_HOME": str(self._temporary / "huggingface"),
            "OMP_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            # What a request that is not made would carry.
            "HF_TOKEN": "hf_of_the_user",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.models.guarded_process"],
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        ready = self._process.stdout.readline()
        assert ready == "ready\n", ready


def _load_encoder(name: str) -> str:
    from vlm.encoders import load_encoder

    encoder = load_encoder(name, device="cpu")
    if not encoder.text_refusal:
        encoder.text_features(["a chest x-ray showing edema"])
    return encoder.fingerprint


def _load_bundle(folder: str) -> str:
    from vlm.bundle import Bundle

    return repr(Bundle.load(folder, "cpu"))


def _predict(folder: str, image: str) -> str:
    from vlm.bundle import Bundle

    return json.dumps(Bundle.load(folder, "cpu").predict([image]).to_pylist())


def _trespass(how: str, place: str) -> str:
    """What the guard is there for."""
    import socket
    import subprocess

    import torch

    attempts = {
        "connect": lambda: socket.socket().connect(("127.0.0.1", 9)),
        "look up": lambda: socket.gethostbyname("example.org"),
        "start": lambda: subprocess.run(["true"]),
        "write": lambda: Path(place).touch(),
        "make a folder": lambda: Path(place).mkdir(),
        "ask": lambda: input("run it? [y/N]"),
        "take memory": lambda: torch.ones(MEMORY),
        "end": lambda: os.abort(),
        "hang": lambda: select.select([], [], []),
    }
    attempts[how]()
    return how


_REQUESTS = {"trespass": _trespass, "encoder": _load_encoder, "bundle": _load_bundle, "predict": _predict}


def _serve() -> None:
    """Answer requests from standard input until it ends."""
    import resource
    import tempfile
    import traceback
    from importlib import import_module

    from cohort.errors import InputError

    # Nothing that is imported below or prints on its own shall be taken for an answer.
    requests, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    for name in ("pixels", "phantom-clip"):
        _load_encoder(name)
    for module in ("transformers.models.bert.modeling_bert", "transformers.models.bert.tokenization_bert"):
        import_module(module)
    import_module("vlm.bundle")

    allowed = (os.path.realpath(tempfile.gettempdir()), os.devnull)
    tried: list[str] = []

    def outside(path: object, folder: int = -1) -> bool:
        if isinstance(path, int):
            return False
        start = f"/proc/self/fd/{folder}" if folder >= 0 else ""
        parent, name = os.path.split(os.path.join(start, os.fsdecode(path)))
        return not os.path.join(os.path.realpath(parent), name).startswith(allowed)

    def guard(event: str, arguments: tuple) -> None:
        if event == "open" and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            changed = [(arguments[0] if isinstance(arguments[0], int) else os.path.realpath(arguments[0]),)]
        else:
            changed = [(arguments[path], arguments[folder]) for path, folder in _CHANGES.get(event, ())]
        if event in _FORBIDDEN or any(outside(*place) for place in changed):
            tried.append(f"{event} {str(arguments)[:200]}")
            raise PermissionError(f"forbidden: {event}")

    sys.addaudithook(guard)
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + MEMORY, in_use + MEMORY))
    print("ready", file=answers, flush=True)
    for line in requests:
        request = json.loads(line)
        tried.clear()
        outcome = {"result": "", "refusal": "", "failure": ""}
        try:
            outcome["result"] = _REQUESTS[request["what"]](**request["arguments"])
        except InputError as error:
            outcome["refusal"] = str(error)
        except BaseException:
            outcome["failure"] = traceback.format_exc()
        print(json.dumps(outcome | {"forbidden": tried}), file=answers, flush=True)


if __name__ == "__main__":
    _serve()
