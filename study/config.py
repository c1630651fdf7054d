"""The study file: frozen models, validated before anything starts, unknown keys refused."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from analysis.sections import SECTIONS
from cohort.errors import InputError
from cohort.file_names import file_name
from cohort.remote_files import inside, is_remote
from scoring.objectives import OBJECTIVES
from scoring.operating_points import OperatingPoint
from search_spaces import SPACES
from study.credentials import holds_password
from study.sqlite_uri import sqlite_file, with_file
from trainables.fine_tune_config import Training
from vlm.encoder_names import resolved_name, split_path
from vlm.feature_kinds import KINDS, SINGLE

Trainable = Literal[SPACES]  # type: ignore[valid-type]
"""Each is a space in `search_spaces/`, a trial in `trainables/` and its study in `study/`, named alike."""
Kind = Literal[KINDS]  # type: ignore[valid-type]


def _folder_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name) or file_name(name) != name:
        raise ValueError(
            "must be at most 100 letters, digits, dots, underscores and hyphens, a letter or digit first and "
            "no dot last, and no name that Windows reserves; storage says in which folder the study's own is "
            "made"
        )
    return name


Name = Annotated[str, AfterValidator(_folder_name)]
"""It becomes a folder."""


LONGEST_PATH = 1000
LONGEST_PART = 255
"""Bytes of a file's or folder's name, on every usual file system."""
MOST = 2**31 - 1
"""No count of a study is larger: it would overflow somewhere, hours later."""
LARGEST_SEED = 2**32 - 1


def _path(text: str) -> str:
    if not text.isprintable() or len(text) > LONGEST_PATH:
        raise ValueError(f"must be at most {LONGEST_PATH} printable characters")
    if any(len(os.fsencode(part)) > LONGEST_PART for part in text.split("/")):
        raise ValueError(f"must have no part of more than {LONGEST_PART} bytes between two /")
    return text


PathText = Annotated[str, AfterValidator(_path)]
"""Of a file, a folder, or a name that may hold one."""


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SearchSettings(_Settings):
    """Which configurations are tried."""

    space: Trainable | None = None
    """Search space, named as its file in `search_spaces/`; None: that of the trainable."""
    configurations: int = Field(256, ge=1, le=MOST)
    """How many configurations the study holds when it is finished, pruned and failed ones included."""
    time_budget: float | None = Field(None, gt=0)
    """Seconds from the start of the command after which training ends; what it cuts off goes on, and more is
    tried, with --resume."""
    seed: int = Field(0, ge=0, le=LARGEST_SEED)
    """Seeds the sampler, the heads' initial weights and the order of the minibatches."""
    objective: Literal[tuple(OBJECTIVES)] = "macro_ap"  # type: ignore[valid-type]
    """Validation metric to maximise, over labels with enough positive patients."""
    selection: Literal["cross_validation", "split"] = "cross_validation"
    """By what configurations are chosen: out-of-fold scores of all training and validation patients, or the
    given validation split. Fine-tuning knows split alone, its default."""
    batch_size: int = Field(256, ge=1, le=MOST)
    """Minibatch size of all linear probes: heads of different sizes cannot share a matrix product."""
    fixed: dict[str, Any] = Field(default_factory=dict)
    """Parameters held at a value instead of being searched."""
    warm_start: PathText | None = None
    """Run folder of an earlier study of the same trainable, whose best configurations are trained again here
    before any other is tried."""
    ranges: dict[str, Any] = Field(default_factory=dict)
    """Ranges that replace the space's own: {low, high, log} or a list of choices."""


@dataclass(frozen=True, kw_only=True)
class TrainingBlock(Training):
    """`fine_tune.training`: how every fine-tuning trial of a study is trained."""

    __pydantic_config__ = ConfigDict(extra="forbid")


