"""The manifest: one Parquet table a cohort, the contract that every later room reads.

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
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cohort.errors import InputError
from cohort.exclusive import check_exclusive
from cohort.files import refuse_foreign, replacing_file, replacing_folder
from cohort.html_table import html_table
from cohort.image_files import ImageFiles
from cohort.intensity import Intensity
from cohort.labels import MODALITIES, LabelPolicy, check_wording, did_you_mean
from cohort.parquet_files import read_parquet
from cohort.remote_files import fetch_folder, is_remote

TEST_ACCESS = "test_access.jsonl"
"""See `cohort.ledger`."""
MANIFEST = "cohort.parquet"
ANNOTATIONS = "annotations.parquet"
"""What people drew on the images, see `cohort.annotations`."""
FORMAT = 6
SPLITS = ("train", "val", "test")
KEEP = "keep."
LABEL = "label."
LONGEST_LICENCE = 200

# What reading a manifest's metadata raises where something else stands in it than was written.
_WRONG_METADATA = (KeyError, TypeError, ValueError, AttributeError, RecursionError)

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
class Cohort:
    """An opened cohort. Positions always count the rows of `present`, in manifest order."""

    folder: Path

    table: pa.Table
    """All rows, those with a missing file among them."""

    labels: tuple[str, ...]

    source: str
    """What it was built from, in words."""

    reader: str
    """Module of `cohort.readers` that read it; "" where none did."""

    drawn: bool
    """Whether the images were drawn in code, so that nothing learnt from them is about patients."""

    modality: str
    """What the images are: one of `MODALITIES`."""

    licence: str
    """Terms under which the images may be used, in a line; "" where nobody stated them."""

    exclusive: bool
    """Whether the labels are the classes of one question, such as a diagnosis: every row has exactly one of
    them, or is masked whole."""

    label_names: dict[str, str]
    """Label -> how it is said to people and to a text tower; labels that are said as they are written stay
    out."""

    label_prompts: dict[str, tuple[str, ...]]
    """Label -> sentences for a text tower instead of those of the modality; only where some were given."""

    policy: LabelPolicy

    images_root: Path
    """Folder or zip archive that `file` is relative to."""

    channels: int
    """1 where every image is gray, otherwise 3."""

    intensity: Intensity | None
    """Which values of 16-bit gray are black and white; None where no image has 16 bits."""

    flow: tuple[tuple[str, int], ...]
    """From rows read to images kept: what, and how many were left after it."""

    warnings: tuple[str, ...]

    contradictions: tuple[str, ...]
    """Ids of the images whose source states "No Finding" together with a finding."""

    uncertain: dict[str, int]
    """Label -> how many cells of the source were uncertain."""

    duplicates: tuple[tuple[str, str, float | None], ...]
    """Pairs of ids of images that are the same (None) or nearly so (their correlation), the former first; see
    `cohort.duplicates`."""

    content_hash: str
    """sha256 over all rows, labels, whether these are exclusive, the policy and the intensity; not over where
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
        except (OSError, pa.ArrowException, *_WRONG_METADATA) as error:
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
        """The cohort of a manifest that anybody may have written; InputError, or one of `_WRONG_METADATA`,
        for what `write_manifest` would not write."""
        labels = metadata["labels"]
        _check_columns(table, labels)
        columns = {name: table[name].to_pylist() for name in ("image", "patient", "split")}
        _check_rows(columns)
        targets_NC = _targets(table, labels)
        if not (np.isnan(targets_NC) | (targets_NC == 0) | (targets_NC == 1)).all():
            raise InputError("a label cell must be 1, 0 or masked")
        if metadata["channels"] not in (1, 3):
            raise InputError(f"channels must be 1 or 3, got {metadata['channels']!r}")
        prompts = {label: tuple(texts) for label, texts in metadata["label_prompts"].items()}
        check_facts(metadata["drawn"], metadata["modality"], metadata["licence"])
        check_wording(labels, metadata["label_names"], prompts)
        if metadata["exclusive"]:
            check_exclusive(targets_NC, labels, columns["image"])
        policy = LabelPolicy.from_dict(metadata["policy"])
        intensity = metadata["intensity"] and Intensity(**metadata["intensity"])
        if _content_hash(table, labels, metadata["exclusive"], policy, intensity) != metadata["content_hash"]:
            raise InputError("its rows, labels or rules are no longer those that it was written with")
        root = Path(metadata["images_root"])
        _check_words(metadata)
        _check_duplicates(metadata["duplicates"], table.filter(pc.field("present"))["image"].to_pylist())
        return cls(
            folder=folder,
            table=table.replace_schema_metadata(None),
            labels=tuple(metadata["labels"]),
            source=metadata["source"],
            reader=metadata["reader"],
            drawn=metadata["drawn"],
            modality=metadata["modality"],
            licence=metadata["licence"],
            exclusive=metadata["exclusive"],
            label_names=metadata["label_names"],
            label_prompts=prompts,
            policy=policy,
            images_root=root if root.is_absolute() else folder / root,
            channels=metadata["channels"],
            intensity=intensity,
            flow=tuple((what, count) for what, count in metadata["flow"]),
            warnings=tuple(metadata["warnings"]),
            contradictions=tuple(metadata["contradictions"]),
            uncertain=metadata["uncertain"],
            duplicates=tuple((first, second, alike) for first, second, alike in metadata["duplicates"]),
            content_hash=metadata["content_hash"],
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


@dataclass(frozen=True, kw_only=True)
class CohortFacts:
    """What a manifest says beside its rows: the fields of `Cohort` of the same names."""

    labels: Sequence[str]
    source: str
    policy: LabelPolicy
    reader: str = ""
    drawn: bool = False
    modality: str = "medical image"
    licence: str = ""
    exclusive: bool = False
    label_names: Mapping[str, str] = field(default_factory=dict)
    label_prompts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    channels: int = 1
    intensity: Intensity | None = None
    flow: Sequence[tuple[str, int]] = ()
    warnings: Sequence[str] = ()
    contradictions: Sequence[str] = ()
    uncertain: Mapping[str, int] = field(default_factory=dict)
    duplicates: Sequence[tuple[str, str, float | None]] = ()

    def __post_init__(self) -> None:
        check_facts(self.drawn, self.modality, self.licence)
        check_wording(self.labels, self.label_names, self.label_prompts)


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
        with suppress(OSError, pa.ArrowException, *_WRONG_METADATA):  # damaged, so that it lists nothing
            metadata = pq.read_schema(folder / MANIFEST).metadata or {}
            own |= set(json.loads(metadata.get(b"radtune", b"{}")).get("contents", ()))
    refuse_foreign(folder, own, "cohort")
    if images_root is not None and Path(images_root).resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{folder}: the images lie inside this output folder; choose another one")


def check_facts(drawn: bool, modality: str, licence: str) -> None:
    """InputError for what `Cohort` does not take for these fields."""
    if not isinstance(drawn, bool):
        raise InputError(f"drawn must be true or false, got {drawn!r}")
    if modality not in MODALITIES:
        raise InputError(f"modality must be one of {', '.join(MODALITIES)}, got {modality!r}")
    if not isinstance(licence, str) or not licence.isprintable() or len(licence) > LONGEST_LICENCE:
        raise InputError(
            f"licence must be one line of at most {LONGEST_LICENCE} characters, got {str(licence)[:40]!r}; "
            "give its name or an address"
        )


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

    Raises InputError for a duplicate image id, an unknown split, a patient on two sides, and exclusive
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
    if facts.exclusive:
        check_exclusive(targets_NC, labels, columns["image"])
    _check_rows(columns)

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
    metadata = {
        "format": FORMAT,
        "labels": list(labels),
        "source": facts.source,
        "reader": facts.reader,
        "drawn": facts.drawn,
        "modality": facts.modality,
        "licence": facts.licence,
        "exclusive": facts.exclusive,
        "label_names": dict(facts.label_names),
        "label_prompts": {label: list(texts) for label, texts in facts.label_prompts.items()},
        "policy": facts.policy.to_dict(),
        "images_root": root.relative_to(folder).as_posix() if root.is_relative_to(folder) else str(root),
        "channels": facts.channels,
        "intensity": facts.intensity and facts.intensity.to_dict(),
        "flow": [[what, int(count)] for what, count in facts.flow],
        "warnings": [*_one_sided(targets_NC, columns["split"], labels), *facts.warnings],
        "contradictions": list(facts.contradictions),
        "uncertain": {label: int(count) for label, count in facts.uncertain.items()},
        "duplicates": [list(pair) for pair in facts.duplicates],
        "contents": sorted(entry.name for entry in folder.iterdir() if entry.name != MANIFEST),
        "content_hash": _content_hash(table, labels, facts.exclusive, facts.policy, facts.intensity),
    }
    metadata["checksum"] = metadata_checksum(metadata)
    table = table.replace_schema_metadata({b"radtune": json.dumps(metadata).encode()})
    with replacing_file(folder / MANIFEST) as partial:
        pq.write_table(table, partial, compression="zstd", write_page_checksum=True)


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


def _check_words(metadata: Mapping[str, Any]) -> None:
    """InputError where what is shown to people is of another kind than is written."""

    def texts(words: Any) -> bool:
        return isinstance(words, list) and all(isinstance(word, str) for word in words)

    flow, uncertain = metadata["flow"], metadata["uncertain"]
    right = {
        "source": isinstance(metadata["source"], str),
        "reader": isinstance(metadata["reader"], str),
        "warnings": texts(metadata["warnings"]),
        "contradictions": texts(metadata["contradictions"]),
        "flow": all(isinstance(what, str) and isinstance(count, int) for what, count in flow),
        "uncertain": all(isinstance(count, int) for count in uncertain.values()),
    }
    if wrong := [name for name, is_right in right.items() if not is_right]:
        raise InputError(f"{wrong[0]} must be what this version writes, got another kind")


def _check_duplicates(pairs: Any, images: Sequence[str]) -> None:
    known = set(images)
    for first, second, alike in pairs:
        if not {first, second} <= known or not (alike is None or -1 <= alike <= 1):
            raise InputError(f"duplicates: {first!r} and {second!r} are no pair of its images")


def _check_rows(columns: Mapping[str, Sequence[Any]]) -> None:
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


def _targets(table: pa.Table, labels: Sequence[str]) -> np.ndarray:
    """float32 (N, C): 0, 1, or NaN where masked."""
    columns = [table[LABEL + label].cast(pa.float32()).to_numpy(zero_copy_only=False) for label in labels]
    return np.stack(columns, axis=1).astype(np.float32)


def _content_hash(
    table: pa.Table,
    labels: Sequence[str],
    exclusive: bool,
    policy: LabelPolicy,
    intensity: Intensity | None,
) -> str:
    levels = intensity and [intensity.low, intensity.high]
    what = [list(labels), exclusive, policy.to_dict(), levels]
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode())
    for name in table.column_names:
        digest.update(json.dumps([name, table[name].to_pylist()], default=str).encode())
    return digest.hexdigest()
