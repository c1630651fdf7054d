"""What a driver says of its study: what is about to be done, and after each bank how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence

from study.config import StudyConfig
from study.inputs import Inputs
from study.progress import progress
from trainables.records import TrialRecord


class ProgressLines:
    """The lines of one study.

    Args:
        echo: receives them.
        deadline: `time.time()` at which the search ends.
    """

    def __init__(self, config: StudyConfig, echo: Callable[[str], None], deadline: float) -> None:
        self._config, self._echo, self._deadline = config, echo, deadline
        self._ends: list[tuple[float, int]] = []
        """After how many seconds each bank or trial ended, and how many configurations were done then."""

    def say(self, line: str) -> None:
        """A line that begins with the study's name."""
        self._echo(f"{self._config.name}: {line}")

    def announce(self, lines: Sequence[str], inputs: Inputs, done: int) -> None:
        """What is about to be done.

        Args:
            lines: what the trainable says of it.
            done: configurations that earlier drivers did.
        """
        for line in lines:
            self.say(line)
        objective, data = self._config.search.objective, inputs.data
        self.say(f"objective {objective} over {data.scored_C.sum()} of {len(data.labels)} labels")
        for label in inputs.uncounted:
            self.say(
                f"{label} does not count in the objective: its positive patients all lie in one fold, so "
                "that nothing could learn it for them"
            )
        if place := self._config.shared_folder:
            self.say(f"a copy of the study is renewed after every bank at {place}")
        if done:
            self._echo(f"resumed: {done} configurations are done already")

    def bank(
        self, ended: Sequence[TrialRecord], records: Collection[TrialRecord], logreg: float, seconds: float
    ) -> None:
        """How far the study is, and what was remarkable in a bank.

        Args:
            ended: the bank's.
            records: all that are done.
            logreg: objective of the plain regression; NaN while it is not known.
            seconds: since the study was started.
        """
        for record in ended:
            for line in record.warnings:
                self._echo(f"#{record.number}: {line}")
            if record.state == "FAIL":
                self._echo(f"#{record.number} failed: {record.reason}")
        search = self._config.search
        self._ends.append((seconds, len(records)))
        self._echo(
            f"{len(records):>4}/{search.configurations} configurations · "
            f"{progress(records, logreg, search.objective)} · {seconds:.0f} s"
            + self._time_left(search.configurations)
        )

    def _time_left(self, wanted: int) -> str:
        """From the second one on: the first waits for its worker to start, which happens once."""
        (first, before), (last, done) = self._ends[0], self._ends[-1]
        if done == before or done >= wanted:
            return ""
        left = (last - first) / (done - before) * (wanted - done)
        return f", about {min(left, max(self._deadline - time.time(), 0)):.0f} s left"
