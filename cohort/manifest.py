"""The manifest: one Parquet table per cohort, the contract that every later room reads.

A cohort folder holds `cohort.parquet` and, where the images were drawn for it, the images. Columns:

| column | type | |
|---|---|---|
| `image` | string | unique id |
| `file` | string | path below the images' root, or member of the zip archive |
| `digest` | string | sha256 of the file's bytes, "" where the file is missing |
| `present` | bool | whether the file was there, and decoded, when the cohort was built |
| `patient`, `study`, `view` | string | |
| `split` | string | `train`, `val` or `test`; a patient lies in one of them only; a cohort may lack some |
| `keep.<name>` | any | columns kept from the source: sex, age, report, ... |
| `label.<name>` | int8 | 1, 0, or null where masked |

The schema's metadata hold a JSON object under `radtune`: see `Cohort`.

Shape legend: N images, C labels.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cohort.errors import InputError
from cohort.facts import CohortFacts
from cohort.html_table import html_table
from cohort.image_files import ImageFiles
from cohort.labels import did_you_mean
from cohort.multiclass import check_multiclass
from cohort.parquet_files import read_parquet
from cohort.remote_files import fetch_folder, is_remote

TEST_ACCESS = "test_access.jsonl"
"""See `cohort.ledger`."""
MANIFEST = "cohort.parquet"
ANNOTATIONS = "annotations.parquet"
"""What people drew on the images, see `cohort.annotations`."""
FORMAT = 7
SPLITS = ("train", "val", "test")
KEEP = "keep."
LABEL = "label."

# What reading a manifest's metadata raises where something else stands in it than was written.
WRONG_METADATA = (KeyError, TypeError, ValueError, AttributeError, RecursionError)

COLUMNS = {
    "image": pa.string(),
    "file": pa.string(),
    "digest": pa.string(),
    "present": pa.bool_(),
    "patient": pa.string(),
    "study": pa.string(),
    "view": pa.string(),
    "split": pa.string(),
}


@dataclass(frozen=True, kw_only=True)
class Cohort(CohortFacts):
    """An opened cohort. Positions always count the rows of `present`, in manifest order."""

    folder: Path

    table: pa.Table
    """All rows, those with a missing file among them."""

    images_root: Path
    """Folder or zip archive that `file` is relative to."""

    content_hash: str
    """sha256 over all rows, labels, whether they are classes or grades, policy and intensity; not over where
    the images lie, nor over words about them."""

    @classmethod
    def open(cls, folder: Path | str) -> Cohort:
        """Open a cohort folder, or a copy of the one at a URI; InputError where there is none or its schema
        is another."""
        remote = is_remote(folder)
        folder = fetch_folder(str(folder), f"fetching {folder}") if remote else Path(folder)
        path = folder / MANIFEST
        if not path.is_file():
            raise InputError(
                f"{folder}: no cohort there ({MANIFEST} is missing); build one with `radtune cohort ...`"
            )
        try:
            table = read_parquet(path)
            metadata = json.loads((table.schema.metadata or {}).get(b"radtune", b"{}"))
            if metadata.get("format") != FORMAT:
                raise InputError(f"format must be {FORMAT}, got {metadata.get('format')}")
            cohort = cls._read(folder, table, metadata)
            # Last, for what else is wrong is said in better words.
            if metadata["checksum"] != metadata_checksum(metadata):
                raise InputError("its metadata are no longer those that it was written with")
        except InputError as error:
            raise InputError(f"{path}: {error}; build the cohort again") from error
        except (OSError, pa.ArrowException, *WRONG_METADATA) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise InputError(f"{path}: damaged ({reason}); build the cohort again") from error
        if remote and not cohort.images_root.is_relative_to(folder):
            raise InputError(
                f"{path}: its images lie in {cohort.images_root}, on the machine that built it; a cohort at "
                "a URI holds its images in its own folder"
            )
        return cohort

    @classmethod
    def _read(cls, folder: Path, table: pa.Table, metadata: Mapping[str, Any]) -> Cohort:
        """The cohort of a manifest that anybody may have written; InputError, or one of `WRONG_METADATA`,
        for what `write_manifest` would not write."""
        labels = metadata["labels"]
        _check_columns(table, labels)
        columns = {name: table[name].to_pylist() for name in ("image", "patient", "split")}
        check_rows(columns)
        targets_NC = _targets(table, labels)
        if not (np.isnan(targets_NC) | (targets_NC == 0) | (targets_NC == 1)).all():
            raise InputError("a label cell must be 1, 0 or masked")
        facts = CohortFacts.from_dict(metadata)
        if facts.multiclass:
            check_multiclass(targets_NC, labels, columns["image"])
        if content_hash(table, facts) != metadata["content_hash"]:
            raise InputError("its rows, labels or rules are no longer those that it was written with")
        _check_duplicates(facts.duplicates, table.filter(pc.field("present"))["image"].to_pylist())
        root = Path(metadata["images_root"])
        return cls(
            folder=folder,
            table=table.replace_schema_metadata(None),
            images_root=root if root.is_absolute() else folder / root,
            content_hash=metadata["content_hash"],
            **vars(facts),
        )

    def __repr__(self) -> str:
        patients = len(set(self.table["patient"].to_pylist()))
        return (
            f"Cohort({self.folder}: {self.table.num_rows} images, {self.present.num_rows} of them there, "
            f"{patients} patients, {len(self.labels)} labels, {self.modality})"
        )

    def _repr_html_(self) -> str:
        targets_NC = _targets(self.table, self.labels)
        split_N = np.asarray(self.table["split"].to_pylist(), dtype=object)
        positives = {split: (targets_NC[split_N == split] == 1).sum(axis=0) for split in self.splits}
        rows = [
            (label, *(counts_C[c] for counts_C in positives.values())) for c, label in enumerate(self.labels)
        ]
        return html_table(repr(self), [("positive images", *positives), *rows])

    @cached_property
    def present(self) -> pa.Table:
        """The rows whose image file is there, in manifest order: what all positions refer to."""
        return self.table.filter(pc.field("present"))

    @cached_property
    def splits(self) -> tuple[str, ...]:
        """Those of `SPLITS` that any row lies in."""
        there = set(self.table["split"].to_pylist())
        return tuple(split for split in SPLITS if split in there)

    def indices(self, split: str) -> np.ndarray:
        """int64 positions of a split's images, ascending; InputError where there are none."""
        if split not in SPLITS:
            raise InputError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        if split not in self.splits:
            raise InputError(
                f"{self.folder}: this cohort has no split {split!r}, only {', '.join(self.splits)}; build it "
                "with one, or choose a cohort that has one"
            )
        positions = np.flatnonzero(np.asarray(self.present["split"].to_pylist(), dtype=object) == split)
        if len(positions) == 0:
            rows = pc.sum(pc.equal(self.table["split"], split)).as_py()
            raise InputError(
                f"{self.folder}: none of the {rows} images of the split {split!r} is present; "
                "put the images in place and build the cohort again"
            )
        return positions.astype(np.int64)

    def targets_NC(self, indices: np.ndarray | None = None) -> np.ndarray:
        """float32 (N, C): 0, 1, or NaN where masked."""
        targets_NC = _targets(self.present, self.labels)
        return targets_NC if indices is None else targets_NC[indices]

    def patients_N(self, indices: np.ndarray | None = None) -> np.ndarray:
        """int64 (N,): a code for each patient, the same whatever rows are asked for."""
        codes_N = np.unique(self.column("patient"), return_inverse=True)[1].astype(np.int64)
        return codes_N if indices is None else codes_N[indices]

    def images(self, indices: np.ndarray | None = None) -> list[str]:
        """Image ids."""
        images = self.column("image")
        return images if indices is None else [images[i] for i in indices]

    def label_name(self, label: str) -> str:
        """How a label is said to people: as it is written, where nobody gave another name."""
        return self.label_names.get(label, label)

    def files(self) -> ImageFiles:
        """The image files, aligned with `present`."""
        return ImageFiles(self.images_root, self.column("file"), self.intensity)

    def column(self, name: str) -> list[Any]:
        """Any column of `present` as Python values, such as "view" or "keep.sex"."""
        if name not in self.present.column_names:
            raise InputError(
                f"{self.folder}: no column {name!r}; {did_you_mean(name, self.present.column_names)}"
            )
        return self.present[name].to_pylist()


