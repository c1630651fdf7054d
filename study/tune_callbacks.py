"""What the driver does as Ray Tune goes on: heed signals, forget bytes, tell of deaths and of long trials."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune


class _Callback(tune.Callback):
    def __getstate__(self) -> dict[str, Any]:
        """Nothing to pickle: Tune writes callbacks into a tuner.pkl that nobody reads again."""
        return {}


class ForgetBankFiles(_Callback):
    """Drops a bank file's bytes from Tune's own memory of the trial, where nobody reads them again."""

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        trial.last_result.pop("bank_file", None)


class BeforeEachStep(_Callback):
    """Asks before every step of Tune's loop whether to go on; what a check raises ends the loop."""

    def __init__(self, *checks: Callable[[], None]) -> None:
        self._checks = checks

    def on_step_begin(self, iteration: int, trials: list, **info: Any) -> None:
        for check in self._checks:
            check()


class WorkerDeaths(_Callback):
    """Tells, in a line, of a worker that died, alone or with its node; the searcher hands its bank out
    again."""

    def __init__(self, echo: Callable[[str], None]) -> None:
        self._echo = echo

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        numbers = [one["number"] for one in trial.config["configurations"]]
        named = f"#{numbers[0]}" + (f" to #{numbers[-1]}" if len(numbers) > 1 else "")
        said = Path(trial.error_file).read_text(errors="replace") if trial.error_file else ""
        self._echo(f"{named}: {_last_words(said)}")


_MEMORY_SHORT = re.compile(r"running low on memory")
_MEMORY_USED = re.compile(r"([\d.]+) ?GB used / ([\d.]+) ?GB")
_NODE_GONE = re.compile(r"node has died|temporarily unavailable|NodeDiedError|node failure")
_WORKER_GONE = re.compile(r"Worker exit detail: (.*?)(?:Some common causes|\n|$)")


def _last_words(said: str) -> str:
    """Why a trial's worker ended, in a line, from all that Ray says of it."""
    if _MEMORY_SHORT.search(said):
        used = _MEMORY_USED.search(said)
        how_much = f" ({used[1]} of {used[2]} GB used)" if used else ""
        return (
            f"the worker was ended, for memory ran short there{how_much}; what trains at a time needs less "
            "with a lower resources.cpus"
        )
    if _NODE_GONE.search(said):
        return "the node that trained this is gone, or cannot be reached"
    if detail := _WORKER_GONE.search(said):
        return f"the worker died ({detail[1].strip()[:300]})"
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return f"the worker failed ({lines[-1][:300] if lines else 'Ray does not say why'})"


class EpochLines(_Callback):
    """Says how far a trial of several epochs is: at once after its first, then at most every `pause` seconds.

    Args:
        note: is given all that is said of the trials that train at this moment, after every epoch.
        deadline: `time.time()` at which trials end.
    """

    def __init__(
        self,
        echo: Callable[[str], None],
        note: Callable[[list[str]], None],
        objective: str,
        *,
        deadline: float = math.inf,
        pause: float = 10,
    ) -> None:
        self._echo, self._note, self._objective = echo, note, objective
        self._deadline, self._pause = deadline, pause
        self._last = -math.inf
        self._running: dict[str, str] = {}
        """By Tune's id."""

    def on_trial_result(
        self, iteration: int, trials: list, trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        # Of a finished trial another line tells; a bank of probes has no epochs.
        if result[tune.result.DONE] or "epoch" not in result:
            return
        now = time.monotonic()
        (asked,) = trial.config["configurations"]
        params, epoch = asked["params"], result["epoch"]
        left = min(
            (params["epochs"] - epoch) * result["time_this_iter_s"], max(self._deadline - time.time(), 0)
        )
        line = (
            f"#{asked['number']} {params.get('method', '')}: epoch {epoch}/{params['epochs']}, "
            f"{self._objective} {result['objective']:.3f}, at most {left:.0f} s left"
        )
        self._running[trial.trial_id] = line
        self._note(list(self._running.values()))
        if epoch == 1 or now >= self._last + self._pause:
            self._last = now
            self._echo(f"     {line}")

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        if self._running.pop(trial.trial_id, None):
            self._note(list(self._running.values()))

    on_trial_error = on_trial_complete
