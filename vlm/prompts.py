"""Label names -> prompts for the text tower, in three styles, and their features.

name      the bare label as it stands in the cohort: what arXiv 2506.14136 gives to BiomedCLIP.
ensemble  several sentences a label; the class is the mean of their normalised features, normalised again
          (Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021,
          section 3.1.4).
pair      the same, once for the finding and once for its absence, to be compared by a softmax (Tiu et al.,
          "Expert-level detection of pathologies from unannotated chest X-ray images via self-supervised
          learning", Nature Biomedical Engineering 2022).

Shape legend: P prompts, C labels, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cohort.errors import InputError
from cohort.labels import NO_FINDING
from vlm.encoders import Encoder

STYLES = ("name", "ensemble", "pair")

_PRESENT = (
    "{}",
    "a chest X-ray showing {}",
    "a frontal chest radiograph with {}",
    "findings consistent with {}",
    "there is {}",
)
_ABSENT = (
    "no {}",
    "a chest X-ray without {}",
    "a frontal chest radiograph with no {}",
    "no evidence of {}",
    "there is no {}",
)

# The opposite of a finding's absence is the finding; that of no finding is any finding.
_NORMAL = (
    "a normal chest X-ray",
    "a normal frontal chest radiograph",
    "no acute cardiopulmonary abnormality",
    "the lungs are clear and the heart size is normal",
    "no abnormal finding",
)
_ABNORMAL = (
    "an abnormal chest X-ray",
    "an abnormal frontal chest radiograph",
    "an acute cardiopulmonary abnormality",
    "a chest X-ray showing an abnormality",
    "an abnormal finding",
)

# How a radiologist would say what a vocabulary abbreviates; other labels are said as they are written.
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


def label_prompts(labels: Sequence[str], style: str = "name") -> list[LabelPrompts]:
    """The prompts of each label; InputError for an unknown style."""
    if style not in STYLES:
        raise InputError(f"prompt style must be one of {', '.join(STYLES)}, got {style!r}")
    return [_prompts(label, style) for label in labels]


def _prompts(label: str, style: str) -> LabelPrompts:
    if style == "name":
        return LabelPrompts((label,))
    if label == NO_FINDING:
        positive, negative = _NORMAL, _ABNORMAL
    else:
        phrase = _PHRASES.get(label, label.replace("_", " ").lower())
        bare = phrase.removeprefix("a ").removeprefix("an ")
        positive = tuple(template.format(phrase) for template in _PRESENT)
        negative = tuple(template.format(bare if "no {}" in template else phrase) for template in _ABSENT)
    return LabelPrompts(positive, negative if style == "pair" else ())


def text_prototypes(
    encoder: Encoder, labels: Sequence[str], style: str = "name"
) -> tuple[np.ndarray, np.ndarray | None]:
    """Text features that stand for each label: (present_CD, absent_CD), float32.

    `absent_CD` is None but for the style `pair`. Rows have unit length, except in the style `name`, where
    they are as the tower gives them: the published scores are raw products. InputError where the encoder
    has no text tower, or for an unknown style.
    """
    prompts = label_prompts(labels, style)
    if style == "name":
        return encoder.text_features([prompt.positive[0] for prompt in prompts]).cpu().numpy(), None
    present_CD = _mean_directions(encoder, [prompt.positive for prompt in prompts])
    absent_CD = (
        _mean_directions(encoder, [prompt.negative for prompt in prompts]) if style == "pair" else None
    )
    return present_CD, absent_CD


def _mean_directions(encoder: Encoder, groups: Sequence[Sequence[str]]) -> np.ndarray:
    features_PD = encoder.text_features([prompt for group in groups for prompt in group]).cpu().numpy()
    features_PD = features_PD / np.linalg.norm(features_PD, axis=1, keepdims=True)
    ends = np.cumsum([len(group) for group in groups])[:-1]
    mean_CD = np.stack([part_PD.mean(axis=0) for part_PD in np.split(features_PD, ends)])
    return mean_CD / np.linalg.norm(mean_CD, axis=1, keepdims=True)
