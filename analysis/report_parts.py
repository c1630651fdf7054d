"""The sections of a report as they lie on the disk, so that a part of an analysis keeps the others.

`analysis/parts/<section>.json` holds a section as it stands on the page, the names of the tables and figures
that are its own, and of which state of the study it was made. What was made of another state is never shown
beside what is made now.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from analysis.sections import SECTIONS
from cohort.errors import InputError
from cohort.files import read_bounded, write_atomically

SHARED = (
    "report.html",
    "test_scores.csv",
    "comparisons.csv",
    "generalization_gap.csv",
    "settings.csv",
    "claims.txt",
    "test_predictions.parquet",
    "judged.json",
)
"""What every analysis writes, whatever its sections."""
LARGEST_PART = 2**28
"""Bytes of a section's file that are read."""


@dataclass(frozen=True, kw_only=True)
class ReportPart:
    """A section as it was written."""

    name: str
    title: str
    state: str
    """Of the study, see `analysis.study_state`."""
    html: str
    tables: Sequence[str] = field(default_factory=list)
    """Its own files `<name>.csv` in the analysis folder."""
    figures: Sequence[str] = field(default_factory=list)
    """Its own files `<name>.png` in `figures`."""

    def files(self, folder: Path) -> set[Path]:
        """Those of them that are plain names, so that a damaged file names nothing outside the folder."""
        places = [folder / f"{name}.csv" for name in self.tables]
        places += [folder / "figures" / f"{name}.png" for name in self.figures]
        return {path for path in places if path.parent in (folder, folder / "figures")}


def note_judged(folder: Path, predictions_hash: str) -> None:
    """Say of which predictions the tables of an analysis folder are."""
    write_atomically(folder / "judged.json", json.dumps({"predictions": predictions_hash}).encode())


def judged_predictions(folder: Path) -> str:
    """The hash of the predictions that an analysis folder is of; empty where it holds no whole analysis."""
    try:
        return str(json.loads((folder / "judged.json").read_bytes())["predictions"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def note_unfinished(folder: Path, state: str, sections: Sequence[str], waiting: Sequence[str]) -> None:
    """Say which of an analysis's sections are still to be made; none: that it is finished."""
    path = folder / "unfinished.json"
    if waiting:
        said = {"state": state, "sections": list(sections), "waiting": list(waiting)}
        write_atomically(path, json.dumps(said).encode())
    else:
        path.unlink(missing_ok=True)


def unfinished(folder: Path, state: str, sections: Sequence[str]) -> list[str]:
    """The sections that an analysis of the same state and sections had not made when it was stopped; all of
    them where there was none such."""
    try:
        said = json.loads(read_bounded(folder / "unfinished.json", LARGEST_PART, "delete it"))
        if said["state"] == state and said["sections"] == list(sections):
            there = read_parts(folder)
            return [name for name in sections if name in said["waiting"] or name not in there]
    except (OSError, InputError, ValueError, KeyError, TypeError):
        pass
    return list(sections)


def read_parts(folder: Path) -> dict[str, ReportPart]:
    """The sections that lie in an analysis folder, in the order of the page; a damaged one is none."""
    found = {}
    for name in SECTIONS:
        try:
            data = read_bounded(_place(folder, name), LARGEST_PART, "delete it")
            part = ReportPart(**json.loads(data))
            if part.name == name and all(isinstance(one, str) for one in (part.title, part.state, part.html)):
                part.files(folder)
                found[name] = part
        except (OSError, InputError, ValueError, TypeError):
            continue
    return found


def write_part(folder: Path, part: ReportPart) -> None:
    """Put a section in the place of an earlier one of its name, of which no table or figure stays behind that
    is not its own, or another section's, now."""
    there = read_parts(folder)
    before = there.pop(part.name, None)
    write_atomically(_place(folder, part.name), json.dumps(asdict(part)).encode())
    if before:
        _delete(before.files(folder) - _files([part, *there.values()], folder))


def drop_parts(folder: Path, names: Iterable[str]) -> None:
    """Delete sections with all that is theirs."""
    there = read_parts(folder)
    dropped = [there.pop(name) for name in names]
    for part in dropped:
        _place(folder, part.name).unlink(missing_ok=True)
    _delete(_files(dropped, folder) - _files(there.values(), folder))


def report_files(folder: Path) -> list[Path]:
    """The files of the report that lies there: page, shared tables, and its sections' tables and figures;
    whatever else lies in the folder is not of it."""
    places = {folder / name for name in SHARED} | _files(read_parts(folder).values(), folder)
    return sorted(path for path in places if path.is_file())


def _place(folder: Path, name: str) -> Path:
    return folder / "parts" / f"{name}.json"


def _files(parts: Iterable[ReportPart], folder: Path) -> set[Path]:
    return {path for part in parts for path in part.files(folder)}


def _delete(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
