"""Whether a cohort and its images are still what they were when it was built."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cohort.annotations import Annotations
from cohort.errors import InputError
from cohort.manifest import Cohort
from cohort.threads import in_threads


def verify(folder: Path | str) -> list[str]:
    """What is wrong with a cohort, a line each: its manifest, its annotations, and every image file that was
    present and now is missing or another. All files are read."""
    try:
        cohort = Cohort.open(folder)
    except InputError as error:
        return [str(error)]
    complaints = []
    try:
        Annotations.open(cohort)
    except InputError as error:
        complaints.append(str(error))
    files, digests = cohort.files(), cohort.column("digest")

    def complaint(i: int) -> str:
        try:
            if hashlib.sha256(files.read(i)).hexdigest() == digests[i]:
                return ""
        except InputError as error:
            return str(error)
        return f"{files.root / files.names[i]}: not the file the cohort was built from; build it again"

    return complaints + [line for line in in_threads(complaint, len(files), "verifying images") if line]
