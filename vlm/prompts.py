"""Label names -> prompts for the text tower, in three styles, and their features.

name      the bare label, by its display name where the cohort gives one: what arXiv 2506.14136 gives to
          BiomedCLIP.
ensemble  several sentences a label; the class is the mean of their normalised features, normalised again
          (Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021,
          section 3.1.4).
pair      the same, once for the finding and once for its absence, to be compared by a softmax (Tiu et al.,
          "Expert-level detection of pathologies from unannotated chest X-ray images via self-supervised
          learning", Nature Biomedical Engineering 2022).

Sentences call the image what the cohort's modality is called, and the finding by its display name; those of
chest radiographs also say findings as a radiologist would. A label's own sentences, where the cohort gives
some, stand in place of those for the finding; its absence is said in those of the modality all the same.

Shape legend: P prompts, C labels, D features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from cohort.errors import InputError
from cohort.labels import NO_FINDING
from cohort.manifest import Cohort
from vlm.linear_head import unit_rows

if TYPE_CHECKING:
    from vlm.encoders import Encoder  # brings torch along, which a page of text does without

STYLES = ("name", "ensemble", "pair")

CHEST = "chest radiograph"

# What an image of each modality is called, by one name or by two.
_IMAGES = {
    CHEST: ("a chest X-ray", "a frontal chest radiograph"),
    "radiograph": ("a radiograph",),
    "ultrasound": ("an ultrasound image",),
    "dermoscopy": ("a dermoscopic image",),
    "ct": ("a CT image",),
    "mri": ("an MR image",),
    "fundus": ("a fundus photograph",),
    "histopathology": ("a histopathology image",),
    "endoscopy": ("an endoscopic image",),
    "medical image": ("a medical image",),
}

_PRESENT = (
    "{finding}",
    "{image} showing {finding}",
    "{other_image} with {finding}",
    "findings consistent with {finding}",
    "there is {finding}",
)
_ABSENT = (
    "no {bare_finding}",
    "{image} without {finding}",
    "{other_image} with no {bare_finding}",
    "no evidence of {finding}",
    "there is no {bare_finding}",
)

# The opposite of a finding's absence is the finding; that of no finding is any finding.
_NORMAL = ("a normal {bare_image}", "{image} without any abnormality", "no abnormal finding")
_ABNORMAL = ("an abnormal {bare_image}", "{image} showing an abnormality", "an abnormal finding")
_NORMAL_CHEST = (
    "a normal chest X-ray",
    "a normal frontal chest radiograph",
    "no acute cardiopulmonary abnormality",
    "the lungs are clear and the heart size is normal",
    "no abnormal finding",
)
_ABNORMAL_CHEST = (
    "an abnormal chest X-ray",
    "an abnormal frontal chest radiograph",
    "an acute cardiopulmonary abnormality",
    "a chest X-ray showing an abnormality",
    "an abnormal finding",
)

# How a radiologist would say what a vocabulary of chest radiographs abbreviates; other labels are said as
# they are written.
_PHRASES = {
    "Enlarged Cardiomediastinum": "an enlarged cardiomediastinal silhouette",
    "Lung Lesion": "a lung nodule or mass",
    "Edema": "pulmonary edema",
    "Pleural Other": "pleural thickening or another pleural abnormality",
    "Support Devices": "support devices such as lines, tubes or a pacemaker",
    "Effusion": "pleural effusion",
    "Infiltration": "a pulmonary infiltrate",
    "Mass": "a lung mass",
    "Nodule": "a lung nodule",
    "Fibrosis": "pulmonary fibrosis",
    "Hernia": "a hiatal hernia",
    "Fracture": "a bone fracture",
}


@dataclass(frozen=True)
class LabelPrompts:
    """What stands for one label in front of the text tower."""

    positive: tuple[str, ...]
    """The finding is there; at least one prompt."""

    negative: tuple[str, ...] = ()
    """It is not; only in the style `pair`."""


@dataclass(frozen=True, kw_only=True)
class Wording:
    """How a cohort's images and labels are said; as `Cohort` has it. InputError for an unknown modality."""

    modality: str
    label_names: Mapping[str, str] = field(default_factory=dict)
    label_prompts: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.modality not in _IMAGES:
            raise InputError(f"modality must be one of {', '.join(_IMAGES)}, got {self.modality!r}")

    @classmethod
    def of(cls, cohort: Cohort) -> Wording:
        return cls(
            modality=cohort.modality, label_names=cohort.label_names, label_prompts=cohort.label_prompts
        )


def label_prompts(labels: Sequence[str], style: str, wording: Wording) -> list[LabelPrompts]:
    """The prompts of each label; InputError for an unknown style."""
    if style not in STYLES:
        raise InputError(f"prompt style must be one of {', '.join(STYLES)}, got {style!r}")
    return [_prompts(label, style, wording) for label in labels]


def _prompts(label: str, style: str, wording: Wording) -> LabelPrompts:
    name = wording.label_names.get(label)
    if style == "name":
        return LabelPrompts((name or label,))
    modality = wording.modality
    chest = modality == CHEST
    if label == NO_FINDING:
        present, absent = (_NORMAL_CHEST, _ABNORMAL_CHEST) if chest else (_NORMAL, _ABNORMAL)
    else:
        present, absent = _PRESENT, _ABSENT
    spoken = name or label.replace("_", " ").lower()
    finding = _PHRASES.get(label, spoken) if chest and not name else spoken
    image, other_image = _IMAGES[modality][0], _IMAGES[modality][-1]
    words = {
        "finding": finding,
        "bare_finding": _without_article(finding),
        "image": image,
        "bare_image": _without_article(image),
        "other_image": other_image,
    }
    positive, negative = (tuple(text.format_map(words) for text in texts) for texts in (present, absent))
    positive = tuple(wording.label_prompts.get(label, positive))
    return LabelPrompts(positive, negative if style == "pair" else ())


def _without_article(phrase: str) -> str:
    return phrase.removeprefix("a ").removeprefix("an ")


def text_prototypes(
    encoder: Encoder, labels: Sequence[str], style: str, wording: Wording
) -> tuple[np.ndarray, np.ndarray | None]:
    """Text features that stand for each label: (present_CD, absent_CD), float32.

    `absent_CD` is None but for the style `pair`. Rows have unit length, except in the style `name`, where
    they are as the tower gives them: the published scores are raw products. InputError where the encoder
    has no text tower, or for an unknown style.
    """
    prompts = label_prompts(labels, style, wording)
    if style == "name":
        return encoder.text_features([prompt.positive[0] for prompt in prompts]).cpu().numpy(), None
    present_CD = _mean_directions(encoder, [prompt.positive for prompt in prompts])
    absent_CD = (
        _mean_directions(encoder, [prompt.negative for prompt in prompts]) if style == "pair" else None
    )
    return present_CD, absent_CD


def _mean_directions(encoder: Encoder, groups: Sequence[Sequence[str]]) -> np.ndarray:
    features_PD = encoder.text_features([prompt for group in groups for prompt in group]).cpu().numpy()
    features_PD = unit_rows(features_PD)
    ends = np.cumsum([len(group) for group in groups])[:-1]
    mean_CD = np.stack([part_PD.mean(axis=0) for part_PD in np.split(features_PD, ends)])
    return unit_rows(mean_CD)
