"""What the driver does as Ray Tune reports: forget bytes, note a worker's last words, tell of long trials."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune


class ForgetBankFiles(tune.Callback):
    """Drops a bank file's bytes from Tune's own memory of the trial, where nobody reads them again."""

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        trial.last_result.pop("bank_file", None)


class WorkerErrors(tune.Callback):
    """Notes why a worker died; Tune tries it again, and gives up without telling its searcher why."""

    def __init__(self, note: Callable[[str, str], None]) -> None:
        self._note = note

    def on_trial_recover(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        lines = Path(trial.error_file).read_text(errors="replace").split("\n") if trial.error_file else []
        said = [line.strip() for line in lines if line.strip()]
        if said:
            self._note(trial.trial_id, said[-1][:500])


class EpochLines(tune.Callback):
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
        now = time.time()
        (asked,) = trial.config["configurations"]
        params, epoch = asked["params"], result["epoch"]
        left = min((params["epochs"] - epoch) * result["time_this_iter_s"], max(self._deadline - now, 0))
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
