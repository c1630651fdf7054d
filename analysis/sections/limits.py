"""What the numbers do not show."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.claims import Claim
from analysis.evidence import Evidence
from analysis.section import Section, Words
from cohort.manifest import Cohort

TITLE = "Limits of this evidence"


def run(evidence: Evidence) -> Section:
    return Section(parts=[Words(lines=limits_of(evidence.cohort, evidence.claims))])


def limits_of(cohort: Cohort, claims: Sequence[Claim]) -> list[str]:
    """What the numbers do not show, in sentences."""
    silent = [claim.name for claim in claims if claim.silent]
    limits = [
        "One cohort and one test split. The intervals say how far other patients of the same source would "
        "move these numbers for this very model; they do not cover another hospital, another labeller, or "
        "training again.",
        "The intervals keep the test split's own prevalence. Precision, F1 and average precision are lower "
        "where a finding is rarer.",
        "Average precision is too high on average for a label with few positives; this affects all rows of a "
        "table alike, so compare rows rather than cohorts.",
        f"Labels follow the stated policy and are taken as true; source: {cohort.source}.",
    ]
    if silent:
        limits.insert(
            1, f"No claim is made about {len(silent)} of {len(cohort.labels)} labels: {', '.join(silent)}."
        )
    if cohort.drawn:
        limits.insert(
            0,
            "The images are drawn phantoms. They exercise the platform; nothing here says anything about "
            "medicine.",
        )
    return limits
