"""The exported model: an encoder by name or by value, a linear head on it, thresholds, and what they mean.

    BUNDLE/
      bundle.json        labels, label policy, encoder, transform, thresholds' strategy, origin
      head.safetensors   weight_DC, bias_C, mean_D, scale_D (float32), l2 (uint8), thresholds_C (float64)
      README.md          the model card
      encoder/           only where it was asked for: the towers as an open_clip `local-dir:`

probabilities = sigmoid(logits of `LinearHead`); a finding is decided present where its probability is at
least its label's threshold.

Shape legend: B images of a batch, H height, W width, D features, C labels.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.special import expit

from cohort.decoding import decode
from cohort.errors import InputError
from cohort.files import replacing_folder
from cohort.geometry import apply_geometry
from cohort.image_files import in_threads
from cohort.labels import LabelPolicy
from vlm.embeddings import embed_images, embedding_precision
from vlm.encoders import Encoder, load_encoder
from vlm.linear_head import LinearHead
from vlm.tensor_files import CorruptFile, read_tensors, write_tensors

FORMAT = 1
DESCRIPTION, HEAD, CARD, ENCODER = "bundle.json", "head.safetensors", "README.md", "encoder"


def save_bundle(
    folder: Path | str,
    *,
    head: LinearHead,
    thresholds_C: np.ndarray,
    threshold_strategy: str,
    fell_back: Sequence[str],
    labels: Sequence[str],
    policy: LabelPolicy,
    encoder: Encoder,
    precision: str,
    cohort_hash: str,
    card: str,
    with_encoder: bool = False,
    origin: Mapping[str, Any] | None = None,
) -> Path:
    """Write a bundle; an earlier bundle in `folder` is replaced, at once or not at all.

    Args:
        thresholds_C: float64 in [0, 1], fitted on validation by `threshold_strategy`.
        fell_back: labels with too few positive patients, which share the global threshold.
        precision: `fp32` or `bf16`, that of the features the head was trained on.
        cohort_hash: content hash of the cohort it was trained on.
        card: the model card, Markdown.
        with_encoder: put the encoder's weights in, so that the bundle needs neither hub nor folder. An
            encoder whose name does not lead to its weights, such as a fine-tuned one, needs this.
        origin: where the head came from (study, trial, ...), for the record; plain JSON values.

    Raises:
        InputError: the folder holds something that no bundle put there.
        ValueError: the parts do not fit together.
    """
    thresholds_C = np.asarray(thresholds_C, dtype=np.float64)
    if head.weight_DC.shape != (encoder.width, len(labels)):
        raise ValueError(f"head must be {(encoder.width, len(labels))}, got {head.weight_DC.shape}")
    if thresholds_C.shape != (len(labels),) or not ((thresholds_C >= 0) & (thresholds_C <= 1)).all():
        raise ValueError(f"thresholds_C must be {len(labels)} probabilities, got {thresholds_C}")
    if not set(fell_back) <= set(labels):
        raise ValueError(f"fell_back must be among the labels, got {sorted(set(fell_back) - set(labels))}")

    own_weights = with_encoder and encoder.backbone is not None
    description = {
        "format": FORMAT,
        "radtune": _version(),
        "labels": list(labels),
        "policy": policy.to_dict(),
        "encoder": {
            "name": encoder.name,
            "features": encoder.features,
            "width": encoder.width,
            "fingerprint": encoder.fingerprint,
            "precision": precision,
            "in_bundle": own_weights,
        },
        "transform": {"geometry": encoder.geometry.to_dict(), "mean": encoder.mean, "std": encoder.std},
        "normalisation": _normalisation(head),
        "thresholds": {"strategy": threshold_strategy, "fell_back": list(fell_back)},
        "cohort_hash": cohort_hash,
        "origin": dict(origin or {}),
    }
    folder = Path(folder)
    with replacing_folder(folder, _check_output_folder) as staging:
        (staging / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
        write_tensors(staging / HEAD, head.tensors() | {"thresholds_C": thresholds_C})
        (staging / CARD).write_text(card, encoding="utf-8")
        if own_weights:
            encoder.save(staging / ENCODER)
    return folder


@dataclass(frozen=True, kw_only=True, eq=False)
class Bundle:
    """A bundle read from its folder, ready to predict."""

    folder: Path
    encoder: Encoder
    head: LinearHead
    thresholds_C: np.ndarray
    """float64 (C,)."""

    labels: tuple[str, ...]
    policy: LabelPolicy
    """What uncertain, blank and No Finding cells were when it was trained."""

    description: Mapping[str, Any]
    """All of bundle.json."""

    @classmethod
    def load(cls, folder: Path | str, device: str | None = None) -> Bundle:
        """Read a bundle and its encoder onto `device` (default: the GPU where there is one).

        Raises InputError where there is no bundle, where it is damaged or of another format, where its
        encoder does not load here, and where that is not the encoder that the head was trained on.
        """
        folder = Path(folder)
        description = _read_description(folder)
        try:
            tensors, _ = read_tensors(folder / HEAD)
            arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
            head, thresholds_C = LinearHead.from_tensors(arrays), arrays["thresholds_C"]
        except (CorruptFile, KeyError, ValueError) as error:
            raise InputError(
                f"{folder / HEAD}: missing or damaged ({error}); export the bundle again"
            ) from error
        bundle = cls(
            folder=folder,
            encoder=_load_encoder(folder, description["encoder"], device),
            head=head,
            thresholds_C=thresholds_C,
            labels=tuple(description["labels"]),
            policy=LabelPolicy.from_dict(description["policy"]),
            description=description,
        )
        if head.weight_DC.shape != (bundle.encoder.width, len(bundle.labels)):
            raise InputError(
                f"{folder / HEAD}: a head of shape {head.weight_DC.shape} does not fit "
                f"{bundle.encoder.width} features and {len(bundle.labels)} labels; export the bundle again"
            )
        return bundle

    def predict(
        self,
        images: Sequence[Path | str],
        *,
        device: str | None = None,
        batch_size: int = 64,
        skip_unreadable: bool = False,
    ) -> pa.Table:
        """Probabilities and decisions for image files, one row a file in the order given.

        Columns: `image` (the path as given), `probability.<label>` (float64), `decision.<label>` (int8, 0
        or 1) and, only with `skip_unreadable`, `unreadable` (why a row has neither, otherwise null).
        Decoding, geometry and transform are those the head was trained with; so is the precision, unless
        this device does not compute in it (then float32).

        `device` moves the encoder there first. Raises InputError for unreadable files, which are counted and
        named, up to ten of them, unless `skip_unreadable`.
        """
        if not images:
            raise InputError("no images to predict; name at least one file")
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, got {batch_size}")
        if device is not None:
            self.encoder.to(device)
        probs_NC = np.full((len(images), len(self.labels)), np.nan)
        unreadable: dict[int, str] = {}
        for rows, images_BHWC in self._batches(images, batch_size, unreadable):
            if unreadable and not skip_unreadable:
                continue  # only to count and name the unreadable files
            probs_NC[rows] = self.probabilities(images_BHWC)
        if unreadable and not skip_unreadable:
            named = "; ".join(list(unreadable.values())[:10]) + ("; ..." if len(unreadable) > 10 else "")
            raise InputError(
                f"{len(unreadable)} of {len(images)} images cannot be read: {named}; leave them out, or skip "
                "them with skip_unreadable"
            )

        decided_NC = probs_NC >= self.thresholds_C
        absent_N = np.isin(np.arange(len(images)), list(unreadable))
        columns: dict[str, pa.Array] = {"image": pa.array([str(image) for image in images])}
        for c, label in enumerate(self.labels):
            columns[f"probability.{label}"] = pa.array(probs_NC[:, c], mask=absent_N)
        for c, label in enumerate(self.labels):
            columns[f"decision.{label}"] = pa.array(decided_NC[:, c].astype(np.int8), mask=absent_N)
        if skip_unreadable:
            reasons = [unreadable.get(i) for i in range(len(images))]
            columns["unreadable"] = pa.array(reasons, pa.string())
        return pa.table(columns)

    def probabilities(self, images_BHWC: np.ndarray) -> np.ndarray:
        """float64 (B, C) of uint8 images in the encoder's geometry, (B, H, W, 1 or 3)."""
        trained_in = self.description["encoder"]["precision"]
        # bf16 without the instructions for it is slower than float32 and no closer to the training features.
        precision = trained_in if embedding_precision("auto", self.encoder) == trained_in else "fp32"
        features_BD = embed_images(self.encoder, images_BHWC, precision)
        return expit(self.head.logits(features_BD).astype(np.float64))

    def _batches(
        self, images: Sequence[Path | str], batch_size: int, unreadable: dict[int, str]
    ) -> Iterator[tuple[list[int], np.ndarray]]:
        """(rows, uint8 images_BHWC) of readable files; the others are entered into `unreadable`."""

        def read(i: int) -> np.ndarray | str:
            path = Path(images[i])
            try:
                return apply_geometry(decode(path.read_bytes(), str(path)), self.encoder.geometry)
            except InputError as error:
                return str(error)
            except OSError as error:
                return f"{path}: {error.strerror}"

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


