"""Vocabularies of findings, their domains, and what becomes of uncertain, blank and "No Finding" cells.

Shape legend: N images, C labels.
"""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cohort.errors import InputError

if TYPE_CHECKING:
    import numpy as np  # only `apply_policy` computes; the command line reads the vocabularies without it

NO_FINDING = "No Finding"

# CheXpert's 14 observations (Irvin et al., AAAI 2019) in the order of arXiv 2506.14136, whose arg-max
# reduction of several positive labels to one depends on it.
CHEXPERT_14 = (
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
    NO_FINDING,
)

# ChestX-ray14 (Wang et al., CVPR 2017): fourteen findings, spelled as in its own tables.
NIH_14 = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
)

# The four domains of arXiv 2506.14136 with ChestX-ray14's names sorted into them. Its Hernia is a hiatal
# hernia, which belongs to none of the four. No Finding is in no domain.
DOMAINS: dict[str, tuple[str, ...]] = {
    "Cardiovascular": ("Enlarged Cardiomediastinum", "Cardiomegaly"),
    "Skeletal": ("Fracture",),
    "Device": ("Support Devices",),
    "Pulmonary": (
        "Lung Opacity",
        "Lung Lesion",
        "Edema",
        "Consolidation",
        "Pneumonia",
        "Atelectasis",
        "Pneumothorax",
        "Pleural Effusion",
        "Pleural Other",
        "Effusion",
        "Infiltration",
        "Mass",
        "Nodule",
        "Emphysema",
        "Fibrosis",
        "Pleural_Thickening",
    ),
    "Gastrointestinal": ("Hernia",),
}

# What a cohort's images are.
MODALITIES = (
    "chest radiograph",
    "radiograph",
    "ultrasound",
    "dermoscopy",
    "ct",
    "mri",
    "fundus",
    "histopathology",
    "endoscopy",
    "medical image",
)

LONGEST_WORDING = 200

UNCERTAIN_RULES = ("ignore", "zeros", "ones")
BLANK_RULES = ("negative", "missing")
ANSWER_RULES = ("any", "majority", "all")
"""What several answers about one image come to; see `cohort.raters.combine`."""
NO_FINDING_RULES = ("complement", "strict", "as-given")

_UNCERTAIN_TARGET = {"ignore": math.nan, "zeros": 0.0, "ones": 1.0}


def domain_columns(labels: Sequence[str]) -> dict[str, list[int]]:
    """Positions of the labels of each domain; domains without a label and labels without a domain stay out.

    Empty where the labels are another vocabulary that happens to share a name with this one, such as COVID-19
    and Pneumonia: where they fall into fewer than two domains, or most of them but No Finding into none.
    """
    columns = {
        domain: [c for c, label in enumerate(labels) if label in names] for domain, names in DOMAINS.items()
    }
    found = {domain: positions for domain, positions in columns.items() if positions}
    sorted_in = sum(map(len, found.values()))
    findings = sum(label != NO_FINDING for label in labels)
    return found if len(found) > 1 and 2 * sorted_in > findings else {}


