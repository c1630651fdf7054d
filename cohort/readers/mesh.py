"""MeSH annotations of IU-Xray's reports: what they say of CheXpert's labels, of sides, zones and severity."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

_SIDES = ("left", "right", "bilateral")
_ZONES = {
    "upper": {"upper lobe", "apex"},
    "middle": {"middle lobe", "lingula"},
    "lower": {"lower lobe", "base", "costophrenic angle"},
    "hilum": {"hilum"},
}
_SEVERITIES = ("borderline", "mild", "moderate", "severe")
_ACUITIES = ("acute", "chronic", "healed")


@dataclass(frozen=True)
class MeshRule:
    """One row of `mesh_to_chexpert14.csv`: the first row that matches a code decides."""

    heading: str
    """The code's first part, without regard to case."""
    qualifiers: frozenset[str]
    """At least one of them stands behind the heading; empty: any code with this heading."""
    values: dict[str, int]
    """Label -> 1 or -1 (uncertain)."""
    beside_lung_calcification: dict[str, int]
    """Values that take precedence where the same report has a lung calcification: the nodule is calcified."""
    tier: str
    """`direct`, `arguable`, `none` (no label), `quality` (of the image) or `mask` (not annotated)."""

    def matches(self, code: Sequence[str]) -> bool:
        return code[0].lower() == self.heading.lower() and (
            not self.qualifiers or not self.qualifiers.isdisjoint(code[1:])
        )


@cache
def mesh_rules() -> tuple[MeshRule, ...]:
    """The rows of `mesh_to_chexpert14.csv`, in their order."""

    def values(cell: str) -> dict[str, int]:
        return {label: int(value) for label, value in (part.split("=") for part in cell.split("|") if part)}

    text = resources.files("cohort.readers").joinpath("mesh_to_chexpert14.csv").read_text("utf-8")
    return tuple(
        MeshRule(
            row["heading"],
            frozenset(filter(None, row["qualifiers"].split("|"))),
            values(row["labels"]),
            values(row["beside_lung_calcification"]),
            row["tier"],
        )
        for row in csv.DictReader(text.splitlines())
    )


@dataclass(frozen=True)
class MeshFindings:
    """What one report's MeSH annotation says."""

    annotated: bool
    """False for `No Indexing` and for an empty cell: nothing is known, every label is masked."""

    values: dict[str, int]
    """Label -> 1 or -1; labels not named are negative. "No Finding" only where the code is `normal`."""

    quality: str | None
    """`limited` where the annotator found the technical quality unsatisfactory, else `adequate`."""

    only_quality: bool
    """The quality is all the annotation speaks of, so that it does not rule any finding out."""

    sites: str | None
    """Where each positive finding lies, code by code: `Lung Opacity:left:lower;Fracture:right:`."""

    side: str | None
    """Over all positive findings: left, right or bilateral; None where no code says."""

    zone: str | None
    """Over all positive findings: upper, middle, lower, hilum, several joined by +; None where unsaid."""

    severity: str | None
    """The gravest over all positive and uncertain findings: borderline, mild, moderate or severe."""

    acuity: str | None
    """Over all positive and uncertain findings: acute, chronic, healed, several joined by +."""

    unknown: tuple[str, ...]
    """Headings that the table does not have."""


@cache
def read_mesh(annotation: str | None) -> MeshFindings:
    """Read one cell of the MeSH column, such as `Opacity/lung/base/left;Cardiomegaly/mild`."""
    codes = [[" ".join(part.split()) for part in code.split("/")] for code in (annotation or "").split(";")]
    codes = [code for code in codes if code[0]]
    lung_calcified = any(
        code[0] == "Calcified Granuloma" or (code[0] == "Calcinosis" and "lung" in code) for code in codes
    )
    values: dict[str, int] = {}
    sites: list[str] = []
    positive: list[list[str]] = []
    found: list[list[str]] = []
    tiers, unknown = set(), []
    for code in codes:
        rule = next((rule for rule in mesh_rules() if rule.matches(code)), None)
        if rule is None:
            unknown.append(code[0])
            continue
        tiers.add(rule.tier)
        said = rule.values | (rule.beside_lung_calcification if lung_calcified else {})
        for label, value in said.items():
            values[label] = max(value, values.get(label, value))
            found.append(code)
            if value == 1:
                positive.append(code)
                sites.append(f"{label}:{_side([code]) or ''}:{_zone([code]) or ''}")
    annotated = bool(codes) and "mask" not in tiers
    qualifiers = {qualifier for code in found for qualifier in code[1:]}
    return MeshFindings(
        annotated=annotated,
        values=values,
        quality=("limited" if "quality" in tiers else "adequate") if annotated else None,
        only_quality=tiers == {"quality"} and not unknown,
        sites=";".join(site for site in sites if not site.endswith("::")) or None,
        side=_side(positive),
        zone=_zone(positive),
        severity=next((word for word in reversed(_SEVERITIES) if word in qualifiers), None),
        acuity="+".join(word for word in _ACUITIES if word in qualifiers) or None,
        unknown=tuple(unknown),
    )


def _side(codes: Iterable[Sequence[str]]) -> str | None:
    sides = {qualifier for code in codes for qualifier in code[1:] if qualifier in _SIDES}
    return None if not sides else sides.pop() if len(sides) == 1 else "bilateral"


def _zone(codes: Iterable[Sequence[str]]) -> str | None:
    qualifiers = {qualifier for code in codes for qualifier in code[1:]}
    return "+".join(zone for zone, words in _ZONES.items() if qualifiers & words) or None
