"""The words of a phantom's report: what is there, what is not, and what each sentence claims.

Labels are those of `cohort.labels.CHEXPERT_14`. A fact is a label ("Pleural Effusion"), or a label with one
of its attributes, its side, zone, size or form ("Pleural Effusion: right").
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from cohort.labels import NO_FINDING
from sample.anatomy import BOTH, LEFT, RIGHT, Finding


@dataclass(frozen=True)
class Statement:
    """One sentence of a report."""

    text: str

    asserts: frozenset[str] = frozenset()
    """Facts that it states; "No Finding" where it calls the film normal."""

    denies: frozenset[str] = frozenset()
    """Labels that it calls absent."""

    def true_of(self, facts: frozenset[str]) -> bool:
        """Whether the sentence holds for a film of which exactly these facts do."""
        return self.asserts <= facts and self.denies.isdisjoint(facts)


# {size}: how large or strong, {very} its adverb; {side}, {zone}: where. Any of them may be empty.
_PRESENT: dict[str, dict[str, tuple[str, ...]]] = {
    "Enlarged Cardiomediastinum": {
        "": (
            "The cardiomediastinal silhouette is {very} enlarged",
            "Widened mediastinal contour",
            "Enlarged cardiomediastinum",
            "The aorta is tortuous and the mediastinum is {very} widened",
        )
    },
    "Cardiomegaly": {
        "": (
            "The heart is {very} enlarged",
            "{size} cardiomegaly",
            "Heart size is {very} increased",
            "There is {size} enlargement of the cardiac silhouette",
        )
    },
    "Lung Opacity": {
        "": (
            "There is a {size} hazy opacity in the {side} {zone} lung",
            "{side} {zone} lung opacity",
            "{size} airspace opacity in the {side} {zone} zone",
            "Ill-defined {side} {zone} zone opacity",
        )
    },
    "Lung Lesion": {
        "": (
            "There is a {size} nodule in the {side} {zone} lung",
            "{size} round lesion in the {side} {zone} lung",
            "{side} {zone} lung mass or nodule",
            "Lung lesion in the {side} {zone} zone",
        )
    },
    "Edema": {
        "": (
            "{size} pulmonary edema",
            "There is {size} perihilar haze with septal lines, consistent with edema",
            "Pulmonary vascular congestion and {size} interstitial edema",
            "Findings of {size} edema in both lungs",
        )
    },
    "Consolidation": {
        "": (
            "{size} consolidation of the {side} {zone} lobe",
            "Dense {side} {zone} lung consolidation",
            "There is {size} consolidation in the {side} {zone} zone",
        )
    },
    "Pneumonia": {
        "": (
            "{size} {side} {zone} zone pneumonia",
            "Patchy opacities in the {side} lung are consistent with pneumonia",
            "{size} {side} bronchopneumonia",
            "Findings suspicious for pneumonia in the {side} {zone} lung",
        )
    },
    "Atelectasis": {
        "plate": (
            "{size} linear atelectasis at the {side} base",
            "Bands of {side} basilar atelectasis",
            "There is {size} subsegmental atelectasis in the {side} lower lung",
        ),
        "lobar": (
            "{size} {side} lower lobe atelectasis with volume loss",
            "Atelectasis of the {side} lower lobe with a raised diaphragm",
        ),
    },
    "Pneumothorax": {
        "": (
            "{size} {side} pneumothorax",
            "There is a {size} {side} apical pneumothorax",
            "{side} pneumothorax with a visible pleural line",
        )
    },
    "Pleural Effusion": {
        "": (
            "{size} {side} pleural effusion",
            "There is a {size} amount of {side} pleural fluid",
            "Blunting of the {side} costophrenic angle by a {size} effusion",
        ),
        "layering": (
            "{size} layering {side} pleural effusion",
            "Veil-like density over the {side} lung from a {size} pleural effusion",
        ),
    },
    "Pleural Other": {
        "thickening": ("{size} {side} pleural thickening", "There is {side} lateral pleural thickening"),
        "apical cap": ("{side} apical pleural thickening", "{size} pleural cap at the {side} apex"),
        "plaque": ("{side} calcified pleural plaque", "Pleural plaque on the {side}"),
    },
    "Fracture": {
        "rib": (
            "{side} rib fracture",
            "There are displaced {side} rib fractures",
            "Fracture of a {side} {zone} rib",
        ),
        "clavicle": ("{side} clavicle fracture", "There is a displaced fracture of the {side} clavicle"),
    },
    "Support Devices": {
        "central line": (
            "{side} central venous line ends in the superior vena cava",
            "Support devices: {side} central venous catheter",
        ),
        "pacemaker": (
            "{side} chest pacemaker with a lead in the right ventricle",
            "Support devices: {side} pacemaker",
        ),
        "tubes": (
            "Endotracheal tube ends above the carina",
            "Support devices: endotracheal and feeding tubes",
        ),
        "sternal wires": ("Median sternotomy wires are intact", "Support devices: sternotomy wires"),
        "chest drain": ("{side} chest tube in place", "Support devices: {side} chest drain"),
    },
}

# What a negative sentence denies; it is used where nothing of it is present.
_ABSENT: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("Cardiomegaly",), ("Heart size is normal", "The heart is not enlarged", "No cardiomegaly")),
    (
        ("Cardiomegaly", "Enlarged Cardiomediastinum"),
        ("The cardiomediastinal silhouette is normal", "Normal heart size and mediastinal contour"),
    ),
    (
        ("Lung Opacity", "Lung Lesion", "Edema", "Consolidation", "Pneumonia", "Atelectasis"),
        ("The lungs are clear", "Lungs are clear bilaterally", "Both lungs are clear"),
    ),
    (("Consolidation", "Pneumonia"), ("No focal consolidation", "No consolidation to suggest pneumonia")),
    (
        ("Pneumothorax", "Pleural Effusion"),
        ("No pneumothorax or pleural effusion", "There is no effusion or pneumothorax"),
    ),
    (("Pneumothorax",), ("No pneumothorax is seen", "There is no pneumothorax")),
    (("Pleural Effusion",), ("No pleural effusion", "The costophrenic angles are sharp")),
    (("Edema",), ("No pulmonary edema", "Pulmonary vascularity is normal")),
    (("Lung Lesion",), ("No suspicious pulmonary nodule", "No lung mass")),
    (("Fracture",), ("No acute bony abnormality", "No displaced rib fracture", "The bones are intact")),
    (("Support Devices",), ("No support devices", "No lines or tubes")),
)

_NORMAL = (
    "No acute cardiopulmonary abnormality",
    "Normal chest radiograph",
    "No finding",
    "No acute disease",
    "Normal chest",
    "No active disease of the chest",
)

_SIZES = {
    "Lung Lesion": ("small", "", "large"),
    "Pneumothorax": ("tiny", "moderate", "large"),
    "Pleural Effusion": ("small", "moderate", "large"),
    "Cardiomegaly": ("mild", "moderate", "marked"),
    "Edema": ("mild", "moderate", "severe"),
}


def facts_of(findings: Mapping[str, Finding], labels: Collection[str]) -> frozenset[str]:
    """Every fact of a film with these findings and labels, implied labels and "No Finding" included."""
    facts = set(labels)
    for label, finding in findings.items():
        sides = (LEFT, RIGHT, BOTH) if finding.side == BOTH else (finding.side,)
        attributes = (*sides, finding.zone, finding.kind, size_of(label, finding))
        facts |= {f"{label}: {attribute}" for attribute in attributes if attribute}
    return frozenset(facts)


def size_of(label: str, finding: Finding) -> str:
    """The word for its severity; empty for a middling one of most findings."""
    grade = 0 if finding.severity < 0.34 else 1 if finding.severity < 0.67 else 2
    return _SIZES.get(label, ("mild", "", "marked"))[grade]


def positive_statement(label: str, finding: Finding, rng: np.random.Generator) -> Statement:
    """A sentence that says that a finding is there, and some of where, in which form and how strong."""
    templates = _PRESENT[label].get(finding.kind) or _PRESENT[label][""]
    template = templates[rng.integers(len(templates))]
    size = size_of(label, finding)
    said = {"side": finding.side, "zone": finding.zone, "size": size, "very": size}
    stated = [value for name, value in said.items() if f"{{{name}}}" in template]
    if finding.kind in _PRESENT[label]:
        stated.append(finding.kind)
    if finding.side == BOTH:
        template = template.replace("the {side} costophrenic angle", "both costophrenic angles")
        template = template.replace("the {side} lung", "both lungs")
    text = template.format(**said | {"very": size and size + "ly"})
    text = " ".join(text.split()).replace("a effusion", "an effusion")
    return Statement(_sentence(text), frozenset({label, *(f"{label}: {value}" for value in stated if value)}))


def negative_statements(labels: Collection[str]) -> list[Statement]:
    """Every sentence that says truly of a film with these labels that something is absent."""
    return [
        Statement(_sentence(text), denies=frozenset(denied))
        for denied, texts in _ABSENT
        if not set(denied) & set(labels)
        for text in texts
    ]


def normal_statement(rng: np.random.Generator) -> Statement:
    """A sentence that calls a film normal."""
    return Statement(_sentence(_NORMAL[rng.integers(len(_NORMAL))]), frozenset({NO_FINDING}))


def write_report(
    findings: Mapping[str, Finding], labels: Collection[str], rng: np.random.Generator
) -> list[Statement]:
    """A short report, a sentence an entry: findings in random order, two or three true negations, and for a
    film without a finding that it is normal.

    `labels` are all labels of the film, implied ones included. A finding in a report is stated once; that
    an implied label has no sentence of its own is as in real reports.
    """
    positive = [positive_statement(label, finding, rng) for label, finding in findings.items()]
    rng.shuffle(positive)
    options = negative_statements(labels)
    count = min(len(options), int(rng.integers(2, 4)))
    negative: list[Statement] = []
    for k in rng.permutation(len(options)):
        said = frozenset().union(*(statement.denies for statement in negative))
        if len(negative) < count and not options[k].denies & said:
            negative.append(options[k])
    return positive + negative + ([] if findings else [normal_statement(rng)])


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."
