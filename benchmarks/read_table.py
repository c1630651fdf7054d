"""How long a table of many rows takes to read, without its images.

    python -m benchmarks.read_table

One row per image: a path that tells the patient, age and sex, fourteen label columns with 1, 0, -1 and
blanks, and the same findings as a list in a cell. Times are of the whole way from file to label cells.
"""

from __future__ import annotations

import argparse
import gzip
import random
import tempfile
import time
from pathlib import Path

from cohort.labels import CHEXPERT_14
from cohort.readers.label_column import merge_rows
from cohort.readers.patient_names import likely_expression, patients_of_names
from cohort.readers.source_table import MISSING, label_cells, source_and_notes, without_markers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name, seconds in measure(Path(folder), arguments.rows).items():
            print(f"{name:28} {seconds:6.1f} s")


def measure(folder: Path, rows: int) -> dict[str, float]:
    """Seconds of each step, and of all, for a table of so many rows that is written to the folder."""
    path = folder / "t.csv.gz"
    write_table(path, rows)
    steps = {}
    start = time.perf_counter()

    def done(name: str) -> None:
        nonlocal start
        steps[name], start = time.perf_counter() - start, time.perf_counter()

    frame, _ = source_and_notes(path, ("",))
    done("read cells")
    frame, _ = without_markers(frame, MISSING)
    done("find markers")
    raw_NC = label_cells(frame, CHEXPERT_14)
    done("label columns")
    merged = merge_rows(frame, ["Path"], "Labels", "|")
    done("a label column of lists")
    names = frame["Path"].tolist()
    patients = patients_of_names(names, likely_expression(names))
    done("patients in names")
    if (
        raw_NC.shape != (rows, len(CHEXPERT_14))
        or len(merged.frame) != rows
        or len(set(patients)) != -(-rows // 3)
    ):
        raise RuntimeError("the table did not come out as it was written")
    return steps | {"all": sum(steps.values())}


def write_table(path: Path, rows: int) -> None:
    rng = random.Random(0)
    with gzip.open(path, "wt", compresslevel=1) as file:
        file.write("Path,Sex,Age," + ",".join(CHEXPERT_14) + ",Labels\n")
        for n in range(rows):
            cells = rng.choices(["", "1.0", "0.0", "-1.0"], [70, 15, 10, 5], k=len(CHEXPERT_14))
            found = [label for label, cell in zip(CHEXPERT_14, cells, strict=True) if cell == "1.0"]
            name = f"train/patient{n // 3:05}/study1/view{n % 3 + 1}_frontal.jpg"
            file.write(f'{name},{"MF"[n % 2]},{n % 90},{",".join(cells)},"{found}"\n')


if __name__ == "__main__":
    main()
