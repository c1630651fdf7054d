"""Whether a study's folder still holds what was written there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from cohort.errors import InputError
from study.run_folder import RunFolder, asked_bank
from study.study_file import load_stored
from trainables import checkpoints
from trainables.bank_files import unpack_bank
from trainables.checkpoints import CorruptCheckpoint


def verify(folder: Path | str) -> list[str]:
    """What is wrong with a study's folder, a line each: bank files, baselines, the answer and weights
    against their checksums, and whether the rest can be read."""
    run = RunFolder(Path(folder))
    readers: list[tuple[Path, Callable[[Path], Any], str]] = [
        (run.study_file, load_stored, ""),
        (run.inputs_file, lambda _: run.identity(), ""),
        (run.repeats_file, lambda _: run.repeats(), ""),
        (run.plan_file, lambda _: run.plan(), ""),
        (run.warm_starts_file, lambda _: run.warm_starts(), ""),
        (run.trials_file, pd.read_parquet, "resume the study, which writes it anew"),
        (run.journal, _journal, "resume the study, which writes it anew"),
        (run.answer_file, lambda _: run.answer(), ""),
        *((path, asked_bank, "") for path in run.asked_files()),
        *((path, _bank, "") for path in run.bank_files()),
        *((path, _bank, "") for path in sorted(run.baselines.glob("*.safetensors"))),
        (run.split_choice_file, _bank, ""),
        *(
            (path, checkpoints.read, "delete its folder and resume the study")
            for path in sorted(run.checkpoints.rglob("*.safetensors"))
        ),
    ]
    complaints = []
    for path, read, remedy in readers:
        if not path.exists():
            continue
        try:
            read(path)
        except (InputError, CorruptCheckpoint) as error:
            complaints.append(f"{error}; {remedy}" if remedy else str(error))
        except (OSError, ValueError, KeyError) as error:
            complaints.append(f"{path}: damaged ({' '.join(str(error).split())[:200]}); {remedy}")
    return complaints


def _journal(path: Path) -> None:
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if not isinstance(json.loads(line), dict):
            raise ValueError(f"line {number} is no operation")


def _bank(path: Path) -> None:
    unpack_bank(path.read_bytes(), name=str(path))
