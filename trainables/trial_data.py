"""What a trial may see: the development rows of a cohort, and the fold in which each of them is judged.

Development rows are all images but the test split's. A row of fold k is judged by what was trained on every
row outside fold k; a row of fold -1 is trained on by all and never judged. A given training and validation
split is one fold; cross-validation, repeats and few-shot are other assignments of the same rows.

Shape legend: N development images, M judged images of one fold, C labels, D features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from cohort.errors import InputError
from cohort.multiclass import is_multiclass
from cohort.patients import patient_folds, positive_patients
from scoring.judging import JudgedRows
from vlm.feature_kinds import PROJECTED, FeatureKind, side_by_side

THRESHOLD_FOLDS = 5
"""Of the patients of one fold, over which thresholds are cross-fitted where it is judged alone."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TrialData:
    """Labels, patients and folds of the development rows; ValueError where the parts do not fit."""

    rows_N: np.ndarray
    """int64, the place of each image in the cohort and so in its image store; none twice."""
    targets_NC: np.ndarray
    """float32: 0, 1 or NaN (masked)."""
    patients_N: np.ndarray
    """int64 codes, equal for images of one patient."""
    fold_N: np.ndarray
    """int64: the fold in which the image is judged, from 0; -1: never."""
    threshold_fold_N: np.ndarray
    """int64: for judged images, the fold in which thresholds are judged on it that were fitted on the others
    (`cohort.patients.patient_folds`, fixed for a study); -1 elsewhere."""
    labels: tuple[str, ...]
    objective_labels_C: np.ndarray
    """bool: labels with enough positive patients among the judged to count in an average. A label without
    positives in training is trained on but never counts, see `scored_C`."""
    multiclass: bool = False
    """Whether an image has exactly one of the labels, or is masked whole."""
    inner_fold_N: np.ndarray | None = None
    """int64, of cross-validation: where one fold is judged alone, the folds of its own patients over which
    thresholds are cross-fitted; all equal in a fold of a single patient."""

    def __post_init__(self) -> None:
        images, labels = len(self.rows_N), len(self.labels)
        for name in ("rows_N", "patients_N", "fold_N", "threshold_fold_N"):
            array = getattr(self, name)
            if array.shape != (images,) or array.dtype != np.int64:
                raise ValueError(f"{name} must be int64 ({images},), not {_described(array)}")
        if images == 0:
            raise ValueError("rows_N must name at least one image, not 0")
        if len(np.unique(self.rows_N)) < images:
            raise ValueError("rows_N must name each image once")
        if self.targets_NC.shape != (images, labels) or self.targets_NC.dtype != np.float32:
            raise ValueError(
                f"targets_NC must be float32 {(images, labels)}, not {_described(self.targets_NC)}"
            )
        strange = self.targets_NC[~np.isin(self.targets_NC, (0, 1)) & ~np.isnan(self.targets_NC)]
        if strange.size:
            raise ValueError(f"targets_NC must be 0, 1 or NaN, not {strange[0]:g}")
        if self.multiclass and not is_multiclass(self.targets_NC):
            raise ValueError("targets_NC must have exactly one label per image where they are multiclass")
        if set(np.unique(self.fold_N)) - {-1} != set(range(self.folds)) or self.folds == 0:
            raise ValueError(f"fold_N must be -1 or folds from 0, not {np.unique(self.fold_N).tolist()}")
        if any(len(self.training_N(fold)) == 0 for fold in range(self.folds)):
            raise ValueError("fold_N must leave images to train on outside each fold")
        if ((self.threshold_fold_N < 0) != (self.fold_N < 0)).any():
            raise ValueError("threshold_fold_N must be -1 where fold_N is, and only there")
        if self.objective_labels_C.shape != (labels,) or self.objective_labels_C.dtype != bool:
            raise ValueError(
                f"objective_labels_C must be bool ({labels},), not {_described(self.objective_labels_C)}"
            )
        judged_NC = self.targets_NC[self.fold_N >= 0]
        both_C = (judged_NC == 1).any(0) & (judged_NC == 0).any(0)
        if one_sided := np.flatnonzero(self.objective_labels_C & ~both_C).tolist():
            raise ValueError(
                "objective_labels_C must have positives and negatives among the judged images, unlike "
                f"{', '.join(self.labels[c] for c in one_sided)}"
            )
        if not self.scored_C.any():
            raise InputError(f"there is nothing to optimise: {self._why_nothing_is_scored()}")

    @cached_property
    def digest(self) -> str:
        """sha256 of which images are trained on and judged, under which labels and in which folds."""
        digest = hashlib.sha256()
        for name in (
            "rows_N",
            "targets_NC",
            "patients_N",
            "fold_N",
            "threshold_fold_N",
            "objective_labels_C",
        ):
            digest.update(np.ascontiguousarray(getattr(self, name)).tobytes())
        return digest.hexdigest()

    @property
    def folds(self) -> int:
        """How many folds are judged: 1 for a training and validation split."""
        return int(self.fold_N.max()) + 1

    def training_N(self, fold: int | None = None) -> np.ndarray:
        """int64, ascending: the development rows that are trained on where `fold` is judged; without one,
        where any is: of cross-validation all rows."""
        if fold is not None:
            return np.flatnonzero(self.fold_N != fold)
        return np.flatnonzero(self.fold_N != 0) if self.folds == 1 else np.arange(len(self.fold_N))

    def judged_N(self, fold: int | None = None) -> np.ndarray:
        """int64, ascending: the development rows (M,) of `fold`; without one, of all folds."""
        return np.flatnonzero(self.fold_N >= 0 if fold is None else self.fold_N == fold)

    def judged(self, fold: int | None = None) -> JudgedRows:
        """What the scores of the rows of `fold`, or of all folds together, are held against."""
        rows_M = self.judged_N(fold)
        alone = fold is not None and self.inner_fold_N is not None
        return JudgedRows(
            targets_NC=self.targets_NC[rows_M],
            patients_N=self.patients_N[rows_M],
            folds_N=(self.inner_fold_N if alone else self.threshold_fold_N)[rows_M],
            averaged_C=self.scored_C,
            multiclass=self.multiclass,
        )

    @cached_property
    def scored_C(self) -> np.ndarray:
        """bool: the labels over which every macro average of a trial is taken."""
        trained_C = np.ones(len(self.labels), dtype=bool)
        for fold in range(self.folds):
            trained_C &= (self.targets_NC[self.training_N(fold)] == 1).any(0)
        return self.objective_labels_C & trained_C

    def _why_nothing_is_scored(self) -> str:
        """What keeps every label out of the averages, with the first label each reason holds for."""
        where = "on validation" if self.folds == 1 else "among training and validation"
        remedy = "validation" if self.folds == 1 else "the cohort"
        judged_NC = self.targets_NC[self.fold_N >= 0]
        positive_C, negative_C = (judged_NC == 1).any(axis=0), (judged_NC == 0).any(axis=0)
        one_sided_C = positive_C & ~negative_C
        reasons = {
            f"no negative image {where}: give images without it, or build the cohort with --blank "
            "negative where blank cells say that": one_sided_C,
            f"too few positive patients {where}: pool labels, or give {remedy} more patients": (
                ~one_sided_C & ~self.objective_labels_C
            ),
            "no positive image on training: give training some": self.objective_labels_C,
        }
        said = []
        for reason, concerned_C in reasons.items():
            if count := int(concerned_C.sum()):
                first = self.labels[int(np.argmax(concerned_C))]
                who = f"{first!r} has" if count == 1 else f"{count} labels ({first!r} first) have"
                said.append(f"{who} {reason}")
        return "; ".join(said)

    def cross_validated(self, folds: int, seed: int, enough: int) -> Self:
        """The same rows in folds of whole patients that share out each label's positive patients; every row
        is judged once, and thresholds are cross-fitted over the same folds.

        Args:
            folds: two at least.
            seed: breaks ties of the split.
            enough: positive patients that a label needs to count in an average.

        Raises:
            InputError: fewer patients than folds, or nothing is left to average.
        """
        fold_N = patient_folds(self.targets_NC, self.patients_N, folds=folds, seed=seed)
        counts_C = positive_patients(self.targets_NC, self.patients_N)
        return replace(
            self,
            fold_N=fold_N,
            threshold_fold_N=fold_N,
            inner_fold_N=self._inner_folds(fold_N),
            objective_labels_C=(counts_C >= enough) & (self.targets_NC == 0).any(axis=0),
        )

    def _inner_folds(self, fold_N: np.ndarray) -> np.ndarray:
        """`inner_fold_N` of such folds."""
        inner_fold_N = np.zeros(len(fold_N), dtype=np.int64)
        for fold in np.unique(fold_N):
            own_N = fold_N == fold
            patients_N = self.patients_N[own_N]
            if (parts := min(THRESHOLD_FOLDS, len(np.unique(patients_N)))) > 1:
                inner_fold_N[own_N] = patient_folds(self.targets_NC[own_N], patients_N, folds=parts)
        return inner_fold_N

    def resplit(self, held_N: np.ndarray, seed: int) -> Self:
        """The same rows as another single split: those of `held_N` (bool) are judged, the rest trained on.

        Labels that count stay those that counted, as far as both classes are among the judged.
        """
        held_NC = self.targets_NC[held_N]
        threshold_fold_N = np.full(len(self.rows_N), -1, dtype=np.int64)
        threshold_fold_N[held_N] = patient_folds(held_NC, self.patients_N[held_N], seed=seed)
        both_C = (held_NC == 1).any(axis=0) & (held_NC == 0).any(axis=0)
        return replace(
            self,
            fold_N=np.where(held_N, 0, -1),
            inner_fold_N=None,
            threshold_fold_N=threshold_fold_N,
            objective_labels_C=self.objective_labels_C & both_C,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class ProbeData(TrialData):
    """Development rows as features of a frozen encoder."""

    features_ND: np.ndarray
    """float32, finite, as the encoder gave them."""
    precision: str = "fp32"
    """Of the encoder's products: fp32 or bf16."""
    kinds: Mapping[str, FeatureKind] | None = None
    """Kinds of features by name, runs of the columns; None: all columns are of one, `projected`."""
    image_views: int = 1
    """Views of an image: a row holds the features of one view after the other, and `kinds` are columns of the
    first."""
    text_CD: np.ndarray | None = None
    """float32 text prototypes of the labels in the space of the projected features, for heads that are drawn
    towards them; None without a text tower."""
    prepared: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)
    """What `trainables.fold_features` has computed of them; it goes along to whoever the data are sent to."""

    def __post_init__(self) -> None:
        super().__post_init__()
        features_ND = self.features_ND
        shape = (len(self.rows_N), *features_ND.shape[1:])
        if features_ND.ndim != 2 or 0 in features_ND.shape or features_ND.shape != shape:
            raise ValueError(f"features_ND must be ({len(self.rows_N)}, D), not {_described(features_ND)}")
        if features_ND.dtype != np.float32:
            raise ValueError(f"features_ND must be float32, not {features_ND.dtype}")
        bad = np.flatnonzero(~np.isfinite(features_ND).all(1))
        if len(bad):
            raise ValueError(
                f"features_ND must be finite, not NaN or infinite in {len(bad)} rows, first row {bad[0]}"
            )
        if self.kinds is None:
            whole = side_by_side({PROJECTED: self.features_ND.shape[1:]})
            object.__setattr__(self, "kinds", whole)
        elif any(kind.columns.stop > self.features_ND.shape[1] for kind in self.kinds.values()):
            raise ValueError(f"kinds must lie within {self.features_ND.shape[1]} columns, not {self.kinds}")
        if self.image_views < 1 or self.features_ND.shape[1] % self.image_views:
            raise ValueError(
                f"image_views must divide {self.features_ND.shape[1]} columns, not {self.image_views}"
            )
        if self.text_CD is not None:
            shape = (len(self.labels), self.kinds[PROJECTED].width)
            if self.text_CD.shape != shape:
                raise ValueError(f"text_CD must be {shape}, not {self.text_CD.shape}")

    @property
    def view_width(self) -> int:
        """Columns of one view."""
        return self.features_ND.shape[1] // self.image_views

    def of_first_view(self) -> ProbeData:
        """The images as they are, without their further views."""
        return replace(
            self, features_ND=np.ascontiguousarray(self.features_ND[:, : self.view_width]), image_views=1
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class FineTuneData(TrialData):
    """Development rows as images in a decoded store.

    It holds the name of the store, not its pixels, so it is cheap to send to another process: all trials of a
    node map one file and share one copy in memory.
    """

    images_file: Path
    """The decoded-image store, .npy: uint8 (images, H, W, 1 or 3), H = W = the encoder's size; `rows_N` are
    rows of it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        images = self.images_NHWC
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
            raise ValueError(
                f"{self.images_file} must hold uint8 (images, H, W, 1 or 3), not {_described(images)}"
            )
        if self.rows_N.min() < 0 or self.rows_N.max() >= len(images):
            raise ValueError(
                f"rows_N must lie in 0..{len(images) - 1}, not {self.rows_N.min()}..{self.rows_N.max()}"
            )

    @cached_property
    def images_NHWC(self) -> np.ndarray:
        """The store, memory-mapped and read-only."""
        return np.load(self.images_file, mmap_mode="r")

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "images_NHWC"}


def _described(array: np.ndarray) -> str:
    return f"{array.dtype} {array.shape}"
