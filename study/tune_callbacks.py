"""What the driver does as Ray Tune reports: forget bytes, note a worker's last words, tell of long trials."""

from __future__ import annotations

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
    """Says how far a trial of several epochs is, at most every `pause` seconds."""

    def __init__(self, echo: Callable[[str], None], objective: str, pause: float = 10) -> None:
        self._echo, self._objective, self._pause = echo, objective, pause
        self._last = time.monotonic()

    def on_trial_result(
        self, iteration: int, trials: list, trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        early = time.monotonic() < self._last + self._pause
        # Of a finished trial another line tells; a bank of probes has no epochs.
        if early or result[tune.result.DONE] or "epoch" not in result:
            return
        self._last = time.monotonic()
        (asked,) = trial.config["configurations"]
        params, epoch = asked["params"], result["epoch"]
        left = (params["epochs"] - epoch) * result["time_this_iter_s"]
        self._echo(
            f"     #{asked['number']} {params.get('method', '')}: epoch {epoch}/{params['epochs']}, "
            f"{self._objective} {result['objective']:.3f}, at most {left:.0f} s left"
        )
