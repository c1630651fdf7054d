"""The exported model: a saved predictor, with what its decisions mean and where it comes from.

    BUNDLE/
      bundle.json        labels, label policy, encoder, transform, decision rule, training cohort, origin,
                         and a sha256 of every file; see `vlm.bundle_description`
      head.safetensors   of each head k: k/weight_DC, k/bias_C, k/mean_D, k/scale_D (float32), k/l2 (uint8),
                         k/first (int64: its first column of a row of features); thresholds_C (float64)
      README.md          the model card
      encoder/           where it was asked for, and where the encoder's name is a path: its weights as an
                         open_clip `local-dir:`, or a file of timm's

docs/bundle.md says what is computed, from the file's pixels to the decision, up to every rounding. In short:
probabilities = sigmoid(z), with z = (mean of the heads' logits - centre) / width on the decision rule's
scale; a finding is decided present where its probability is at least its label's threshold. Where labels are
multiclass, probabilities = softmax(z) over them, and the one label with the highest log(probability) -
logit(threshold) is decided, the first of equals.

Shape legend: B images of a batch, H height, W width, D features, C labels.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from cohort.decoding import decode, room_to_decode
from cohort.errors import InputError, printable
from cohort.geometry import apply_geometry
from cohort.html_table import html_table
from cohort.image_files import checked_size, read_image
from cohort.intensity import Intensity
from cohort.labels import LabelPolicy
from cohort.threads import in_threads
from scoring.decision_rule import DecisionRule
from scoring.judging import Scale
from scoring.predictions import Origin
from vlm.bundle_description import (
    ENCODER,
    HEAD,
    Description,
    EncoderPart,
    differences,
    files_in,
    read_description,
)
from vlm.embeddings import embed_images, embedding_precision
from vlm.encoder_names import HubAccess, name_in, split_path
from vlm.encoders import Encoder, load_encoder
from vlm.image_views import ImageViews
from vlm.linear_head import LinearHead
from vlm.predictor import Predictor
from vlm.tensor_files import CorruptFile, read_tensors

LARGEST_HEAD = 2**30
"""Bytes of a bundle's heads."""
MOST_WEIGHT = 1e18
"""Of a head's numbers the largest, either way; those of trained ones stay below a million."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Bundle:
    """A bundle read from its folder, ready to predict."""

    folder: Path
    predictor: Predictor

    policy: LabelPolicy
    """What uncertain, blank and No Finding cells were when it was trained."""

    intensity: Intensity | None
    """Which values of 16-bit gray are black and white; None where it was trained on images of 8 bits."""

    description: Mapping[str, Any]
    """All of bundle.json."""

    @property
    def labels(self) -> tuple[str, ...]:
        return self.predictor.labels

    def __repr__(self) -> str:
        return (
            f"Bundle({self.folder}: {self.predictor.name} of {self.predictor.origin.study}, "
            f"{len(self.labels)} labels, encoder {self.predictor.encoder.name})"
        )

    def _repr_html_(self) -> str:
        rule = self.predictor.rule
        rows = [
            (label, f"{threshold:.3f}", "shared" if shared else "its own")
            for label, threshold, shared in zip(self.labels, rule.thresholds_C, rule.shared_C, strict=True)
        ]
        return html_table(repr(self), [("label", "present from", f"threshold ({rule.strategy})"), *rows])

    @classmethod
    def load(cls, folder: Path | str, device: str | None = None, *, allow_download: bool = False) -> Bundle:
        """Read a bundle and its encoder onto `device` (default: the GPU where there is one).

        Nothing of it is read before its sha256 was found to be the one that bundle.json states, and nothing
        is asked of a network: an encoder that the bundle only names must be in the hub's cache, unless
        `allow_download`. It is then downloaded without this machine's access token.

        Raises InputError where there is no bundle, where it is damaged or of another format, where its
        encoder does not load here, and where that is not the encoder that the heads were trained on.
        """
        folder = Path(folder)
        description = read_description(folder)
        _check_files(folder, description)
        heads, thresholds_C = _read_heads(folder / HEAD)
        encoder = _load_encoder(folder, description.encoder, device, allow_download=allow_download)
        decisions, levels = description.decisions, description.transform.intensity
        try:
            predictor = Predictor(
                name=description.name,
                labels=tuple(description.labels),
                encoder=encoder,
                heads=heads,
                ranks_only=decisions.ranks_only,
                rule=DecisionRule(
                    strategy=decisions.strategy,
                    thresholds_C=thresholds_C,
                    shared_C=description.shared_C,
                    scale=Scale(**decisions.scale.model_dump()),
                    multiclass=decisions.multiclass,
                ),
                precision=description.encoder.precision,
                origin=Origin(**description.origin.model_dump()),
            )
            policy = LabelPolicy.from_dict(description.policy.model_dump())
            intensity = levels and Intensity(**levels.model_dump())
        except ValueError as error:
            reason = " ".join(str(error).split())[:300]
            raise InputError(
                f"{folder}: its parts do not fit together ({reason}); export the bundle again"
            ) from error
        return cls(
            folder=folder,
            predictor=predictor,
            policy=policy,
            intensity=intensity,
            description=description.model_dump(),
        )

    def predict(
        self,
        images: Sequence[Path | str | bytes],
        *,
        device: str | None = None,
        batch_size: int = 64,
        skip_unreadable: bool = False,
    ) -> pa.Table:
        """Probabilities and decisions for image files, one row per file in the order given.

        An image is the path of a file, or a file's bytes.
        Columns: `image` (the path as given, of bytes `image 0` by their place), where labels are multiclass
        `label` (the one that is decided), `probability.<label>` (float64), `decision.<label>` (int8, 0 or 1)
        and, only with `skip_unreadable`, `unreadable` (why a row has none of these, otherwise null).
        Decoding, intensity, geometry and transform are those the head was trained with; so is the precision,
        unless this device does not compute in it (then float32).

        `device` moves the encoder there first. Raises InputError for unreadable files, which are counted and
        named, up to ten of them, unless `skip_unreadable`.
        """
        if not images:
            raise InputError("no images to predict; name at least one file")
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, got {batch_size}")
        if device is not None:
            self.predictor.encoder.to(device)
        probs_NC = np.full((len(images), len(self.labels)), np.nan)
        unreadable: dict[int, str] = {}
        for rows, images_BHWC in self._batches(images, batch_size, unreadable):
            if unreadable and not skip_unreadable:
                continue  # only to count and name the unreadable files
            probs_NC[rows] = self.probabilities(images_BHWC)
        if unreadable and not skip_unreadable:
            named = _named(list(unreadable.values()))
            raise InputError(
                f"{len(unreadable)} of {len(images)} images cannot be read: {named}; leave them out, or skip "
                "them (--skip-unreadable; in Python skip_unreadable=True)"
            )

        rule = self.predictor.rule
        decided_NC = rule.decide_probabilities(probs_NC)
        absent_N = np.isin(np.arange(len(images)), list(unreadable))
        columns: dict[str, pa.Array] = {
            "image": pa.array([_name(image, i) for i, image in enumerate(images)])
        }
        if rule.multiclass:
            decided = [self.labels[c] for c in decided_NC.argmax(axis=1)]
            columns["label"] = pa.array(np.array(decided, dtype=object), pa.string(), mask=absent_N)
        for c, label in enumerate(self.labels):
            columns[f"probability.{label}"] = pa.array(probs_NC[:, c], mask=absent_N)
        for c, label in enumerate(self.labels):
            columns[f"decision.{label}"] = pa.array(decided_NC[:, c].astype(np.int8), mask=absent_N)
        if skip_unreadable:
            reasons = [unreadable.get(i) for i in range(len(images))]
            columns["unreadable"] = pa.array(reasons, pa.string())
        return pa.table(columns)

    def probabilities(self, images_BHWC: np.ndarray) -> np.ndarray:
        """float64 (B, C) of uint8 images in the encoder's geometry, (B, H, W, 1 or 3).

        InputError where a score is not finite, as damaged weights make them.
        """
        encoder, trained_in = self.predictor.encoder, self.predictor.precision
        # bf16 without the instructions for it is slower than float32 and no closer to the training features.
        precision = trained_in if embedding_precision("auto", encoder) == trained_in else "fp32"
        with np.errstate(over="ignore", invalid="ignore"):
            scores_BC = self.predictor.scores(embed_images(encoder, images_BHWC, precision))
        if not np.isfinite(scores_BC).all():
            raise InputError(
                f"{self.folder}: its scores are not finite, so that they predict nothing: its heads or its "
                "encoder's weights are damaged; export the bundle again"
            )
        return self.predictor.rule.probabilities(scores_BC)

    def _batches(
        self, images: Sequence[Path | str | bytes], batch_size: int, unreadable: dict[int, str]
    ) -> Iterator[tuple[list[int], np.ndarray]]:
        """(rows, uint8 images_BHWC) of readable files; the others are entered into `unreadable`."""

        def read(i: int) -> np.ndarray | str:
            image, name = images[i], _name(images[i], i)
            try:
                data = checked_size(image, name) if isinstance(image, bytes) else read_image(Path(image))
                with room_to_decode(data):
                    image = decode(data, name, self.intensity)
                    return apply_geometry(image, self.predictor.encoder.geometry)
            except InputError as error:
                return printable(str(error))

        rows: list[int] = []
        batch: list[np.ndarray] = []
        for i, image in enumerate(in_threads(read, len(images), "predicting")):
            if isinstance(image, str):
                unreadable[i] = image
            else:
                rows.append(i)
                batch.append(image if image.ndim == 3 else image[:, :, None])
            if rows and (len(rows) == batch_size or i == len(images) - 1):
                channels = max(image.shape[2] for image in batch)
                yield rows, np.stack([np.repeat(x, channels // x.shape[2], axis=2) for x in batch])
                rows, batch = [], []


def _name(image: Path | str | bytes, place: int) -> str:
    return f"image {place}" if isinstance(image, bytes) else printable(image)


def verify_bundle(folder: Path | str) -> str:
    """Hold every file of a bundle against what bundle.json says of it, and nothing is loaded; returns a line
    for people, with the bundle's digest.

    Raises InputError, in one line, for files that are missing, changed or not of the bundle, up to ten named.
    """
    folder = Path(folder)
    description = read_description(folder)
    names = {*description.files, *files_in(folder)}
    if found := _differences(folder, description, names):
        raise InputError(
            f"{folder}: {len(found)} of {len(names)} files are not as the bundle was written: "
            f"{_named(found)}; export it again, or copy it again from where it came from"
        )
    return f"{folder}: {len(names) + 1} files as they were written; digest {description.digest}"


def _check_files(folder: Path, description: Description) -> None:
    """InputError where a file that is about to be read is not the one that the bundle was written with."""
    read = {HEAD} | {name for name in description.files if name.startswith(f"{ENCODER}/")}
    if description.encoder.in_bundle and (folder / ENCODER).is_dir():
        read |= {f"{ENCODER}/{name}" for name in files_in(folder / ENCODER)}
    if found := _differences(folder, description, read):
        raise InputError(f"{folder}: {_named(found)}; export the bundle again")
    if any(Path(name).suffix not in (".json", ".safetensors", ".txt", ".model") for name in read):
        raise InputError(f"{folder}: holds weights that are no safetensors; export the bundle again")
    if (size := (folder / HEAD).stat().st_size) > LARGEST_HEAD:
        raise InputError(f"{folder / HEAD}: has {size:,} bytes, more than heads have ({LARGEST_HEAD:,})")


def _differences(folder: Path, description: Description, names: Collection[str]) -> list[str]:
    try:
        return differences(folder, description.files, names)
    except OSError as error:
        raise InputError(f"{error.filename or folder}: {error.strerror}") from error


def _named(found: Sequence[str]) -> str:
    return "; ".join(found[:10]) + ("; ..." if len(found) > 10 else "")


def _read_heads(path: Path) -> tuple[tuple[LinearHead, ...], np.ndarray]:
    """The heads and thresholds_C of a bundle; InputError where they are missing or damaged."""
    try:
        tensors, _ = read_tensors(path)
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        thresholds_C = arrays.pop("thresholds_C")
        if thresholds_C.dtype != np.float64:
            raise ValueError(f"thresholds_C must be float64, not {thresholds_C.dtype}")
        heads: dict[str, dict[str, np.ndarray]] = {}
        for name, array in arrays.items():
            if array.dtype == np.float32 and (np.abs(array) > MOST_WEIGHT).any():
                raise ValueError(f"{name} must lie within {MOST_WEIGHT:g}: products of larger ones overflow")
            k, _, part = name.partition("/")
            heads.setdefault(k, {})[part] = array
        return tuple(LinearHead.from_tensors(heads[str(k)]) for k in range(len(heads))), thresholds_C
    except (CorruptFile, KeyError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{path}: missing or damaged ({reason}); export the bundle again") from error


def _load_encoder(
    folder: Path, described: EncoderPart, device: str | None, *, allow_download: bool
) -> Encoder:
    name = name_in(folder / ENCODER, described.name) if described.in_bundle else described.name
    if not described.in_bundle and split_path(name)[1]:
        raise InputError(
            f"{folder}: the bundle's encoder does not load here: {name[:200]} is a place on some machine, "
            "and a bundle holds such an encoder itself; export it again"
        )
    try:
        encoder = load_encoder(
            name,
            features=tuple(described.features),
            device=device,
            # Whoever made the bundle named the repository, not the user whose token it is.
            hub=HubAccess.ANONYMOUS if allow_download else HubAccess.CACHE,
        )
        encoder = encoder.seen_in(ImageViews(**described.image_views.model_dump()))
    except InputError as error:
        remedy = "" if described.in_bundle else "; or export it again with --with-encoder"
        if not (described.in_bundle or allow_download):
            remedy = "; or allow a download with --allow-download (in Python allow_download=True)" + remedy
        raise InputError(f"{folder}: the bundle's encoder does not load here: {error}{remedy}") from error
    if encoder.fingerprint != described.fingerprint:
        raise InputError(
            f"{folder}: the head was trained on encoder {described.name} with the fingerprint "
            f"{described.fingerprint[:12]}, and {name} has {encoder.fingerprint[:12]} here: other "
            "weights or another transform; restore the original, or export again with --with-encoder"
        )
    return encoder
