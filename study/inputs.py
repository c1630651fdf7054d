"""What a study stands on: cohort, encoder, features, and the identity that none of them may lose."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from cohort.errors import InputError
from cohort.manifest import Cohort
from cohort.patients import patient_folds, positive_patients
from search_spaces.parameters import Space
from study.config import StudyConfig
from study.run_folder import RunFolder
from trainables.tower import check_space
from trainables.trial_data import ProbeData
from vlm.cohort_features import CohortFeatures
from vlm.embeddings import Embeddings, RunShards, embed
from vlm.encoder_names import name_for
from vlm.encoders import Encoder, load_encoder
from vlm.feature_kinds import DEEP, POOLED, PROJECTED, FeatureKind, base_kind
from vlm.image_views import ImageViews
from vlm.prompts import Wording, text_prototypes

OBJECTIVE_PATIENTS = 5
"""Positive patients that a label needs among those who are judged to count in the objective."""
FOLDS = 5
"""Of a cross-validated study."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Inputs:
    """A study's cohort, its encoder, and the features of the one under the other."""

    cohort: Cohort
    encoder: Encoder
    embeddings: Embeddings
    seed: int
    """Fixes the study's folds."""
    selection: str
    """What configurations are chosen by: cross_validation or split."""

    @cached_property
    def data(self) -> ProbeData:
        """Training and validation features and labels, in the folds in which configurations are judged; those
        of the test split stay behind.

        Raises:
            InputError: a split is absent, no label has enough positive patients among the judged, or there
                are fewer patients than folds.
        """
        if self.selection == "split":
            return self.given
        rows_N = np.concatenate([self.cohort.indices("train"), self.cohort.indices("val")])
        patients = len(np.unique(self.cohort.patients_N(rows_N)))
        if patients < FOLDS:
            raise InputError(
                f"search.selection: cross_validation splits patients into {FOLDS} folds, and training and "
                f"validation have {patients}; set search.selection: split, or give the cohort more patients"
            )
        return self.given.cross_validated(FOLDS, self.seed, OBJECTIVE_PATIENTS)

    @cached_property
    def given(self) -> ProbeData:
        """The same rows in the given split, of which validation alone is judged; InputError as `data`."""
        # Where the folds decide, a small validation split must not keep a study from running.
        relaxed = self.selection == "cross_validation"
        data = development_data(
            self.cohort,
            self.embeddings,
            self.seed,
            self.encoder.kinds,
            image_views=self.encoder.image_views.count,
            relaxed=relaxed,
        )
        return replace(data, text_CD=self._text_CD())

    def _text_CD(self) -> np.ndarray | None:
        """The prototypes of several prompts a label, as `zero-shot-prompts` may have them."""
        if self.encoder.text_refusal:
            return None
        wording = Wording.of(self.cohort)
        return text_prototypes(self.encoder, self.cohort.labels, "ensemble", wording)[0]

    @property
    def uncounted(self) -> list[str]:
        """Labels that have enough positive patients for the objective and do not count in it all the same:
        of one fold's training they are all absent, since they lie in one fold."""
        data = self.data
        return [str(label) for label in np.array(data.labels)[data.objective_labels_C & ~data.scored_C]]

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What must not change under a resumed or an analysed study, as JSON."""
        data = self.data
        return {
            "cohort_hash": self.cohort.content_hash,
            "encoder_fingerprint": self.encoder.fingerprint,
            "embeddings_key": self.embeddings.key,
            "precision": self.embeddings.precision,
            "labels": list(data.labels),
            "objective_labels": [str(label) for label in np.array(data.labels)[data.scored_C]],
        }

    def features(self, cache: str) -> CohortFeatures:
        """The cohort's features under any encoder; computed where `cache` does not hold them."""
        return CohortFeatures(self.cohort, cache, (self.encoder.fingerprint, self.embeddings))


def open_inputs(config: StudyConfig, run: RunFolder, run_shards: RunShards | None = None) -> Inputs:
    """Open the cohort, load the encoder, fill the embedding cache.

    Features are computed in the precision that the study began with, whatever this machine is good at: a head
    trained on bf16 features must not be scored on others.

    Args:
        run_shards: computes what the cache lacks, see `vlm.embeddings.embed`.

    Raises:
        InputError: no cohort there, choices that its labels do not have, an unknown encoder, a damaged image
            or cache, or another cohort, encoder or features than the study began with.
    """
    on_gpu = config.resources.gpus != 0 and torch.cuda.is_available()
    cohort = Cohort.open(config.cohort)
    study_space(config, cohort)
    name = name_for(config.encoder, cohort.channels)
    device = "cuda" if on_gpu else "cpu"
    if config.trainable == "fine_tune":
        encoder = _tuned_encoder(name, config.features, device)
    else:
        encoder = load_encoder(name, features=None, device=device)
        encoder = encoder.seen_in(ImageViews(**config.image_views.model_dump()))
    if not run.inputs_file.exists():
        _check_search(config, encoder)
    precision = run.identity()["precision"] if run.inputs_file.exists() else "auto"
    embeddings = embed(cohort, encoder, cache=config.cache, precision=precision, run_shards=run_shards)
    inputs = Inputs(
        cohort=cohort,
        encoder=encoder,
        embeddings=embeddings,
        seed=config.search.seed,
        selection=config.search.selection,
    )
    if run.inputs_file.exists():
        run.keep_identity(inputs.identity)
    return inputs