def _load_encoder(folder: Path, description: Mapping[str, Any], device: str | None) -> Encoder:
    name = f"local-dir:{folder / ENCODER}" if description["in_bundle"] else description["name"]
    try:
        encoder = load_encoder(name, features=description["features"], device=device)
    except InputError as error:
        remedy = "" if description["in_bundle"] else "; or export it again with --with-encoder"
        raise InputError(f"{folder}: the bundle's encoder does not load here: {error}{remedy}") from error
    if encoder.fingerprint != description["fingerprint"]:
        raise InputError(
            f"{folder}: the head was trained on encoder {description['name']} with the fingerprint "
            f"{description['fingerprint'][:12]}, and {name} has {encoder.fingerprint[:12]} here: other "
            "weights or another transform; restore the original, or export again with --with-encoder"
        )
    return encoder


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    if not path.is_file():
        raise InputError(f"{folder}: no bundle there ({DESCRIPTION} is missing); `radtune export` writes one")
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        found = description["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: damaged ({error}); export the bundle again") from error
    if found != FORMAT:
        raise InputError(
            f"{path}: format must be {FORMAT}, got {found}; export it with this version of radtune"
        )
    missing = {"labels", "policy", "encoder"} - set(description)
    if missing:
        raise InputError(f"{path}: damaged ({', '.join(sorted(missing))} missing); export the bundle again")
    return description


def _normalisation(head: LinearHead) -> str:
    """The name that the search space gives to what the head does to features first."""
    if head.l2:
        return "l2"
    if not head.mean_D.any() and (head.scale_D == 1).all():
        return "none"
    return "center" if (head.scale_D == head.scale_D[0]).all() else "standardize"


def _version() -> str:
    try:
        return version("radtune")
    except PackageNotFoundError:
        return "uninstalled checkout"


def _check_output_folder(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"{folder}: the output must be a folder, and this is a file; choose another name")
    entries = {entry.name for entry in folder.iterdir()}
    own = {DESCRIPTION, HEAD, CARD, ENCODER} if DESCRIPTION in entries else set()
    foreign = sorted(entries - own)
    if foreign:
        raise InputError(
            f"{folder}: holds {foreign[0]!r} ({len(foreign)} in all), which no bundle put there; "
            "choose an empty or new folder"
        )
