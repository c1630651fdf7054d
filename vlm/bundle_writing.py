"""How a predictor becomes a bundle; what a bundle holds, `vlm.bundle` says."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from cohort.files import refuse_foreign, replacing_folder
from cohort.manifest import Cohort
from cohort.version import VERSION
from scoring.metrics import prevalences
from vlm.bundle_description import CARD, DESCRIPTION, ENCODER, HEAD, write_description
from vlm.encoder_names import shown, split_path
from vlm.linear_head import LinearHead
from vlm.predictor import Predictor
from vlm.tensor_files import write_tensors


def save_bundle(
    folder: Path | str, predictor: Predictor, cohort: Cohort, *, card: str, with_encoder: bool = False
) -> Path:
    """Write a bundle; an earlier bundle in `folder` is replaced, at once or not at all.

    Args:
        predictor: what is exported.
        cohort: what it was trained on: label policy, content hash, training prevalences.
        card: the model card, Markdown.
        with_encoder: put the encoder's weights in, so that the bundle needs no hub. A fine-tuned encoder
            needs this; one that lies in a folder or file of this machine is always put in.

    Raises:
        InputError: the folder holds something that no bundle put there, or the cohort has no training split.
    """
    encoder, rule = predictor.encoder, predictor.rule
    own_weights = (with_encoder or bool(split_path(encoder.name)[1])) and encoder.backbone is not None
    prior_C = prevalences(cohort.targets_NC(cohort.indices("train")))
    facts = {
        "radtune": VERSION,
        "labels": list(predictor.labels),
        "policy": cohort.policy.to_dict(),
        "encoder": {
            "name": shown(encoder.name),
            "features": list(encoder.features),
            "image_views": encoder.image_views.to_dict(),
            "width": encoder.width,
            "fingerprint": encoder.fingerprint,
            "precision": predictor.precision,
            "in_bundle": own_weights,
        },
        "transform": {
            "intensity": cohort.intensity and cohort.intensity.to_dict(),
            "geometry": encoder.geometry.to_dict(),
            "mean": encoder.mean,
            "std": encoder.std,
        },
        "normalisation": [_normalisation(head) for head in predictor.heads],
        "decisions": {
            "strategy": rule.strategy,
            "shared": [
                label for label, shared in zip(predictor.labels, rule.shared_C, strict=True) if shared
            ],
            "scale": asdict(rule.scale),
            "multiclass": rule.multiclass,
            "ranks_only": predictor.ranks_only,
        },
        "training": {
            "cohort_hash": cohort.content_hash,
            "modality": cohort.modality,
            "drawn": cohort.drawn,
            "prevalences": dict(zip(predictor.labels, prior_C.tolist(), strict=True)),
        },
        "name": predictor.name,
        "origin": asdict(predictor.origin),
    }
    arrays = {
        f"{k}/{name}": array
        for k, head in enumerate(predictor.heads)
        for name, array in head.tensors().items()
    }
    folder = Path(folder)
    with replacing_folder(folder, _check_output_folder) as staging:
        write_tensors(staging / HEAD, arrays | {"thresholds_C": rule.thresholds_C})
        (staging / CARD).write_text(card, encoding="utf-8")
        if own_weights:
            encoder.save(staging / ENCODER)
        write_description(staging, facts)
    return folder


def _normalisation(head: LinearHead) -> str:
    """The name that the search space gives to what the head does to features first."""
    if head.l2:
        return "l2"
    if not head.mean_D.any() and (head.scale_D == 1).all():
        return "none"
    return "center" if (head.scale_D == head.scale_D[0]).all() else "standardize"


def _check_output_folder(folder: Path) -> None:
    own = {DESCRIPTION, HEAD, CARD, ENCODER} if (folder / DESCRIPTION).exists() else set()
    refuse_foreign(folder, own, "bundle")
