"""runs/<study>: where each part of a study rests. The only file that knows the layout."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from cohort.errors import InputError, shortened
from cohort.files import write_atomically
from cohort.remote_files import MirroredFolder, inside
from scoring.predictions import BASELINE
from study.command import shown_command
from trainables.bank_files import pack_bank, unpack_bank
from trainables.baselines import LOGREG, LOGREG_DEEP
from trainables.ranking import trials_frame
from trainables.records import TrialRecord

if TYPE_CHECKING:  # they bring scikit-learn along, which `radtune show` does without
    from trainables.ensemble import Ensemble


PLAN = ("configurations", "bank_size", "concurrent", "first_bank")
"""What `plan.json` notes: of `study.search_plan.SearchPlan`, what a resume keeps to."""

ASKED = ("configurations", "sampler")
"""What the note of a bank that was asked for holds: `number`, `params` and `preset` of each configuration,
and what Optuna's sampler keeps of each meanwhile."""


@dataclass(frozen=True)
class RunFolder:
    """A study's own folder."""

    path: Path

    @property
    def study_file(self) -> Path:
        return self.path / "study.yaml"

    @property
    def inputs_file(self) -> Path:
        """Cohort hash, encoder fingerprint, features and labels on which every record depends."""
        return self.path / "inputs.json"

    @property
    def baselines(self) -> Path:
        """The baselines' records, a file each."""
        return self.path / "baselines"

    @property
    def predictions_file(self) -> Path:
        """What every row of the tables says of every image, see `study.predictions`."""
        return self.path / "predictions.arrow"

    @property
    def answer_file(self) -> Path:
        """Of a cross-validated study: the ensemble that it answers with."""
        return self.path / "answer.safetensors"

    @property
    def split_choice_file(self) -> Path:
        """Of a cross-validated study: what the given split would have chosen, as a bank of one."""
        return self.path / "split-choice.safetensors"

    @property
    def repeats_file(self) -> Path:
        """The finalists trained again, of a study that chooses by the given split."""
        return self.path / "repeats.json"

    @property
    def journal(self) -> Path:
        """Optuna's, for optuna-dashboard; every driver writes it anew."""
        return self.path / "optuna.journal"

    @property
    def plan_file(self) -> Path:
        """How the study is cut into banks: a resume on another machine keeps to it."""
        return self.path / "plan.json"

    @property
    def lock_file(self) -> Path:
        return self.path / "driver.lock"

    @property
    def log_file(self) -> Path:
        """What the drivers of the study said, and what libraries warned of; only ever appended to."""
        return self.path / "run.log"

    @property
    def mlflow_run_file(self) -> Path:
        """Id of the study's parent run in MLflow."""
        return self.path / "mlflow_run_id"

    @property
    def test_access_file(self) -> Path:
        """A line for each time the test labels were read; only ever appended to."""
        return self.path / "test_access.jsonl"

    @property
    def banks(self) -> Path:
        return self.path / "banks"

    @property
    def tune(self) -> Path:
        """Ray Tune's own notes, which nobody reads again."""
        return self.path / "tune"

    @property
    def checkpoints(self) -> Path:
        """Fine-tuning only: one folder per trial, keyed by its number."""
        return self.path / "checkpoints"

    def tuned_answer(self, shared_folder: str | None) -> MirroredFolder:
        """Fine-tuning only: the tower and the head that the study answers with, beside the checkpoints.

        Args:
            shared_folder: where the checkpoints are, if not here.
        """
        return MirroredFolder(inside(shared_folder or str(self.checkpoints.absolute()), "answer"))

    @property
    def trials_file(self) -> Path:
        return self.path / "trials.parquet"

    @property
    def running_file(self) -> Path:
        """How far the trials of several epochs are that a driver trains at this moment, a line each."""
        return self.path / "running.txt"

    @property
    def ended_file(self) -> Path:
        """How the last driver ended, where it came to its end: `finished`, or why before all configurations
        were done."""
        return self.path / "ended.txt"

    @property
    def warm_starts_file(self) -> Path:
        """The configurations of an earlier study with which this one begins."""
        return self.path / "warm_starts.json"

    @property
    def environment_file(self) -> Path:
        return self.path / "environment.txt"

    @property
    def analysis(self) -> Path:
        return self.path / "analysis"

    @property
    def report(self) -> Path:
        return self.analysis / "report.html"

    def is_empty(self) -> bool:
        """Whether nothing lies there but a driver's lock, or what a killed one had half written."""
        return not self.path.exists() or all(
            path.name == self.lock_file.name or (path.name.startswith(".") and path.name.endswith(".tmp"))
            for path in self.path.iterdir()
        )

    # What banks left ---------------------------------------------------------------------------------------

    def bank_file(self, bank: int) -> Path:
        return self.banks / f"bank-{bank:04d}.safetensors"

    def bank_files(self) -> list[Path]:
        """The finished banks' files, in the order in which they were asked for."""
        return sorted(self.banks.glob("bank-*.safetensors"))

    def asked_file(self, bank: int) -> Path:
        return self.banks / f"bank-{bank:04d}.json"

    def asked_files(self) -> list[Path]:
        """The notes of what was asked for, in the order in which it was."""
        return sorted(self.banks.glob("bank-*.json"))

    def note_asked(self, bank: int, note: Mapping[str, Any]) -> None:
        """Note what was asked for, before it is handed out: every key of `ASKED`, and others."""
        write_atomically(self.asked_file(bank), json.dumps(note).encode())

    def asked_banks(self) -> dict[int, dict[str, Any]]:
        """What `note_asked` noted, by the bank's number; InputError where a note is damaged."""
        return {int(path.stem.removeprefix("bank-")): asked_bank(path) for path in self.asked_files()}

    def finished_banks(self) -> dict[int, list[TrialRecord]]:
        """What each finished bank left, by its number; InputError where a bank file is damaged."""
        return {
            int(path.stem.removeprefix("bank-")): unpack_bank(path.read_bytes(), name=str(path))
            for path in self.bank_files()
        }

    def records(self) -> dict[int, TrialRecord]:
        """Every finished configuration by number, read from the bank files.

        Raises:
            InputError: a bank file is damaged.
        """
        return {record.number: record for records in self.finished_banks().values() for record in records}

    def kept_with_mlflow(self) -> list[Path]:
        """The study's own files that its run in MLflow keeps as well."""
        files = [
            self.study_file,
            self.inputs_file,
            self.environment_file,
            self.repeats_file,
            self.answer_file,
        ]
        return [file for file in files if file.exists()]

    def kept_in_copy(self) -> list[Path]:
        """What beside bank files a copy of the study holds, for a resume on another machine."""
        files = [
            *self.kept_with_mlflow(),
            self.mlflow_run_file,
            self.test_access_file,
            self.warm_starts_file,
            self.plan_file,
            self.split_choice_file,
            self.trials_file,
            *self.asked_files(),
            *sorted(self.baselines.glob("*.safetensors")),
        ]
        return [file for file in files if file.exists()]

    def mlflow_runs(self) -> dict[int, str]:
        """Number -> run id in MLflow, as far as `trials.parquet` knows it; InputError where damaged."""
        import pyarrow as pa

        if not self.trials_file.exists():
            return {}
        try:
            logged = pd.read_parquet(self.trials_file, columns=["number", "mlflow_run_id"])
        except (pa.ArrowException, OSError, ValueError) as error:
            remedy = f"`{shown_command('sync', self.path)}` writes it anew"
            raise _damaged(self.trials_file, error, remedy) from None
        return dict(zip(logged["number"], logged["mlflow_run_id"], strict=True))

    def write_trials(self, records: Iterable[TrialRecord], mlflow_runs: Mapping[int, str]) -> None:
        """Write `trials.parquet`: one row per configuration, sorted by number."""
        write_atomically(self.trials_file, trials_frame(records, mlflow_runs).to_parquet(index=False))

    def note_running(self, lines: Iterable[str]) -> None:
        """Replace what is said of the trials that train at this moment."""
        write_atomically(self.running_file, "\n".join(lines).encode())

    # What the driver noted ---------------------------------------------------------------------------------

    def identity(self) -> dict[str, Any]:
        """What the study ran with, as `study.inputs` describes it; InputError where it never began, or the
        file is damaged."""
        if not self.inputs_file.exists():
            raise InputError(f"{self.path}: this study has not begun; `radtune run STUDY.yaml` begins it")
        return _read_json(
            self.inputs_file,
            ["precision"],
            "put back the one that the study's run in MLflow keeps; or, where cohort and encoder are still "
            "what it ran with, delete it and resume the study",
        )

    def keep_identity(self, now: Mapping[str, Any]) -> None:
        """Note what the study depends on; InputError, naming it, where it is no longer that."""
        if not self.inputs_file.exists():
            write_atomically(self.inputs_file, json.dumps(now, indent=1).encode())
            return
        before = self.identity()
        for key, value in now.items():
            then = before.get(key)
            if then != value:
                raise InputError(
                    f"{self.path}: {key} is no longer what the study ran with ({_short(then)} then, "
                    f"{_short(value)} now); put the former back, or start a study under another name"
                )

    def write_plan(self, plan: Mapping[str, int]) -> None:
        """Note how the study is cut into banks: every key of `PLAN`."""
        write_atomically(self.plan_file, json.dumps(plan).encode())

    def plan(self) -> dict[str, int]:
        """What `write_plan` noted; empty before, InputError where it is damaged."""
        if not self.plan_file.exists():
            return {}
        remedy = "delete it and resume the study, whose other configurations are then cut into banks anew"
        noted = _read_json(self.plan_file, PLAN, remedy)
        if wrong := [key for key in PLAN if type(noted[key]) is not int or noted[key] < 0]:
            raise _damaged(self.plan_file, ValueError(f"{wrong[0]} is no count"), remedy)
        return {key: noted[key] for key in PLAN}

    def warm_starts(self) -> list[dict[str, Any]]:
        """As `study.warm_start` noted them; InputError where they are damaged."""
        remedy = "delete it and resume the study, which takes them from search.warm_start again"
        return _read_json(self.warm_starts_file, ["starts"], remedy)["starts"]

    def write_baseline(self, id: str, records: Iterable[TrialRecord]) -> None:
        """Keep the records of a baseline."""
        numbered = [replace(record, number=place) for place, record in enumerate(records)]
        write_atomically(self.baselines / f"{id.partition('/')[2]}.safetensors", pack_bank(numbered))

    def baseline_records(self) -> dict[str, tuple[TrialRecord, ...]]:
        """Id -> what `write_baseline` kept, as far as they are there; InputError where one is damaged."""
        return {
            f"{BASELINE}/{path.stem}": tuple(
                replace(record, number=-1) for record in unpack_bank(path.read_bytes(), name=str(path))
            )
            for path in sorted(self.baselines.glob("*.safetensors"))
        }

    def logreg(self) -> float:
        """The better plain regression's objective on validation; NaN before any is known."""
        kept = self.baseline_records()
        objectives = [one.objective for id in (LOGREG, LOGREG_DEEP) for one in kept.get(id, ())]
        return max(objectives, default=math.nan)

    def answer(self) -> Ensemble | None:
        """What the study answers with; None before its end, and where it chooses by the given split.

        Raises:
            InputError: the file is damaged.
        """
        from trainables.ensemble import unpack_ensemble

        if not self.answer_file.exists():
            return None
        return unpack_ensemble(self.answer_file.read_bytes(), name=str(self.answer_file))

    def split_choice(self) -> TrialRecord | None:
        """What the given split would have chosen; None where nobody asked. InputError where it is damaged."""
        if not self.split_choice_file.exists():
            return None
        (record,) = unpack_bank(self.split_choice_file.read_bytes(), name=str(self.split_choice_file))
        return record

    def repeats(self) -> dict[str, Any]:
        """As `study.repeats` wrote them; nothing repeated where it did not. InputError where damaged."""
        if not self.repeats_file.exists():
            return {"repeated": [], "lines": []}
        return _read_json(self.repeats_file, ["repeated", "lines"], "resume the study, which writes it anew")


def asked_bank(path: Path) -> dict[str, Any]:
    """The note of a bank that was asked for; InputError where it is damaged."""
    remedy = "delete it and resume the study, which asks anew for what of it was not trained"
    return _read_json(path, ASKED, remedy)


def _read_json(path: Path, keys: Iterable[str], remedy: str) -> dict[str, Any]:
    """A JSON object that has these keys; InputError, which ends in the remedy, where the file holds none."""
    try:
        found = json.loads(path.read_text())
        if not isinstance(found, dict):
            raise ValueError("not an object")
        if missing := [key for key in keys if key not in found]:
            raise ValueError(f"no {missing[0]!r}")
        return found
    except ValueError as error:
        raise _damaged(path, error, remedy) from None


def _damaged(path: Path, error: Exception, remedy: str) -> InputError:
    return InputError(f"{path}: damaged ({shortened(str(error))}); {remedy}")


def _short(value: Any) -> Any:
    return value[:16] if isinstance(value, str) else value