def metadata_checksum(metadata: Mapping[str, Any]) -> str:
    """sha256 of a manifest's metadata but this checksum itself. With the content hash, which is over the
    rows, it tells of every byte that means anything whether it is the one that was written."""
    signed = {key: value for key, value in metadata.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(signed, sort_keys=True).encode()).hexdigest()


def _check_columns(table: pa.Table, labels: Sequence[str]) -> None:
    if not labels or len(set(labels)) < len(labels) or not all(isinstance(label, str) for label in labels):
        raise InputError(f"labels must be different names, one at least, got {labels!r}")
    types = dict(zip(table.column_names, table.schema.types, strict=True))
    for name, column_type in [*COLUMNS.items(), *((LABEL + label, pa.int8()) for label in labels)]:
        if types.get(name) != column_type:
            raise InputError(f"column {name!r} of type {column_type} is missing")
        if name in COLUMNS and table[name].null_count:
            raise InputError(f"column {name!r} has {table[name].null_count} empty cells")


def _check_duplicates(pairs: Any, images: Sequence[str]) -> None:
    known = set(images)
    for first, second, alike in pairs:
        if not {first, second} <= known or not (alike is None or -1 <= alike <= 1):
            raise InputError(f"duplicates: {first!r} and {second!r} are no pair of its images")


def check_rows(columns: Mapping[str, Sequence[Any]]) -> None:
    """InputError for no row, a duplicate image id, an unknown split, and a patient on two sides."""
    images, patients, splits = columns["image"], columns["patient"], columns["split"]
    image, count = Counter(images).most_common(1)[0] if len(images) else ("", 0)
    if count == 0:
        raise InputError("a cohort must have at least one image, and no row is left")
    if count > 1:
        raise InputError(f"image id {image!r} stands in {count} rows; an image id must be unique")
    for split in set(splits):
        if split not in SPLITS:
            raise InputError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    first: dict[Any, str] = {}
    for image, patient, split in zip(images, patients, splits, strict=True):
        if first.setdefault(patient, split) != split:
            raise InputError(
                f"patient {patient!r} lies in {first[patient]!r} and in {split!r} (image {image!r}); "
                "a patient must be on one side only"
            )


def _targets(table: pa.Table, labels: Sequence[str]) -> np.ndarray:
    """float32 (N, C): 0, 1, or NaN where masked."""
    columns = [table[LABEL + label].cast(pa.float32()).to_numpy(zero_copy_only=False) for label in labels]
    return np.stack(columns, axis=1).astype(np.float32)


def content_hash(table: pa.Table, facts: CohortFacts) -> str:
    """sha256 over what `Cohort.content_hash` says."""
    levels = facts.intensity and [facts.intensity.low, facts.intensity.high]
    if levels and facts.intensity.voi:
        levels.append(facts.intensity.voi)
    what = [list(facts.labels), facts.multiclass, facts.ordinal, facts.policy.to_dict(), levels]
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode())
    for name in table.column_names:
        digest.update(json.dumps([name, table[name].to_pylist()], default=str).encode())
    return digest.hexdigest()