def _check_search(config: StudyConfig, encoder: Encoder) -> None:
    """InputError where the encoder lacks what the study searches: said before features are computed for
    minutes."""
    fixed, ranges = searched(config, encoder)
    if config.trainable == "fine_tune":
        check_space(encoder, fixed, ranges)


def _tuned_encoder(name: str, features: str | None, device: str) -> Encoder:
    """One that gives the features under the head alone: the named ones, or the base kind."""
    if features:
        return load_encoder(name, features=(features,), device=device)
    kind = base_kind(load_encoder(name, features=None, device="cpu").kinds).name
    return load_encoder(name, features=(kind,), device=device)


def searched(config: StudyConfig, encoder: Encoder) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the study fixes and the ranges it gives, with the kinds of features that its encoder has.

    Raises:
        InputError: a kind that it lacks.
    """
    fixed, ranges = dict(config.search.fixed), dict(config.search.ranges)
    if "features" not in importlib.import_module(f"search_spaces.{config.trainable}").SPACE.parameters:
        return fixed, ranges
    named = [fixed["features"]] if "features" in fixed else ranges.get("features", ())
    for name in named or _named_kinds(config.features):
        if name not in encoder.kinds:
            raise InputError(
                f"features: encoder {encoder.name} has no {name} features; it has {', '.join(encoder.kinds)}"
            )
    if encoder.text_refusal:
        if "zero_shot" in (fixed.get("anchor"), *ranges.get("anchor", ())):
            raise InputError(f"search: anchor zero_shot needs text: {encoder.text_refusal}")
    if not named:
        kinds = _named_kinds(config.features) or [
            name for name in (base_kind(encoder.kinds).name, DEEP) if name in encoder.kinds
        ]
        if len(kinds) == 1:
            fixed["features"] = kinds[0]
        else:
            ranges["features"] = kinds
    if encoder.image_views.count > 1:
        if "l2" in (fixed.get("normalisation"), *ranges.get("normalisation", ())):
            raise InputError("search: normalisation l2 knows one view of an image; leave out either")
        if "normalisation" not in fixed and set(_kinds_tried(fixed, ranges)) & {PROJECTED, POOLED}:
            ranges.setdefault("normalisation", ["none", "center", "standardize"])
    if (
        encoder.text_refusal
        and PROJECTED in _kinds_tried(fixed, ranges)
        and not {"anchor"} & (fixed.keys() | ranges.keys())
    ):
        fixed["anchor"] = "none"
    return fixed, ranges


def _kinds_tried(fixed: Mapping[str, Any], ranges: Mapping[str, Any]) -> list[str]:
    return [fixed["features"]] if "features" in fixed else ranges["features"]


def _named_kinds(features: str | Sequence[str] | None) -> list[str]:
    return [features] if isinstance(features, str) else list(features or ())


def study_space(config: StudyConfig, cohort: Cohort) -> Space:
    """What the study searches on such labels; InputError for choices that these do not have."""
    space = importlib.import_module(f"search_spaces.{config.trainable}").SPACE
    search = config.search
    return space.for_labels(cohort.multiclass, search.fixed, search.ranges, ordinal=cohort.ordinal)


def development_data(
    cohort: Cohort,
    embeddings: Embeddings,
    seed: int,
    kinds: Mapping[str, FeatureKind] | None = None,
    *,
    image_views: int = 1,
    relaxed: bool = False,
) -> ProbeData:
    """The given split as one fold: training rows first, then validation, each in manifest order.

    Args:
        seed: of the folds in which thresholds are cross-fitted.
        kinds: of the features; None: all columns are of one.
        image_views: views of an image, side by side in a row.
        relaxed: where no label has enough positive patients on validation, let those count that have any;
            and cross-fit thresholds over as many patients as there are.

    Raises:
        InputError: a split is absent, or no label has enough positive patients on validation.
    """
    train_N, val_N = cohort.indices("train"), cohort.indices("val")
    rows_N = np.concatenate([train_N, val_N])
    targets_NC, patients_N = cohort.targets_NC(rows_N), cohort.patients_N(rows_N)
    fold_N = np.repeat(np.array([-1, 0]), [len(train_N), len(val_N)])
    held_N = fold_N == 0
    held_NC, held_patients_N = targets_NC[held_N], patients_N[held_N]
    threshold_fold_N = np.full(len(rows_N), -1, dtype=np.int64)
    folds = min(FOLDS, len(np.unique(held_patients_N))) if relaxed else FOLDS
    threshold_fold_N[held_N] = patient_folds(held_NC, held_patients_N, folds=folds, seed=seed)
    counts_C = positive_patients(held_NC, held_patients_N)
    enough_C = counts_C >= OBJECTIVE_PATIENTS
    if relaxed and not enough_C.any():
        enough_C = counts_C > 0
    return ProbeData(
        rows_N=rows_N,
        targets_NC=targets_NC,
        patients_N=patients_N,
        fold_N=fold_N,
        threshold_fold_N=threshold_fold_N,
        labels=cohort.labels,
        objective_labels_C=enough_C & (held_NC == 0).any(axis=0),
        multiclass=cohort.multiclass,
        features_ND=np.ascontiguousarray(embeddings.features_ND[rows_N]),
        precision=embeddings.precision,
        kinds=kinds,
        image_views=image_views,
    )
