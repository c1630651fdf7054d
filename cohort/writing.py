"""Write a cohort: its manifest, in a folder that holds nothing of anybody else's.

Shape legend: N images, C labels.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cohort.errors import InputError
from cohort.facts import CohortFacts
from cohort.files import refuse_foreign, replacing_file, replacing_folder
from cohort.manifest import (
    ANNOTATIONS,
    COLUMNS,
    FORMAT,
    KEEP,
    LABEL,
    MANIFEST,
    SPLITS,
    TEST_ACCESS,
    WRONG_METADATA,
    Cohort,
    check_rows,
    content_hash,
    metadata_checksum,
)
from cohort.multiclass import check_multiclass


def write_cohort(
    folder: Path | str,
    columns: Mapping[str, Sequence[Any]],
    targets_NC: np.ndarray,
    *,
    images_root: Path | str,
    **facts: Any,
) -> Cohort:
    """Write a cohort whose images lie elsewhere, and open it; an existing cohort in `folder` is replaced.

    `facts` are those of `CohortFacts`, errors those of `write_manifest` and `check_output_folder`.
    """
    known = CohortFacts(**facts)
    with replacing_folder(folder, lambda folder: check_output_folder(folder, images_root)) as staging:
        write_manifest(staging, columns, targets_NC, known, images_root=images_root)
        keep_test_access(folder, staging)
    return Cohort.open(folder)


def keep_test_access(folder: Path | str, staging: Path) -> None:
    """A cohort that is built anew in the place of another keeps the record of test access: the same patients
    may be in its test split."""
    before = Path(folder) / TEST_ACCESS
    if before.is_file() and not before.is_symlink():
        shutil.copyfile(before, staging / TEST_ACCESS)


def check_output_folder(folder: Path | str, images_root: Path | str | None = None) -> None:
    """InputError where writing a cohort to `folder` would destroy something: files that no cohort put
    there, or the images that the new cohort is to be made of.
    """
    folder = Path(folder)
    if not folder.exists():
        return
    own = set()
    if (folder / MANIFEST).exists():
        own = {MANIFEST, ANNOTATIONS, TEST_ACCESS}
        with suppress(OSError, pa.ArrowException, *WRONG_METADATA):  # damaged, so that it lists nothing
            metadata = pq.read_schema(folder / MANIFEST).metadata or {}
            own |= set(json.loads(metadata.get(b"radtune", b"{}")).get("contents", ()))
    refuse_foreign(folder, own, "cohort")
    if images_root is not None and Path(images_root).resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{folder}: the images lie inside this output folder; choose another one")


def write_manifest(
    folder: Path,
    columns: Mapping[str, Sequence[Any]],
    targets_NC: np.ndarray,
    facts: CohortFacts,
    *,
    images_root: Path | str,
) -> None:
    """Write `cohort.parquet` into a folder, usually a staging one of `cohort.files.replacing_folder`.

    `columns` holds the columns named in this module's table except the labels: all of `COLUMNS`, and any
    `keep.<name>`. `targets_NC` is (N, C) with 1, 0 and NaN for masked. `images_root` inside `folder` is
    recorded relative to it, so that the folder can be moved. Labels without a positive or a negative in one
    of the cohort's splits are the first warnings.

    Raises InputError for a duplicate image id, an unknown split, a patient on two sides, and multiclass
    labels of which a row has two or none.
    """
    labels = facts.labels
    missing = [name for name in COLUMNS if name not in columns]
    unknown = [name for name in columns if name not in COLUMNS and not name.startswith(KEEP)]
    if missing or unknown:
        raise ValueError(f"columns must be {list(COLUMNS)} and {KEEP}*; missing {missing}, unknown {unknown}")
    targets_NC = np.asarray(targets_NC, dtype=np.float32)
    if targets_NC.shape != (len(columns["image"]), len(labels)):
        raise ValueError(f"targets_NC must be {(len(columns['image']), len(labels))}, got {targets_NC.shape}")
    if not (np.isnan(targets_NC) | (targets_NC == 0) | (targets_NC == 1)).all():
        raise ValueError("targets_NC must hold 0, 1 and NaN only")
    if facts.multiclass:
        check_multiclass(targets_NC, labels, columns["image"])
    check_rows(columns)

    arrays = {name: pa.array(columns[name], column_type) for name, column_type in COLUMNS.items()}
    arrays |= {
        name: pa.array(values, from_pandas=True) for name, values in columns.items() if name.startswith(KEEP)
    }
    for c, label in enumerate(labels):
        masked_N = np.isnan(targets_NC[:, c])
        arrays[LABEL + label] = pa.array(
            np.where(masked_N, 0, targets_NC[:, c]).astype(np.int8), mask=masked_N
        )
    table = pa.table(arrays)

    folder = Path(folder).absolute()
    root = Path(images_root).absolute()
    metadata = facts.to_dict() | {
        "format": FORMAT,
        "images_root": root.relative_to(folder).as_posix() if root.is_relative_to(folder) else str(root),
        "warnings": [*_one_sided(targets_NC, columns["split"], labels), *facts.warnings],
        "contents": sorted(entry.name for entry in folder.iterdir() if entry.name != MANIFEST),
        "content_hash": content_hash(table, facts),
    }
    metadata["checksum"] = metadata_checksum(metadata)
    table = table.replace_schema_metadata({b"radtune": json.dumps(metadata).encode()})
    with replacing_file(folder / MANIFEST) as partial:
        pq.write_table(table, partial, compression="zstd", write_page_checksum=True)


def _one_sided(targets_NC: np.ndarray, splits: Sequence[str], labels: Sequence[str]) -> list[str]:
    """Warnings for labels that a split cannot score: no positive, or no negative, among its unmasked
    cells; none for a split that is not there."""
    warnings = []
    splits_N = np.asarray(splits, dtype=object)
    for split in SPLITS:
        side_NC = targets_NC[splits_N == split]
        if not len(side_NC):
            continue
        for value, word in ((1, "positive"), (0, "negative")):
            without = [label for c, label in enumerate(labels) if not (side_NC[:, c] == value).any()]
            if without:
                warnings.append(f"no {word} in {split}: {', '.join(without)}")
    return warnings