class FineTuneSettings(_Settings):
    """What every fine-tuning trial of a study shares."""

    training: TrainingBlock = TrainingBlock()
    micro_batch: int | None = Field(None, ge=1, le=MOST)
    """Images on the device at once to begin with; halved where the memory is full. None: all of a step."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    compile: bool = False
    """Hand the tower to torch.compile."""
    early_stopping: Literal["asha", "median", "none"] = "asha"
    """Which trials are stopped early: asynchronous halving, those below the median, or none."""
    grace_epochs: int = Field(2, ge=1, le=MOST)
    """Epochs before a trial may be stopped."""
    trials_per_gpu: int = Field(1, ge=1, le=MOST)
    """Trials that share one GPU; each may take its share of the memory and no more."""
    keep: int = Field(3, ge=1, le=MOST)
    """How many of the best trials keep their weights; the rest are deleted while the study runs."""


class ImageViewSettings(_Settings):
    """Further views of each image, on which linear probes are trained too and over which they
    are averaged."""

    flip: bool = False
    """Mirrored left to right: not where sides matter, as in radiographs."""
    shifts: int = Field(0, ge=0, le=16)
    """How many times moved and scaled a little."""
    resolution: int | None = Field(None, ge=16, le=2048)
    """Side in pixels of one more view; for encoders that take any size."""


class Resources(_Settings):
    """What the whole study may use; None means all there is."""

    cpus: int | None = Field(None, ge=1, le=MOST)
    gpus: float | None = Field(None, ge=0, le=MOST)


class Tracking(_Settings):
    """Where MLflow records the study."""

    uri: PathText = "sqlite:///mlflow.db"
    """MLflow tracking URI; a relative SQLite path is taken from the folder the study is started in."""

    @field_validator("uri")
    @classmethod
    def _a_store_that_mlflow_accepts(cls, uri: str) -> str:
        if not uri.startswith(("sqlite:", "sqlite+", "http:", "https:", "postgresql", "mysql", "mssql")):
            raise ValueError("must be a database or server URI such as sqlite:///mlflow.db")
        sqlite_file(uri)
        if holds_password(uri):
            raise ValueError(
                "must hold no password, which would stand in study.yaml: it is taken from the environment "
                "(MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD of a server, PGPASSWORD or ~/.pgpass "
                "of PostgreSQL)"
            )
        return uri


class AnalysisSettings(_Settings):
    """What `radtune analyze` does with the finished study."""

    top: int = Field(3, ge=1, le=MOST)
    """How many of the best configurations on validation are scored on test."""
    bootstrap: int = Field(10_000, ge=100, le=MOST)
    """Patient-level resamples behind each interval."""
    permutations: int = Field(10_000, ge=100, le=1_000_000)
    """Draws of each paired test; raised where the correction for many labels and opponents would leave no
    p-value below 0.05 possible."""
    images: Literal["shown", "none"] = "shown"
    """Whether the report shows images of the cohort: `none` where its licence does not let them be passed
    on."""
    looked_at: list[str] = Field(default_factory=list)
    """Ids of images whose maps the report shows beside those that it chooses itself."""
    compare_with: PathText | None = None
    """Run folder of another finished study on the same cohort, a linear probe beside a fine-tuning say,
    whose best configuration stands in the same tables."""
    operating_points: list[str] = Field(default_factory=list)
    """Wanted on validation, `sensitivity 0.95` or `specificity 0.9`, each with a table of what the threshold
    found there gives on test."""
    sections: list[Literal[SECTIONS]] | None = Field(None, min_length=1)  # type: ignore[valid-type]
    """What the report is made of; files of `analysis/sections/`, in the order of the page. None: all that are
    usual for its labels when it is written."""

    @field_validator("operating_points")
    @classmethod
    def _each_a_measure_and_a_number(cls, points: list[str]) -> list[str]:
        return [str(OperatingPoint.parse(point)) for point in points]


class StudyConfig(_Settings):
    """One study. `cohort` and `encoder` are required, everything else has a default."""

    name: Name
    """Names the run folder and the MLflow experiment's parent run."""
    cohort: PathText
    """A cohort folder, as `radtune cohort ...` writes it; or a URI of a copy of it, images included."""
    encoder: PathText
    """An encoder's name: phantom-clip, pixels, biomedclip, hf-hub:..., local-dir:..., MODEL/PRETRAINED,
    timm:NAME or timm:NAME@FILE."""
    features: Kind | Annotated[list[Kind], Field(min_length=1)] | None = None
    """What of the encoder a head sees; of several kinds the search chooses. None: projected and deep for a
    linear probe, as far as the encoder has them; projected for fine-tuning, pooled without a projection."""
    image_views: ImageViewSettings = ImageViewSettings()
    """Of each image, beside the image itself; none by default."""
    trainable: Trainable = "linear_probe"
    """What a trial trains: a linear head on frozen features, or the image tower with its head."""
    search: SearchSettings = SearchSettings()
    resources: Resources = Resources()
    storage: PathText = "runs"
    """Folder on the driver's disk; the study's own folder is <storage>/<name>."""
    cache: PathText = "cache"
    """Folder of the embeddings and decoded images, shared by studies; or a URI such as s3://bucket/cache."""
    checkpoints: PathText | None = None
    """Folder that every node sees, or a URI such as s3://bucket/checkpoints: holds <name>, with the weights
    of fine-tuning trials and a copy of the study after every bank. None: weights lie in the study's own
    folder, of which there is no copy."""
    tracking: Tracking = Tracking()
    analysis: AnalysisSettings = AnalysisSettings()
    fine_tune: FineTuneSettings | None = None
    """For `trainable: fine_tune`, and always there then; None otherwise."""

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_its_trainable(cls, raw: Any) -> Any:
        if not isinstance(raw, dict) or raw.get("trainable") != "fine_tune":
            return raw
        search = raw.get("search") or {}
        if isinstance(search, dict):
            raw = raw | {"search": {"selection": "split"} | search}
        return raw if raw.get("fine_tune") else raw | {"fine_tune": {}}

    @field_validator("storage")
    @classmethod
    def _on_this_machine(cls, storage: str) -> str:
        if is_remote(storage):
            raise ValueError("must be a folder on the driver's disk; checkpoints may be a URI")
        return storage

    @model_validator(mode="after")
    def _one_trainable(self) -> StudyConfig:
        if self.search.space not in (None, self.trainable):
            raise ValueError(f"search.space must be the trainable's own, {self.trainable}")
        if self.fine_tune and self.trainable != "fine_tune":
            raise ValueError("fine_tune holds settings of `trainable: fine_tune`; name that trainable too")
        if self.fine_tune and self.features not in (None, *SINGLE):
            raise ValueError(
                f"features must be one of {', '.join(SINGLE)} for `trainable: fine_tune`, not {self.features}"
            )
        if self.fine_tune and self.image_views != ImageViewSettings():
            raise ValueError("image_views are for linear probes; fine-tuning distorts images by itself")
        if self.fine_tune and self.search.selection != "split":
            raise ValueError(
                "search.selection must be split for `trainable: fine_tune`, not cross_validation: every "
                "configuration would train once a fold"
            )
        return self

    @property
    def run_folder(self) -> Path:
        return Path(self.storage) / self.name

    @property
    def shared_folder(self) -> str | None:
        """The study's own in `checkpoints`, a path or URI; None without."""
        return inside(self.checkpoints, self.name) if self.checkpoints else None

    def resolved(self, root: Path) -> StudyConfig:
        """The same study with every relative path, that of a SQLite store and of an encoder's folder too,
        taken from `root`.

        MLflow resolves a relative path anew in every process and prefers an old ./mlruns beside it.
        """
        return self._with_paths(
            lambda path: path if is_remote(path) else str(root / path), resolved_name(self.encoder, root)
        )

    def portable(self, root: Path) -> StudyConfig:
        """The same study with every path inside `root` relative to it, so that the project can be moved.

        Unchanged where the study is stored outside: from there `root` could not be found again.
        """
        if not Path(self.storage).is_relative_to(root):
            return self

        def relative(path: str) -> str:
            inside = PurePath(path).is_absolute() and Path(path).is_relative_to(root)
            return str(Path(path).relative_to(root)) if inside else path

        before, path = split_path(self.encoder)
        return self._with_paths(relative, before + relative(path) if path else self.encoder)

    def root_of(self, run: Path) -> Path:
        """The folder from which a stored study's relative paths are taken, now that it lies in `run`.

        Raises:
            InputError: `run` does not lie as deep as the study's storage says.
        """
        storage = PurePath(self.storage)
        if storage.is_absolute() or ".." in storage.parts:
            return Path.cwd()
        up = len(storage.parts)
        if len(run.parents) <= up:
            raise InputError(
                f"{run}: the study was stored in {storage}, so its other folders are looked for {up + 1} "
                "levels above it, and there are none; put it back into such a folder"
            )
        return run.parents[up]

    def _with_paths(self, moved: Callable[[str], str], encoder: str) -> StudyConfig:
        uri, compare_with = self.tracking.uri, self.analysis.compare_with
        if file := sqlite_file(uri):
            uri = with_file(uri, moved(file))
        return self.model_copy(
            update={
                "cohort": moved(self.cohort),
                "encoder": encoder,
                "cache": moved(self.cache),
                "storage": moved(self.storage),
                "checkpoints": self.checkpoints and moved(self.checkpoints),
                "tracking": Tracking(uri=uri),
                "search": self.search.model_copy(
                    update={"warm_start": self.search.warm_start and moved(self.search.warm_start)}
                ),
                "analysis": self.analysis.model_copy(
                    update={"compare_with": compare_with and moved(compare_with)}
                ),
            }
        )

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)
