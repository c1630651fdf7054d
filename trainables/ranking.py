"""Several configurations' results side by side: ranked, and as a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

from trainables.records import TrialRecord


def ranking(records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Completed configurations, the best objective on validation first; ties go to the lower number.

    A published configuration that was judged on the given split is not comparable with others that were not,
    and stands here only where it is alone.
    """
    complete = [record for record in records if record.state == "COMPLETE"]
    compared = [record for record in complete if not record.on_given_split]
    return sorted(compared or complete, key=lambda record: (-record.objective, record.number))


def trials_frame(records: Iterable[TrialRecord], mlflow_runs: Mapping[int, str]) -> pd.DataFrame:
    """One row per configuration, sorted by number: number, preset, state, reason, `params.*`,
    `val.*`, `given_split.*`, epoch, seconds, precision, strategy, mlflow_run_id."""
    rows = [
        {"number": record.number, "preset": record.preset, "state": record.state, "reason": record.reason}
        | {f"params.{name}": value for name, value in record.params.items()}
        | record.metrics
        | {
            "epoch": record.epoch,
            "seconds": record.seconds,
            "precision": record.precision,
            "strategy": record.strategy,
            "mlflow_run_id": mlflow_runs.get(record.number, ""),
        }
        for record in sorted(records, key=lambda record: record.number)
    ]
    frame = pd.DataFrame(rows)
    middle = [
        column
        for prefix in ("params.", "val.", "given_split.")
        for column in frame.columns
        if str(column).startswith(prefix)
    ]
    head = ["number", "preset", "state", "reason"]
    return frame.reindex(
        columns=[*head, *middle, "epoch", "seconds", "precision", "strategy", "mlflow_run_id"]
    )
