"""Every reading of a cohort's test labels, by whom and for what: a test split that was read before is no
longer unseen.

The record lies beside the cohort as `test_access.jsonl`; where that folder cannot be written to, in the
cache, under the hash of the cohort's content. A line is on the disk before a label is read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from cohort.manifest import TEST_ACCESS, Cohort


@dataclass(frozen=True)
class Access:
    """One reading of the test labels."""

    when: str
    """UTC, ISO 8601."""
    why: str
    """`analyze sample-probe` say."""
    cohort_hash: str
    """Of the cohort's content: another split is another test split."""
    predictions_hash: str = ""
    """Of the table that was judged; empty where none was."""


@dataclass(frozen=True)
class Ledger:
    """The record of one cohort.

    Args:
        cohort: whose test labels are read.
        cache: a folder for the record where the cohort's cannot be written to.
    """

    cohort: Cohort
    cache: Path

    def note(self, why: str, predictions_hash: str = "") -> None:
        """Add a line, and have it on the disk before anything is read.

        Raises:
            OSError: neither place can be written to.
        """
        when = datetime.now(UTC).isoformat(timespec="seconds")
        access = Access(when, why, self.cohort.content_hash, predictions_hash)
        try:
            append_line(self._places[0], asdict(access))
        except OSError:
            append_line(self._places[1], asdict(access))

    def before(self) -> list[Access]:
        """All that is known of this very content, by time; a line that a crash cut off is none."""
        found = []
        for path in self._places:
            for line in path.read_text(errors="replace").splitlines() if path.is_file() else ():
                try:
                    access = Access(**json.loads(line))
                except (ValueError, TypeError):
                    continue
                if access.cohort_hash == self.cohort.content_hash:
                    found.append(access)
        return sorted(found, key=lambda access: access.when)

    @property
    def _places(self) -> tuple[Path, Path]:
        name = f"{self.cohort.content_hash}.jsonl"
        return self.cohort.folder / TEST_ACCESS, self.cache / "test_access" / name


def described(accesses: Sequence[Access]) -> str:
    """`analyze sample-probe (3 times), compare encoders`: what the split was read for."""
    counts: dict[str, int] = {}
    for access in accesses:
        counts[access.why] = counts.get(access.why, 0) + 1
    return ", ".join(why if count == 1 else f"{why} ({count} times)" for why, count in counts.items())


def note_access(record: Path, why: str) -> None:
    """Add a line to a study's own record of test access."""
    append_line(record, {"when": datetime.now(UTC).isoformat(timespec="seconds"), "why": why})


def append_line(path: Path, event: dict[str, str]) -> None:
    """Append a JSON line to a file, flushed to the disk; a line that a crash cut off is closed first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as file:
        cut_off = path.stat().st_size and not path.read_bytes().endswith(b"\n")
        file.write((("\n" if cut_off else "") + json.dumps(event) + "\n").encode())
        file.flush()
        os.fsync(file.fileno())
