"""What a cohort's manifest says beside its rows, and what is checked of it.

Shape legend: C labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cohort.errors import InputError
from cohort.intensity import Intensity
from cohort.labels import MODALITIES, LabelPolicy, check_wording
from cohort.raters import Raters

LONGEST_LICENCE = 200


@dataclass(frozen=True, kw_only=True)
class CohortFacts:
    """What a manifest says beside its rows; InputError for a modality, a licence or a wording of labels that
    is not taken."""

    labels: Sequence[str]

    source: str
    """What it was built from, in words."""

    policy: LabelPolicy

    reader: str = ""
    """Module of `cohort.readers` that read it; "" where none did."""

    drawn: bool = False
    """Whether the images were drawn in code, so that nothing learnt from them is about patients."""

    modality: str = "medical image"
    """What the images are: one of `MODALITIES`."""

    licence: str = ""
    """Terms under which the images may be used, in a line; "" where nobody stated them."""

    citation: str = ""
    """What users of the images are asked to cite, in a line; "" where nothing is known."""

    multiclass: bool = False
    """Whether the labels are the classes of one question, such as a diagnosis: every row has exactly one of
    them, or is masked whole."""

    ordinal: bool = False
    """Whether these classes are grades, which `labels` holds from the lowest to the highest."""

    label_names: Mapping[str, str] = field(default_factory=dict)
    """Label -> how it is said to people and to a text tower; labels that are said as they are written stay
    out."""

    label_prompts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Label -> sentences for a text tower instead of those of the modality; only where some were given."""

    channels: int = 1
    """1 where every image is gray, otherwise 3."""

    intensity: Intensity | None = None
    """Which values of 16-bit gray are black and white; None where no image has 16 bits."""

    flow: Sequence[tuple[str, int]] = ()
    """From rows read to images kept: what, and how many were left after it."""

    warnings: Sequence[str] = ()

    contradictions: Sequence[str] = ()
    """Ids of the images whose source states "No Finding" together with a finding."""

    uncertain: Mapping[str, int] = field(default_factory=dict)
    """Label -> how many cells of the source were uncertain."""

    duplicates: Sequence[tuple[str, str, float | None]] = ()
    """Pairs of ids of images that are the same (None) or nearly so (their correlation), the former first; see
    `cohort.duplicates`."""

    raters: Raters | None = None
    """How labels came out of several raters, and how far these agree; None where there were none."""

    def __post_init__(self) -> None:
        if not isinstance(self.drawn, bool):
            raise InputError(f"drawn must be true or false, got {self.drawn!r}")
        if self.modality not in MODALITIES:
            raise InputError(f"modality must be one of {', '.join(MODALITIES)}, got {self.modality!r}")
        for name, line in (("licence", self.licence), ("citation", self.citation)):
            if not isinstance(line, str) or not line.isprintable() or len(line) > LONGEST_LICENCE:
                raise InputError(
                    f"{name} must be one line of at most {LONGEST_LICENCE} characters, got "
                    f"{str(line)[:40]!r}; give its name or an address"
                )
        if self.ordinal and not self.multiclass:
            raise InputError("ordinal labels are multiclass: an image has exactly one grade")
        check_wording(self.labels, self.label_names, self.label_prompts)

    def to_dict(self) -> dict[str, Any]:
        """The facts as JSON writes them."""
        return {
            "labels": list(self.labels),
            "source": self.source,
            "reader": self.reader,
            "drawn": self.drawn,
            "modality": self.modality,
            "licence": self.licence,
            "citation": self.citation,
            "multiclass": self.multiclass,
            "ordinal": self.ordinal,
            "label_names": dict(self.label_names),
            "label_prompts": {label: list(texts) for label, texts in self.label_prompts.items()},
            "policy": self.policy.to_dict(),
            "channels": self.channels,
            "intensity": self.intensity and self.intensity.to_dict(),
            "flow": [[what, int(count)] for what, count in self.flow],
            "warnings": list(self.warnings),
            "contradictions": list(self.contradictions),
            "uncertain": {label: int(count) for label, count in self.uncertain.items()},
            "duplicates": [list(pair) for pair in self.duplicates],
            "raters": self.raters and self.raters.to_dict(),
        }

    @classmethod
    def from_dict(cls, written: Mapping[str, Any]) -> CohortFacts:
        """The facts of metadata that anybody may have written; InputError, KeyError, TypeError, ValueError or
        AttributeError for what `to_dict` would not give."""
        _check_kinds(written)
        if written["channels"] not in (1, 3):
            raise InputError(f"channels must be 1 or 3, got {written['channels']!r}")
        return cls(
            labels=tuple(written["labels"]),
            source=written["source"],
            reader=written["reader"],
            drawn=written["drawn"],
            modality=written["modality"],
            licence=written["licence"],
            citation=written["citation"],
            multiclass=written["multiclass"],
            ordinal=written["ordinal"],
            label_names=written["label_names"],
            label_prompts={label: tuple(texts) for label, texts in written["label_prompts"].items()},
            policy=LabelPolicy.from_dict(written["policy"]),
            channels=written["channels"],
            intensity=written["intensity"] and Intensity(**written["intensity"]),
            flow=tuple((what, count) for what, count in written["flow"]),
            warnings=tuple(written["warnings"]),
            contradictions=tuple(written["contradictions"]),
            uncertain=written["uncertain"],
            duplicates=tuple((first, second, alike) for first, second, alike in written["duplicates"]),
            raters=written["raters"] and Raters.from_dict(written["raters"]),
        )


def _check_kinds(written: Mapping[str, Any]) -> None:
    """InputError where what is shown to people is of another kind than is written."""

    def texts(words: Any) -> bool:
        return isinstance(words, list) and all(isinstance(word, str) for word in words)

    flow, uncertain = written["flow"], written["uncertain"]
    right = {
        "source": isinstance(written["source"], str),
        "reader": isinstance(written["reader"], str),
        "warnings": texts(written["warnings"]),
        "ordinal": isinstance(written["ordinal"], bool),
        "contradictions": texts(written["contradictions"]),
        "flow": all(isinstance(what, str) and isinstance(count, int) for what, count in flow),
        "uncertain": all(isinstance(count, int) for count in uncertain.values()),
    }
    if wrong := [name for name, is_right in right.items() if not is_right]:
        raise InputError(f"{wrong[0]} must be what this version writes, got another kind")
