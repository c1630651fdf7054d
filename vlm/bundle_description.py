"""bundle.json: what a bundle says of itself, and whether its files are those that it was written with.

It holds a sha256 of every other file, and one of itself (`digest`): damage and careless changes are found
before anything else of the bundle is read. Nothing is signed: whoever means to lie can write a bundle anew,
and only its digest, told by its maker, tells the two apart.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from cohort.errors import InputError
from scoring import multiclass_thresholds, thresholds
from vlm.feature_kinds import SINGLE
from vlm.json_files import read_object

FORMAT = 5
DESCRIPTION, HEAD, CARD, ENCODER = "bundle.json", "head.safetensors", "README.md", "encoder"

Words = Annotated[str, Field(max_length=4096, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""A line of text."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Strategy = Literal[tuple(dict.fromkeys((*thresholds.STRATEGIES, *multiclass_thresholds.STRATEGIES)))]  # type: ignore[valid-type]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ImageViewsPart(_Part):
    """`vlm.image_views.Views`, as a study may ask for them."""

    flip: bool
    shifts: int = Field(ge=0, le=16)
    resolution: int | None = Field(ge=16, le=2048)


class PolicyPart(_Part):
    """`cohort.labels.LabelPolicy`, which says what may stand here."""

    uncertain: Words | dict[Words, Words]
    blank: Words
    no_finding: Words


class EncoderPart(_Part):
    """Which encoder the heads were trained on."""

    name: Annotated[Words, Field(max_length=1024)]
    features: list[Literal[SINGLE]] = Field(min_length=1)  # type: ignore[valid-type]
    image_views: ImageViewsPart
    width: int = Field(ge=1)
    fingerprint: Sha256
    precision: Literal["fp32", "bf16", "fp16"]
    in_bundle: bool


class GeometryPart(_Part):
    size: int
    resize_mode: Words
    interpolation: Words
    fill: int
    channels: int | None


class IntensityPart(_Part):
    low: int
    high: int
    rule: Words


class TransformPart(_Part):
    """What becomes of an image; all but the intensity follows from the encoder and is said for readers."""

    intensity: IntensityPart | None
    geometry: GeometryPart
    mean: list[Finite] = Field(min_length=3, max_length=3)
    std: list[Finite] = Field(min_length=3, max_length=3)


class ScalePart(_Part):
    centre: Finite
    width: Annotated[Finite, Field(gt=0)]


class DecisionsPart(_Part):
    """The decision rule, but for its thresholds, which lie beside the heads."""

    strategy: Strategy
    shared: list[Words]
    scale: ScalePart
    multiclass: bool
    ranks_only: bool


class TrainingPart(_Part):
    """What the heads were trained on."""

    cohort_hash: Words
    modality: Words
    drawn: bool
    prevalences: dict[Words, Annotated[float, Field(ge=0, le=1)]]


class OriginPart(_Part):
    note: Words
    study: Words
    trainable: Words
    trial: int | None
    preset: Words
    params: dict[str, Any]
    objective: float
    """NaN where there is none."""


class Description(_Part):
    """All of bundle.json."""

    format: Literal[FORMAT]  # type: ignore[valid-type]
    radtune: Words
    labels: list[Annotated[Words, Field(min_length=1)]] = Field(min_length=1)
    policy: PolicyPart
    encoder: EncoderPart
    transform: TransformPart
    normalisation: list[Words]
    decisions: DecisionsPart
    training: TrainingPart
    name: Words
    origin: OriginPart
    files: dict[Annotated[str, Field(pattern=rf"^({ENCODER}/)?[A-Za-z0-9][A-Za-z0-9._-]{{0,99}}$")], Sha256]
    """Path in the bundle -> sha256, of every file but this one."""
    digest: Sha256
    """Of all the rest of this file, see `digest_of`."""

    @field_validator("labels")
    @classmethod
    def _different(cls, labels: list[str]) -> list[str]:
        if twice := [label for label, count in Counter(labels).items() if count > 1]:
            raise ValueError(f"must be different names, and {twice[0][:80]!r} stands there twice")
        return labels

    @model_validator(mode="after")
    def _about_the_labels(self) -> Description:
        for part, names in (
            ("decisions.shared", self.decisions.shared),
            ("training.prevalences", self.training.prevalences),
        ):
            if other := set(names) - set(self.labels):
                raise ValueError(f"{part}: {min(other)[:80]!r} is not among the labels")
        return self

    @property
    def shared_C(self) -> np.ndarray:
        """bool: the labels that hold the global threshold."""
        return np.array([label in set(self.decisions.shared) for label in self.labels])


def digest_of(description: Mapping[str, Any]) -> str:
    """sha256 over the keys and values of bundle.json but `digest`."""
    rest = {key: value for key, value in description.items() if key != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def write_description(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write bundle.json into a folder that holds all other files of the bundle.

    Args:
        facts: of `Description` all but `format`, `files` and `digest`.

    Raises:
        InputError: a fact that no bundle may state, such as an empty label.
    """
    files = {name: sha256_of(folder / name) for name in files_in(folder)}
    description = {"format": FORMAT, **facts, "files": files}
    # As JSON has it, with lists for tuples.
    description = json.loads(json.dumps(description | {"digest": digest_of(description)}))
    _valid(folder / DESCRIPTION, description)
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def read_description(folder: Path) -> Description:
    """bundle.json, after it was held against its digest and every rule of its parts.

    Raises InputError, in one line, where there is none, and where it is damaged, changed, or says what no
    bundle may.
    """
    path = folder / DESCRIPTION
    if not os.path.isfile(path):
        raise InputError(f"{folder}: no bundle there ({DESCRIPTION} is missing); `radtune export` writes one")
    try:
        description = read_object(path)
        digest = digest_of(description)
    except (ValueError, OSError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: damaged ({reason}); export the bundle again") from error
    if (found := description.get("format")) != FORMAT:
        raise InputError(
            f"{path}: format must be {FORMAT}, got {str(found)[:80]}; export it with this version of radtune"
        )
    described = _valid(path, description)
    if described.digest != digest:
        raise InputError(
            f"{path}: was changed since it was written (its digest is {digest[:12]}... and not "
            f"{described.digest[:12]}...); export the bundle again"
        )
    return described


def _valid(path: Path, description: Mapping[str, Any]) -> Description:
    try:
        return Description.model_validate(description)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part)[:80] for part in first["loc"])
        rule = " ".join(first["msg"].removeprefix("Value error, ").split())
        raise InputError(
            f"{path}: damaged ({place}{': ' if place else ''}{rule}); export the bundle again"
        ) from None


def files_in(folder: Path) -> list[str]:
    """Paths of the files of a bundle's folder but bundle.json, sorted; links and what is neither file nor
    folder among them."""
    found = (
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_symlink() or not path.is_dir()
    )
    return sorted(name for name in found if name != DESCRIPTION)


def sha256_of(path: Path) -> str:
    """Of a file's bytes; OSError where it cannot be read."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def differences(folder: Path, described: Mapping[str, str], names: Collection[str]) -> list[str]:
    """What of these files is not as described, in words, one entry per file.

    Args:
        described: `Description.files`.
        names: paths in the bundle: those that there should be, or are.
    """
    found = []
    for name in sorted(names):
        path = folder / name
        if name not in described:
            found.append(f"{name[:200]} is not of the bundle")
        elif path.is_symlink():
            found.append(f"{name} is a link")
        elif not path.is_file():
            found.append(f"{name} is missing")
        elif sha256_of(path) != described[name]:
            found.append(f"{name} was changed")
    return found