def likely_modality(labels: Iterable[str]) -> str:
    """`chest radiograph` where every label is CheXpert's or ChestX-ray14's, otherwise `medical image`."""
    return "chest radiograph" if set(labels) <= {*CHEXPERT_14, *NIH_14} else "medical image"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of an error message: the nearest known name as a question, or all names where none is near."""
    known = [str(k) for k in known]
    folded = {k.lower(): k for k in known}
    near = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    if near:
        return f"did you mean {folded[near[0]]!r}?"
    shown = ", ".join(known[:30]) + (", ..." if len(known) > 30 else "")
    return f"there are: {shown}"


@dataclass(frozen=True)
class LabelPolicy:
    """How the cells of a label table become training targets."""

    uncertain: str | Mapping[str, str] = "ignore"
    """What -1 becomes: `ignore` masks the cell, `zeros` makes it 0, `ones` 1; or a dictionary of one rule a
    label (`ignore` for labels it does not name)."""

    blank: str = "missing"
    """What an empty cell means: `negative` (CheXpert and CheXbert leave out what a report does not mention)
    or `missing` (nobody looked: the cell is masked)."""

    no_finding: str = "as-given"
    """Where "No Finding" comes from; see `apply_policy`."""

    def __post_init__(self) -> None:
        rules = {"": self.uncertain} if isinstance(self.uncertain, str) else dict(self.uncertain)
        for label, rule in rules.items():
            if rule not in UNCERTAIN_RULES:
                where = f"uncertain rule of {label!r}" if label else "uncertain rule"
                raise InputError(f"{where} must be one of {', '.join(UNCERTAIN_RULES)}, got {rule!r}")
        if self.blank not in BLANK_RULES:
            raise InputError(f"blank rule must be one of {', '.join(BLANK_RULES)}, got {self.blank!r}")
        if self.no_finding not in NO_FINDING_RULES:
            raise InputError(
                f"no_finding rule must be one of {', '.join(NO_FINDING_RULES)}, got {self.no_finding!r}"
            )

    def uncertain_rule(self, label: str) -> str:
        return self.uncertain if isinstance(self.uncertain, str) else self.uncertain.get(label, "ignore")

    def described(self, labels: Sequence[str]) -> str:
        """`uncertain: Edema ones, others ignore; blank: missing; No Finding: strict`, the last where it is
        one of the labels."""
        uncertain = self.uncertain
        if not isinstance(uncertain, str):
            rules = [f"{label} {rule}" for label, rule in uncertain.items()]
            uncertain = ", ".join([*rules, "others ignore"])
        rules = f"uncertain: {uncertain}; blank: {self.blank}"
        return rules + (f"; {NO_FINDING}: {self.no_finding}" if NO_FINDING in labels else "")

    def to_dict(self) -> dict[str, Any]:
        uncertain = self.uncertain if isinstance(self.uncertain, str) else dict(self.uncertain)
        return {"uncertain": uncertain, "blank": self.blank, "no_finding": self.no_finding}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> LabelPolicy:
        return cls(**fields)


def apply_policy(
    raw_NC: np.ndarray, labels: Sequence[str], policy: LabelPolicy
) -> tuple[np.ndarray, list[int]]:
    """Turn the cells of a label table into targets.

    `raw_NC` holds 1, 0, -1 (uncertain) and NaN (blank). "No Finding", where it is among the labels, follows
    `policy.no_finding`, after the findings have been decided:

    - `complement` (the paper's rule): 1 where no finding is positive, 0 where one is. An uncertain finding
      that is ignored does not count as positive. Masked where no finding is positive but some are unlabelled.
    - `strict`: 1 only where every finding is stated negative and the source's own cell, where it has that
      column, is 1 as well; 0 where a finding is positive or the source's cell is 0 (another abnormality);
      masked otherwise. A column without any value counts as absent.
    - `as-given`: the source's own cell, under the same rules as every other label.

    Returns `targets_NC` (float32: 0, 1, or NaN where the cell is masked) and the rows in which the source
    states "No Finding" together with a positive finding.

    Raises InputError where a cell is something else or a rule names a label that is not there.
    """
    import numpy as np

    raw_NC = np.asarray(raw_NC, dtype=np.float64)
    if raw_NC.ndim != 2 or raw_NC.shape[1] != len(labels):
        raise ValueError(f"raw_NC must be (N, {len(labels)}), got {raw_NC.shape}")
    strange = ~(np.isnan(raw_NC) | np.isin(raw_NC, (-1.0, 0.0, 1.0)))
    if strange.any():
        n, c = np.argwhere(strange)[0]
        raise InputError(
            f"row {n}, label {labels[c]!r}: must be 1, 0, -1 (uncertain) or blank, got {raw_NC[n, c]:g}"
        )
    if not isinstance(policy.uncertain, str):
        for label in policy.uncertain:
            if label not in labels:
                raise InputError(f"uncertain rule for unknown label {label!r}; {did_you_mean(label, labels)}")

    targets_NC = raw_NC.astype(np.float32)
    if policy.blank == "negative":
        targets_NC[np.isnan(raw_NC)] = 0.0
    for c, label in enumerate(labels):
        targets_NC[raw_NC[:, c] == -1, c] = _UNCERTAIN_TARGET[policy.uncertain_rule(label)]

    if NO_FINDING not in labels:
        return targets_NC, []
    own = list(labels).index(NO_FINDING)
    findings = [c for c in range(len(labels)) if c != own]
    contradictions = np.flatnonzero((raw_NC[:, own] == 1) & (raw_NC[:, findings] == 1).any(axis=1)).tolist()

    found_N = (targets_NC[:, findings] == 1).any(axis=1)
    if policy.no_finding == "complement":
        blank_N = np.isnan(raw_NC[:, findings]).any(axis=1) & (policy.blank == "missing")
        targets_NC[:, own] = np.where(found_N, 0.0, np.where(blank_N, np.nan, 1.0))
    elif policy.no_finding == "strict":
        clear_N = (targets_NC[:, findings] == 0).all(axis=1) & (raw_NC[:, findings] != -1).all(axis=1)
        given_N = targets_NC[:, own] if not np.isnan(raw_NC[:, own]).all() else np.ones(len(raw_NC))
        targets_NC[:, own] = np.select(
            [found_N | (given_N == 0), clear_N & (given_N == 1)], [0.0, 1.0], default=np.nan
        )
    return targets_NC, contradictions


def check_wording(
    labels: Sequence[str], names: Mapping[str, str], prompts: Mapping[str, Sequence[str]]
) -> None:
    """InputError for a name or prompt of a label that is not there, and for one that is no short line of
    text."""
    for label, texts in [*((label, [name]) for label, name in names.items()), *prompts.items()]:
        if label not in labels:
            raise InputError(f"no label {label!r} to say in other words; {did_you_mean(label, labels)}")
        if not texts:
            raise InputError(f"label {label!r} has an empty list of prompts; give a sentence or leave it out")
        for text in texts:
            if not isinstance(text, str) or not text.strip() or not text.isprintable():
                raise InputError(f"label {label!r}: its name or prompt must be a line of text, got {text!r}")
            if len(text) > LONGEST_WORDING:
                raise InputError(
                    f"label {label!r}: {text[:40]!r}... has over {LONGEST_WORDING} characters; shorten it"
                )
    shown = Counter(names.get(label, label) for label in labels)
    if twice := [name for name, count in shown.items() if count > 1]:
        raise InputError(f"two labels would be called {twice[0]!r}; give them different names")
