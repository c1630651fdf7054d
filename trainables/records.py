"""One configuration's result, and the layout of a run folder.

A bank's results travel and rest as one safetensors file: arrays as tensors, the rest as JSON in its
metadata. It is the first thing on disk after a bank has trained; the journal, MLflow and `trials.parquet`
follow from it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load, save

from cohort.errors import InputError
from cohort.files import write_atomically
from vlm.linear_head import LinearHead

STATES = ("COMPLETE", "PRUNED", "FAIL")


@dataclass(frozen=True, kw_only=True, eq=False)
class TrialRecord:
    """What one configuration left behind."""

    number: int
    """Optuna's trial number: the configuration's name everywhere."""
    params: dict[str, Any]
    """The whole configuration, fixed parameters included."""
    state: str
    """COMPLETE, PRUNED (stopped for lagging behind the other configurations) or FAIL."""
    reason: str = ""
    """Why it did not complete, or stopped early; empty otherwise."""
    warnings: list[str] = field(default_factory=list)
    """What went wrong on the way and was got over, such as a damaged checkpoint."""
    objective: float = float("nan")
    """The study's objective on validation at the kept evaluation; NaN where it failed."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Validation metrics, named `val.<metric>`."""
    curve: list[dict[str, float]] = field(default_factory=list)
    """One entry an evaluation: epoch, train_loss, val_loss and the objective."""
    epoch: int = 0
    """Epochs trained when the kept weights were evaluated."""
    seconds: float = 0.0
    """This configuration's share of its bank's training time."""
    strategy: str = ""
    """Threshold strategy with the best cross-fitted macro-F1."""
    thresholds: dict[str, list[float]] = field(default_factory=dict)
    """Per strategy, one probability threshold a label, refitted on all of validation."""
    few: list[bool] = field(default_factory=list)
    """Per label, whether it has too few positive patients for a threshold of its own."""
    head: LinearHead | None = None
    """The trained head; None where the configuration failed."""

    def __post_init__(self) -> None:
        if self.state not in STATES:
            raise ValueError(f"state must be one of {', '.join(STATES)}, not {self.state!r}")


def pack_bank(records: Iterable[TrialRecord]) -> bytes:
    """Serialise a bank's records; `unpack_bank` is the inverse."""
    tensors: dict[str, np.ndarray] = {}
    described = []
    for record in records:
        plain = {key: value for key, value in asdict(record).items() if key != "head"}
        described.append(plain)
        if record.head is not None:
            tensors |= {f"{record.number}/{name}": array for name, array in record.head.tensors().items()}
    if not tensors:  # safetensors wants at least one
        tensors["empty"] = np.zeros(1, np.float32)
    return save(tensors, metadata={"records": json.dumps(described)})


def unpack_bank(data: bytes, name: str = "bank file") -> list[TrialRecord]:
    """Read what `pack_bank` wrote.

    Raises:
        InputError: `data` is not a whole bank file; the message starts with `name`.
    """
    try:
        tensors = load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        described = json.loads(header["__metadata__"]["records"])
        records = []
        for plain in described:
            prefix = f"{plain['number']}/"
            arrays = {
                key.removeprefix(prefix): array for key, array in tensors.items() if key.startswith(prefix)
            }
            records.append(TrialRecord(**plain, head=LinearHead.from_tensors(arrays) if arrays else None))
        return records
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{name}: not a whole bank file ({error}); delete it and resume the study") from None


@dataclass(frozen=True)
class RunFolder:
    """runs/<study>: where each part of a study rests."""

    path: Path

    @property
    def study_file(self) -> Path:
        return self.path / "study.yaml"

    @property
    def inputs_file(self) -> Path:
        """Cohort hash, encoder fingerprint, folds and labels on which every record depends."""
        return self.path / "inputs.json"

    @property
    def floors_file(self) -> Path:
        return self.path / "floors.json"

    @property
    def finalists_file(self) -> Path:
        return self.path / "finalists.json"

    @property
    def journal(self) -> Path:
        return self.path / "optuna.journal"

    @property
    def lock_file(self) -> Path:
        return self.path / "driver.lock"

    @property
    def banks(self) -> Path:
        return self.path / "banks"

    @property
    def checkpoints(self) -> Path:
        """Fine-tuning only: a folder a trial, keyed by its number."""
        return self.path / "checkpoints"

    @property
    def trials_file(self) -> Path:
        return self.path / "trials.parquet"

    @property
    def environment_file(self) -> Path:
        return self.path / "environment.txt"

    @property
    def analysis(self) -> Path:
        return self.path / "analysis"

    def bank_file(self, bank: int) -> Path:
        return self.banks / f"bank-{bank:04d}.safetensors"

    def bank_files(self) -> list[Path]:
        """The finished banks' files, in the order in which they were asked for."""
        return sorted(self.banks.glob("bank-*.safetensors"))

    def records(self) -> dict[int, TrialRecord]:
        """Every finished configuration by number, read from the bank files.

        Raises:
            InputError: a bank file is damaged.
        """
        return {
            record.number: record
            for path in self.bank_files()
            for record in unpack_bank(path.read_bytes(), name=str(path))
        }

    def write_trials(self, records: Iterable[TrialRecord], mlflow_runs: Mapping[int, str]) -> None:
        """Write `trials.parquet`: a row a configuration, sorted by number."""
        frame = trials_frame(records, mlflow_runs)
        write_atomically(self.trials_file, frame.to_parquet(index=False))


def trials_frame(records: Iterable[TrialRecord], mlflow_runs: Mapping[int, str]) -> pd.DataFrame:
    """Columns: number, state, reason, `params.*`, `val.*`, epoch, seconds, strategy, mlflow_run_id."""
    rows = []
    for record in sorted(records, key=lambda record: record.number):
        rows.append(
            {"number": record.number, "state": record.state, "reason": record.reason}
            | {f"params.{name}": value for name, value in record.params.items()}
            | record.metrics
            | {
                "epoch": record.epoch,
                "seconds": record.seconds,
                "strategy": record.strategy,
                "mlflow_run_id": mlflow_runs.get(record.number, ""),
            }
        )
    frame = pd.DataFrame(rows)
    order = ["params.", "val."]
    middle = [column for prefix in order for column in frame.columns if str(column).startswith(prefix)]
    tail = ["epoch", "seconds", "strategy", "mlflow_run_id"]
    return frame.reindex(columns=["number", "state", "reason", *middle, *tail])
